"""Proof one, a second witness: DPDK's ixgbe driver, from Debian's package, on vfio-pci, behind the guest's IOMMU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest import Guest
from host_end import warnings
from lab import Lab
from served import ServedNic

pytestmark = pytest.mark.qemu

DEVICE = "0000:01:00.0"
PREPARE = f"""
modprobe vfio-pci
echo vfio-pci > /sys/bus/pci/devices/{DEVICE}/driver_override
echo {DEVICE} > /sys/bus/pci/drivers_probe
echo 200 > /proc/sys/vm/nr_hugepages
mount -t hugetlbfs hugetlbfs /dev/hugepages
"""
TESTPMD = f"""
cd /tmp; rm -f commands said; mkfifo commands
timeout 80 dpdk-testpmd -l 0,1 -a {DEVICE} -- -i --total-num-mbufs=4096 --nb-cores=1 < commands > said 2>&1 & testpmd=$!
exec 3> commands
for i in $(seq 400); do grep -q 'testpmd>' said && break; sleep 0.1; done
echo show port info 0 >&3; echo start tx_first >&3; sleep 4
echo stop >&3; sleep 1  # what was under way arrives
echo show port stats 0 >&3; echo port stop 0 >&3; echo quit >&3
wait $testpmd; cat said
"""

# hw/emulator/README.md has the table.
DPDK_DOES = {
    "dca_rxctrl_bit_12", "dtxmxszrq_at_most", "eeprom_awaited", "fctrl_while_reception_is_off", "filter_tables_initialized", "firmware_looked_at",
    "head_before_enable", "hthresh_with_pthresh", "interrupts_masked_after_reset", "rate_limits_cleared", "rdrxctl_settings"}


@pytest.fixture(scope="module")
def served(module_folder: Path) -> Iterator[ServedNic]:
    with ServedNic(module_folder, "loop") as served:
        yield served


@pytest.fixture(scope="module")
def guest(lab: Lab, module_folder: Path, served: ServedNic) -> Iterator[Guest]:
    with Guest(lab, module_folder, nics=[served.socket]) as guest:
        guest.run(PREPARE)
        yield guest


def number(output: str, name: str) -> int:
    found = re.search(rf"{name}: +(\d+)", output)
    assert found, f"testpmd printed no {name}:\n{output}"
    return int(found[1])


def test_testpmd_starts_forwards_counts_and_stops(guest: Guest, served: ServedNic) -> None:
    for _ in range(2):  # what it left behind must not hinder the next
        output = guest.run(TESTPMD, timeout_s=90).output
        assert "net_ixgbe" in output and "Link status: up" in output and "Link speed: 10 Gbps" in output
        received, sent = number(output, "RX-packets"), number(output, "TX-packets")
        assert received == sent > 100, "the loop lost frames"
        assert number(output, "RX-errors") == number(output, "TX-errors") == number(output, "RX-missed") == 0
        assert "Port 0 is closed" in output and "Bye..." in output


def test_neither_the_kernel_nor_the_nic_had_anything_to_complain_of(guest: Guest, served: ServedNic) -> None:
    assert warnings(guest, ("vfio", DEVICE, "DMAR", "Call Trace", "WARNING", "BUG")) == []
    assert {violation.rule.name for violation in served.nic.violations} <= DPDK_DOES
