"""Linux's ixgbe without MSI-X: it falls back to INTx, with which `ethtool -t` really tests interrupts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import HOST, HostEnd, LinuxPort, warnings
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import ETHTOOL_TEST_DOES, LINUX_DOES, ServedNic
from tests.support.namespaces import namespace, unique

pytestmark = pytest.mark.qemu


def test_ethtool_passes_its_interrupt_test_and_traffic_flows(lab: Lab, folder: Path) -> None:
    tap = unique("ixq")
    with namespace("ixH") as space, ServedNic(folder, f"tap={tap}") as served:
        host = HostEnd(space, tap)
        with Guest(lab, folder, nics=[served.socket], append="pci=nomsi") as guest:
            guest.run("modprobe ixgbe")
            port = LinuxPort(guest)
            port.up()
            assert re.search(r"IO-APIC.*eth0", guest.run("cat /proc/interrupts").output)
            result = guest.run("ethtool -t eth0 offline", timeout_s=300).output
            assert re.findall(r"test .*\)\s+(\d+)", result) == ["0"] * 5, result
            port.up()
            assert ", 0% packet loss" in guest.run(f"ping -q -c 20 -i 0.1 {HOST}").output
            host.exchange(guest, 5_000_000)
            # ixgbe warns that it works without MSI-X.
            assert [line for line in warnings(guest) if "MSI" not in line and "Disabling" not in line] == []
        assert {violation.rule.name for violation in served.nic.violations} <= LINUX_DOES | ETHTOOL_TEST_DOES
