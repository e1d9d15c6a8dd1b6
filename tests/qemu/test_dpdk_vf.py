"""DPDK's net_ixgbe_vf, from Debian's package, on two VFs of the software 82599: vfio-pci behind the guest's IOMMU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest

from ixrings import Port
from tests.qemu.lab.host_end import warnings
from tests.qemu.lab.our_vfs import VfGuest, vf_guest
from tests.qemu.lab.ours import LEFT, RIGHT
from tests.qemu.lab.prepared import Lab
from tests.support.programs import wait_for
from tests.support.steered import UDP, packet

pytestmark = pytest.mark.qemu

FAR, ADDED, SET = "02:00:00:00:00:99", "02:00:00:00:00:77", "02:00:00:00:00:79"
QUEUES = {"linux": 4, "dpdk": 8}  # of a pool, as the PF cuts them for two VFs
SPREAD = {"linux": 4, "dpdk": 1}  # queues that RSS uses: with 16 pools of 8 queues the 82599 has no RSS (MRQC)
# testpmd forwards VF 0 -> VF 1 and back, to the far end's address. It is at its prompt when the script ends.
START = f"""
modprobe vfio-pci
for d in {LEFT} {RIGHT}; do
    echo vfio-pci > /sys/bus/pci/devices/$d/driver_override; echo $d > /sys/bus/pci/drivers_probe
done
echo 200 > /proc/sys/vm/nr_hugepages
mount -t hugetlbfs hugetlbfs /dev/hugepages
cd /tmp; mkfifo commands
setsid stdbuf -oL dpdk-testpmd -l 0,1 -a {LEFT} -a {RIGHT} -- -i --total-num-mbufs=8192 --nb-cores=1 \\
    --rxq={{queues}} --txq={{queues}} --rxd=128 --txd=128 --forward-mode=mac --eth-peer=0,{FAR} --eth-peer=1,{FAR} \\
    < commands > log 2>&1 &
setsid sleep 1000 > commands &
for i in $(seq 600); do grep -q 'testpmd>' log && exit; sleep 0.1; done; cat log; exit 1
"""
ASK = """
cd /tmp; from=$(stat -c %s log); printf '{commands}\\nno more\\n' > commands
for i in $(seq 300); do tail -c +$((from + 1)) log | grep -q 'not found' && break; sleep 0.1; done
tail -c +$((from + 1)) log
"""
# Rules that DPDK is known to break; hw/emulator/README.md has the table. The agent resets the NIC with queues on.
DPDK_DOES = {"hthresh_with_pthresh"}
PF_RESETS = {"queues_off_before_master_disable", "tail_after_enable"}


@dataclass
class Forwarding:
    """testpmd at its prompt, and the far end of the cable."""

    vfs: VfGuest
    far: Port
    kind: str
    macs: list[str] = field(default_factory=list)

    def ask(self, *commands: str) -> str:
        """What testpmd prints. An unknown command after them makes testpmd print "not found" at the end."""
        return self.vfs.guest.run(ASK.format(commands="\\n".join(commands))).output

    def crosses(self, frames: list[bytes]) -> None:
        """The frames go to VF 0 and leave VF 1, with other addresses, in this order and no other frame with them."""
        self.far.send(frames)
        ends = bytes.fromhex((FAR + self.macs[1]).replace(":", ""))
        assert list(islice(self.far.recv(20), len(frames))) == [ends + each[12:] for each in frames]

    def asked(self, request: int) -> list[tuple[list[int], list[int]]]:
        """The last request of this kind of VF 0, and the PF's reply."""
        return [(words, reply) for vf, words, reply in self.vfs.served.agent.messages if (vf, words[0]) == (0, request)]


def in_vlan_7(port: int) -> tuple[str, str]:
    """A function that is not in a VLAN may not send with its tag: the PF checks that."""
    return f"vlan set filter on {port}", f"rx_vlan add 7 {port}"


def to(mac: str, rest: bytes = b"\x88\xb5", length: int = 60) -> bytes:
    return (bytes.fromhex((mac + FAR).replace(":", "")) + rest).ljust(length, b"\0")


def number(output: str, name: str, port: int) -> int:
    found = re.findall(rf"NIC statistics for port {port} .*?{name}: +(\d+)", output, re.DOTALL)
    assert found, f"testpmd printed no {name} of port {port}:\n{output}"
    return int(found[0])


@pytest.fixture(scope="module", params=QUEUES)
def testpmd(request: pytest.FixtureRequest, lab: Lab, module_folder: Path) -> Iterator[Forwarding]:
    kind: str = request.param
    with vf_guest(lab, module_folder / kind, kind=kind) as vfs, vfs.far_end(9000) as far:
        vfs.guest.run(START.format(queues=QUEUES[kind]))
        yield Forwarding(vfs, far, kind)


def test_both_functions_are_probed_with_link_and_the_queues_that_the_pf_grants(testpmd: Forwarding) -> None:
    output = testpmd.ask("show port info all")
    assert output.count("Driver name: net_ixgbe_vf") == 2
    assert output.count("Link status: up") == output.count("Link speed: 10 Gbps") == 2
    assert output.count(f"Max possible RX queues: {QUEUES[testpmd.kind]}") == 2
    testpmd.macs = re.findall(r"MAC address: (\S+)", output)
    assert "promiscuous" in output.lower()
    for words, reply in testpmd.asked(0x0C)[-1:]:  # testpmd asks for promiscuous mode, and the PF allows less
        assert (words[1], reply[1]) == (3, 1)


def test_frames_of_all_lengths_pass_both_functions_and_are_counted_exactly(testpmd: Forwarding) -> None:
    testpmd.ask("clear port stats all", "start")
    frames = [to(testpmd.macs[0], b"\x88\xb5" + bytes([n]) * 8, 60 + 13 * n % 1455) for n in range(200)]
    for first in range(0, 200, 50):
        testpmd.crosses(frames[first : first + 50])
    output = testpmd.ask("show port stats all")
    for port, name in ((0, "RX"), (1, "TX")):
        assert number(output, f"{name}-packets", port) == 200
        assert number(output, f"{name}-bytes", port) == sum(map(len, frames)) + 4 * 200
    assert number(output, "RX-errors", 0) == number(output, "RX-missed", 0) == 0


def test_flows_are_spread_as_the_pf_cuts_the_pools(testpmd: Forwarding) -> None:
    testpmd.ask("stop", "start")
    flows = [to(testpmd.macs[0], b"\x08\x00" + packet(UDP, "10.9.0.1", f"10.9.1.{n}", 7000, 9)) for n in range(100)]
    testpmd.far.send(flows)
    assert len(list(islice(testpmd.far.recv(20), 100))) == 100
    output = testpmd.ask("stop", "start")
    streams = dict(re.findall(r"RX Port= 0/Queue= (\d) .*\n\s+RX-packets: (\d+)", output))
    assert len(streams) == SPREAD[testpmd.kind] and sum(map(int, streams.values())) == 100, output


def test_addresses_and_vlans_are_asked_of_the_pf(testpmd: Forwarding) -> None:
    tagged = [to(testpmd.macs[0], bytes.fromhex(tag) + b"\x88\xb5") for tag in ("81000007", "81000008")]
    output = testpmd.ask("stop", *in_vlan_7(0), *in_vlan_7(1), f"mac_addr add 0 {ADDED}", "start")
    assert "failed" not in output, output
    testpmd.far.send([tagged[1]])  # dropped
    testpmd.crosses([to(ADDED), tagged[0], to(testpmd.macs[0])])
    testpmd.ask(f"mac_addr remove 0 {ADDED}", f"mac_addr set 0 {SET}")
    testpmd.far.send([to(ADDED), to(testpmd.macs[0])])  # dropped
    testpmd.macs[0] = SET
    testpmd.crosses([to(SET)])


def test_all_multicast_needs_trust_and_a_change_of_trust_is_reported(testpmd: Forwarding) -> None:
    testpmd.ask("set promisc 0 off", "set allmulti 0 on")
    words, reply = testpmd.asked(0x0C)[-1]
    assert (words[1], reply[1]) == (2, 1)
    testpmd.far.send([to("01:00:5e:00:00:05")])  # dropped
    testpmd.crosses([to(SET)])
    testpmd.vfs.served.agent.set_vf(0, trust=True)
    wait_for(
        lambda: testpmd.vfs.guest.run("grep 'reset event' /tmp/log || true").output, "testpmd told of no reset", 30
    )
    testpmd.ask("stop", "port stop 0", "port start 0", "start", "set allmulti 0 off", "set allmulti 0 on")
    words, reply = testpmd.asked(0x0C)[-1]
    assert (words[1], reply[1]) == (2, 2)
    testpmd.crosses([to("01:00:5e:00:00:05")])


def test_long_frames_need_a_pf_with_long_frames_which_is_reset_for_them(testpmd: Forwarding) -> None:
    refused = testpmd.ask("stop", "port stop 0", "port config mtu 0 9000", "port start 0")
    assert "Set MTU failed" in refused, refused
    testpmd.vfs.served.agent.mtu(9000)
    output = testpmd.ask(
        "port stop all", "port reset all", "port config mtu 0 9000", "port config mtu 1 9000", "port start all", "start"
    )
    assert "failed" not in output, output
    testpmd.macs = re.findall(r"MAC address: (\S+)", testpmd.ask("show port info all"))  # Linux's PF gives none back
    testpmd.crosses([to(testpmd.macs[0], b"\x88\xb5" + bytes([n]) * 1900, 1914) for n in range(20)])


def test_the_kernel_logged_no_warning_and_the_nic_only_known_rules(testpmd: Forwarding) -> None:
    found = warnings(testpmd.vfs.guest, ("vfio", "0000:0", "DMAR", "Call Trace", "WARNING", "BUG"))
    assert [line for line in found if "resetting" not in line and "reset done" not in line] == []
    assert {violation.rule.name for violation in testpmd.vfs.served.nic.violations} <= DPDK_DOES | PF_RESETS
