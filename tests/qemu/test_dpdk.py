"""DPDK's ixgbe driver, from Debian's package, drives the software 82599 on vfio-pci, behind the guest's IOMMU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import HostEnd, warnings
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import ServedNic
from tests.support.namespaces import namespace, unique
from tests.support.programs import wait_for
from tests.support.steered import SYN, TCP, UDP, ethernet, packet

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
cd /tmp; rm -f commands log; mkfifo commands
timeout 80 dpdk-testpmd -l 0,1 -a {DEVICE} -- -i --total-num-mbufs=4096 --nb-cores=1 < commands > log 2>&1 & testpmd=$!
exec 3> commands
for i in $(seq 400); do grep -q 'testpmd>' log && break; sleep 0.1; done
echo show port info 0 >&3; echo start tx_first >&3; sleep 4
echo stop >&3; sleep 1  # frames on their way arrive
echo show port stats 0 >&3; echo port stop 0 >&3; echo quit >&3
wait $testpmd; cat log
"""

# Rules that DPDK is known to break; hw/emulator/README.md has the table.
DPDK_DOES = {
    "dca_rxctrl_bit_12",
    "dtxmxszrq_at_most",
    "eeprom_awaited",
    "fctrl_while_reception_is_off",
    "filter_tables_initialized",
    "firmware_status_read",
    "head_before_enable",
    "hthresh_with_pthresh",
    "interrupts_masked_after_reset",
    "rate_limits_cleared",
    "rdrxctl_settings",
}


# DPDK sets up flow director at the first rule, when the port receives already.
DPDK_FILTERS_DO = {"receive_packet_buffer_divided_first"}


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
    for _ in range(2):  # the second run starts from the NIC's state after the first
        output = guest.run(TESTPMD, timeout_s=300).output
        assert "net_ixgbe" in output and "Link status: up" in output and "Link speed: 10 Gbps" in output
        received, sent = number(output, "RX-packets"), number(output, "TX-packets")
        assert received == sent > 100, "the loop lost frames"
        assert number(output, "RX-errors") == number(output, "TX-errors") == number(output, "RX-missed") == 0
        assert "Port 0 is closed" in output and "Bye..." in output


def test_the_kernel_logged_no_warning_and_the_nic_only_known_rules(guest: Guest, served: ServedNic) -> None:
    assert warnings(guest, ("vfio", DEVICE, "DMAR", "Call Trace", "WARNING", "BUG")) == []
    assert {violation.rule.name for violation in served.nic.violations} <= DPDK_DOES


# ---- filters ----


RECEIVE = f"""
cd /tmp; rm -f commands log; mkfifo commands
setsid stdbuf -oL dpdk-testpmd -l 0,1 -a {DEVICE} -- -i --total-num-mbufs=4096 --nb-cores=1 \\
    --rxq=2 --txq=2 --disable-rss --forward-mode=rxonly < commands > log 2>&1 &
setsid sleep 1000 > commands &
for i in $(seq 400); do grep -q 'testpmd>' log && exit; sleep 0.1; done; cat log; exit 1
"""
ASK = """
cd /tmp; from=$(stat -c %s log); printf '{command}\\nno more\\n' > commands
for i in $(seq 100); do tail -c +$((from + 1)) log | grep -q 'not found' && break; sleep 0.1; done
tail -c +$((from + 1)) log
"""


@dataclass
class Receiving:
    """testpmd at its prompt, and the far end of its cable. Of its two queues the first gets all frames by default."""

    guest: Guest
    host: HostEnd
    served: ServedNic

    def ask(self, command: str) -> str:
        """What testpmd prints for a command. An unknown command after it makes testpmd print "not found" at the end."""
        return self.guest.run(ASK.format(command=command)).output

    def rule(self, words: str) -> None:
        log = self.ask(f"flow create 0 ingress pattern {words} / end")
        assert re.search(r"Flow rule #\d+ created", log), log

    def queue_of(self, frame: bytes) -> int | None:
        """The queue that gets MANY copies of the frame, or None if they are dropped.

        It is read from testpmd's line about each frame: a counter that is cleared while a frame is counted is wrong.
        """
        start = int(self.guest.run("stat -c %s /tmp/log").output)
        self.host.send(frame, MANY)
        # The core polls the queues in turn, so between the first LAST and the second it has polled all of them.
        for count in (1, 2):
            self.host.send(LAST)
            self.wait_for_last(start, count)
        queues = [
            queue
            for kind, queue in re.findall(r"type=0x(\w+) .*Receive queue=0x(\d)", self.log(start))
            if int(kind, 16) != LAST_TYPE
        ]
        assert len(queues) in (0, MANY) and len(set(queues)) <= 1, queues
        return int(queues[0]) if queues else None

    def wait_for_last(self, start: int, count: int) -> None:
        """Wait until `count` frames LAST have arrived since byte `start` of the output."""
        line = f"type=0x{LAST_TYPE:04x}"
        wait_for(lambda: self.log(start).count(line) == count, "the last frame did not arrive", 60)

    def log(self, start: int) -> str:
        """testpmd's output from byte `start` on."""
        return self.guest.run(f"tail -c +{start + 1} /tmp/log").output


MANY = 30
LAST_TYPE = 0x88F9  # no rule matches it
LAST = ethernet(b"", LAST_TYPE)
UDP_FLOW, OTHER_UDP_FLOW = (ethernet(packet(UDP, "10.9.0.1", "10.9.0.2", port, 9)) for port in (7000, 7001))
BY_UDP = "eth / ipv4 src is 10.9.0.1 dst is 10.9.0.2 / udp src is 7000 dst is 9 / end actions"
TO_1 = "queue index 1"
FLOWS = {  # the filter that DPDK uses: testpmd's rule, a matching frame, another one, the queue of the matching one
    "5-tuple": (f"{BY_UDP} {TO_1}", UDP_FLOW, OTHER_UDP_FLOW, 1),
    "EtherType": (f"eth type is 0x88f7 / end actions {TO_1}", ethernet(b"", 0x88F7), ethernet(b"", 0x88F8), 1),
    "SYN": (
        f"eth / ipv4 / tcp flags spec 0x02 flags mask 0x02 / end actions {TO_1}",
        ethernet(packet(TCP, flags=SYN)),
        ethernet(packet(TCP)),
        1,
    ),
    "flow director": (f"{BY_UDP} {TO_1} / mark id 5", UDP_FLOW, OTHER_UDP_FLOW, 1),
    "flow director drops": (f"{BY_UDP} drop", UDP_FLOW, OTHER_UDP_FLOW, None),
}


@pytest.fixture(scope="module")
def receiving(lab: Lab, module_folder: Path) -> Iterator[Receiving]:
    tap, folder = unique("ixd"), module_folder / "filters"
    with namespace("ixD") as space, ServedNic(folder, f"tap={tap}") as served:
        host = HostEnd(space, tap)
        with Guest(lab, folder, nics=[served.socket]) as guest:
            guest.run(PREPARE)
            guest.run(RECEIVE)
            receiving = Receiving(guest, host, served)
            receiving.ask("set verbose 1")
            receiving.ask("start")
            yield receiving


@pytest.mark.parametrize("name", FLOWS)
def test_a_rule_of_testpmd_steers_its_flow_and_no_other(receiving: Receiving, name: str) -> None:
    words, matching, other, queue = FLOWS[name]
    receiving.rule(words)
    assert (receiving.queue_of(matching), receiving.queue_of(other)) == (queue, 0)
    receiving.ask("flow flush 0")
    assert receiving.queue_of(matching) == 0


def test_the_nic_reported_only_known_rules(receiving: Receiving) -> None:
    assert {violation.rule.name for violation in receiving.served.nic.violations} <= DPDK_DOES | DPDK_FILTERS_DO
