"""What ethtool can set: Linux's ixgbe programs flow director, RSS, pause frames, tags and LEDs, and our NIC obeys.

Linux computes the hashes of flow director itself, so a filter works only if the NIC computes the same ones. The
scenarios share one guest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ixrings.hw.registers import Registers
from ixrings.hw.trace.file import TraceFile
from tests.qemu.lab.host_end import GUEST, HOST, warnings
from tests.qemu.lab.linux_world import World, linux_world
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import LINUX_DOES
from tests.support.namespaces import ip
from tests.support.programs import started, wait_for
from tests.support.steered import ICMP, SCTP, TCP, UDP, ethernet, packet

pytestmark = pytest.mark.qemu

MANY = 30  # frames of a flow; only a few other frames come meanwhile
HOST6, GUEST6, TAGGED = "fd09::1", "fd09::2", "10.9.5.1"
PAUSE = bytes.fromhex("0180c2000001020000000005880800010010").ljust(60, b"\0")

# The far end of VLAN 5, because this machine may not support VLANs. It returns every frame sent to TAGGED, and answers
# pings.
FAR_END = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
    raw.bind((sys.argv[1], 3))
    print("ready", flush=True)
    while True:
        frame, (_, _, direction, *_) = raw.recvfrom(2048)
        if direction == socket.PACKET_OUTGOING or frame[30:34] != socket.inet_aton(sys.argv[2]):
            continue
        checksum = int.from_bytes(frame[36:38], "big") + 0x0800
        ping = bytes(2) + (checksum % 0xFFFF).to_bytes(2, "big") + frame[38:]
        l4 = ping if frame[23] == 1 else frame[36:38] + frame[34:36] + frame[38:]
        raw.send(frame[6:12] + frame[:6] + bytes([0x81, 0, 0, 5]) + frame[12:26] + frame[30:34] + frame[26:30] + l4)
"""


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[World]:
    with linux_world(lab, module_folder) as world:
        world.guest.run(f"modprobe 8021q; ip address add {GUEST6}/64 dev eth0 nodad")
        yield world


@pytest.fixture
def tagged(world: World) -> Iterator[None]:
    """Put the guest into VLAN 5."""
    world.guest.run(f"""
        ip link add link eth0 name eth0.5 type vlan id 5; ip address add 10.9.5.2/24 dev eth0.5; ip link set eth0.5 up
        ip neighbour add {TAGGED} lladdr 02:00:00:00:00:05 dev eth0.5
    """)
    with started(world.host.space.command(sys.executable, "-c", FAR_END, world.host.interface, TAGGED)) as far_end:
        assert far_end.stdout and far_end.stdout.readline() == "ready\n"
        yield
        far_end.kill()
    world.guest.run("ip link del eth0.5")


@pytest.fixture
def ipv6(world: World) -> Iterator[None]:
    """Switch IPv6 on at the host's end."""
    space, interface = world.host.space, world.host.interface
    disable = f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"
    space.run("sh", "-c", f"echo 0 > {disable}")
    ip("-n", space.name, "address", "add", f"{HOST6}/64", "dev", interface, "nodad")
    yield
    space.run("sh", "-c", f"echo 1 > {disable}")


@dataclass
class Received:
    """Frames received by each queue within a context, and flow director's matches."""

    queues: tuple[int, int] = (0, 0)
    matched: int = 0

    @property
    def queue(self) -> int | None:
        """The queue that received all of MANY frames; None if they were dropped."""
        assert all(count < MANY / 2 or count >= MANY for count in self.queues) and min(self.queues) < MANY / 2, (
            f"the frames were spread: {self.queues}"
        )
        return next((queue for queue, count in enumerate(self.queues) if count >= MANY), None)


@contextmanager
def watched(world: World) -> Iterator[Received]:
    """Counts the frames that the guest receives; the result is valid after the context."""
    received = Received()
    before = world.port.settled_counters()
    yield received
    after = world.port.settled_counters()
    received.queues = (
        after["rx_queue_0_packets"] - before["rx_queue_0_packets"],
        after["rx_queue_1_packets"] - before["rx_queue_1_packets"],
    )
    received.matched = after["fdir_match"] - before["fdir_match"]


def queue_of(world: World, *frames: bytes) -> int | None:
    """Send MANY copies of each frame. Returns the queue that receives all of them, or None if they are dropped."""
    with watched(world) as received:
        for frame in frames:
            world.host.send(frame, MANY)
    complete = sum(received.queues) >= MANY * len(frames)
    assert complete or max(received.queues) < MANY / 2, f"some frames were lost: {received.queues}"
    return received.queue


def ipv4(
    protocol: int,
    source: str = HOST,
    sport: int = 7000,
    dport: int = 9,
    *,
    destination: str = GUEST,
    tag: int | None = None,
) -> bytes:
    return ethernet(packet(protocol, source, destination, sport, dport), tag=tag)


# ---- flow director with signature filters; Linux makes them by itself and starts with them ----


CONNECT = """
import os, socket
os.sched_setaffinity(0, [{cpu}])
for port in range({first}, {first} + {many}):
    with socket.socket(socket.AF_INET6 if ":" in "{to}" else socket.AF_INET) as s:
        s.bind(("", port))
        s.setblocking(False)
        s.connect_ex(("{to}", 9))
"""


# Each port is used once, because it stays in use for a while.
PORTS = {HOST: (20000, 20100), HOST6: (20200, 20300), TAGGED: (20400, 20500)}


@pytest.mark.parametrize("to", [HOST, HOST6, TAGGED], ids=["IPv4", "IPv6", "tagged"])
@pytest.mark.usefixtures("ipv6", "tagged")
def test_answers_arrive_in_the_queue_that_sent_the_flow(world: World, to: str) -> None:
    """Each processor sends through its own queue, and the first frame of a flow makes a filter."""
    # Learn the neighbour's address first: a frame that waits for it is sent by another processor.
    world.ping("-c 2", "-i 0.2", to=to)
    for cpu, first in enumerate(PORTS[to]):
        with watched(world) as received:
            world.guest.run(f"python3 - <<'END'\n{CONNECT.format(cpu=cpu, first=first, many=MANY, to=to)}\nEND")
        assert received.queue == cpu and received.matched >= MANY


# ---- other settings of ethtool ----


@pytest.mark.parametrize(("rx", "tx"), [("off", "on"), ("on", "off"), ("on", "on")])
def test_ethtool_selects_whether_pause_frames_are_obeyed_and_sent(world: World, rx: str, tx: str) -> None:
    def settled() -> bool:
        return re.findall(r"RX:\s+(\w+)\s+TX:\s+(\w+)", world.guest.run("ethtool -a eth0").output) == [(rx, tx)]

    world.guest.run(f"ethtool -A eth0 rx {rx} tx {tx}")
    wait_for(settled, f"ethtool -a does not say RX {rx}, TX {tx}", 60)
    regs = Registers(world.served.nic)
    assert (regs.MFLCN.read().RFCE, regs.FCCFG.read().TFCE, regs.FCRTH[0].read().FCEN) == (
        rx == "on",
        tx == "on",
        tx == "on",
    )
    before = world.port.settled_counters()["rx_flow_control_xoff"]
    world.host.send(PAUSE, MANY)
    wait_for(
        lambda: world.port.settled_counters()["rx_flow_control_xoff"] == before + MANY * (rx == "on"),
        "the count of pause frames is wrong",
        60,
    )
    world.ping("-c 2", "-i 0.2")


@pytest.mark.parametrize(("rx", "tx"), [("off", "off"), ("off", "on"), ("on", "off"), ("on", "on")])
@pytest.mark.usefixtures("tagged")
def test_tagged_frames_cross_whether_nic_or_linux_strips_and_inserts_tags(world: World, rx: str, tx: str) -> None:
    world.guest.run(f"ethtool -K eth0 rxvlan {rx} txvlan {tx}")
    world.port.wait_for_carrier(True)
    assert Registers(world.served.nic).RXDCTL[0].read().VME == (rx == "on")
    world.ping("-c 5", "-i 0.1", to=TAGGED)


def test_without_the_vlan_filter_frames_with_any_tag_are_received(world: World) -> None:
    other = ethernet(b"", 0x88B5, tag=77)
    assert queue_of(world, other) is None
    world.guest.run("ethtool -K eth0 rx-vlan-filter off")
    assert queue_of(world, other) == 0
    world.guest.run("ethtool -K eth0 rx-vlan-filter on")
    assert queue_of(world, other) is None


def test_an_led_blinks_while_ethtool_identifies_the_port(world: World) -> None:
    before = int(Registers(world.served.nic).LEDCTL.read())
    world.guest.run("ethtool -p eth0 1")
    assert world.served.trace
    modes = [
        access.value >> 16 & 0xF
        for access in TraceFile(world.served.folder / "nic.trace")
        if access.write and access.register == "LEDCTL"
    ]
    assert modes.count(0xE) >= 2 and modes.count(0xF) >= 2, modes  # LED 2 on, and off
    assert int(Registers(world.served.nic).LEDCTL.read()) == before


@pytest.mark.parametrize(
    "change",
    [
        "-K eth0 rx off tx off sg off tso off",
        "-K eth0 rx on tx on sg on tso on",
        "-K eth0 lro on",
        "-K eth0 lro off",
        "-G eth0 rx 64 tx 128",
        "-L eth0 combined 1",
        "-L eth0 combined 2",
        "-C eth0 rx-usecs 0",
        "-C eth0 rx-usecs 100",
    ],
)
def test_tcp_works_after_each_change_by_ethtool(world: World, change: str) -> None:
    world.guest.run(f"ethtool {change}")
    world.port.wait_for_carrier(True)
    world.host.exchange(world.guest, 500_000)


# ---- flow director with perfect filters, made by ethtool; RSS ----


def rss_to(world: World, *queues: int) -> None:
    words = " ".join(map(str, queues))
    world.guest.run(f"python3 /project/tests/qemu/in_guest/indirection.py eth0 {words}")


@pytest.fixture(scope="module")
def ntuple(world: World) -> World:
    """Perfect filters, and RSS that sends all frames to queue 0, so frames in queue 1 got there by a filter. The
    settings stay until the end of the file."""
    world.guest.run(
        "ip link add link eth0 name eth0.5 type vlan id 5; ip link set eth0.5 up; ethtool -K eth0 ntuple on"
    )
    world.port.wait_for_carrier(True)
    rss_to(world, 0)
    return world


@contextmanager
def rule(world: World, words: str) -> Iterator[None]:
    output = world.guest.run(f"ethtool -N eth0 flow-type {words}").output
    found = re.search(r"ID (\d+)", output)
    assert found, output
    yield
    world.guest.run(f"ethtool -N eth0 delete {found[1]}")


RULES = {
    "all fields": (
        f"udp4 src-ip {HOST} dst-ip {GUEST} src-port 7000 dst-port 9 action 1",
        [ipv4(UDP)],
        [
            ipv4(UDP, sport=7001),
            ipv4(UDP, dport=10),
            ipv4(UDP, "10.9.0.3"),
            ipv4(UDP, destination="10.9.0.4"),
            ipv4(TCP),
        ],
    ),
    "one port": (
        "tcp4 dst-port 80 action 1",
        [ipv4(TCP, dport=80), ipv4(TCP, "10.1.2.3", 1, 80)],
        [ipv4(TCP, dport=81), ipv4(UDP, dport=80)],
    ),
    "no L4": (f"ip4 src-ip {HOST} action 1", [ipv4(TCP), ipv4(UDP), ipv4(ICMP)], [ipv4(UDP, "10.9.0.3")]),
    "network": (
        "udp4 src-ip 10.9.0.0 m 0.0.0.255 action 1",
        [ipv4(UDP), ipv4(UDP, "10.9.0.77")],
        [ipv4(UDP, "10.9.1.1")],
    ),
    "part of a port": ("udp4 dst-port 0x1200 m 0x00ff action 1", [ipv4(UDP, dport=0x1234)], [ipv4(UDP, dport=0x1334)]),
    "both ports": (
        "sctp4 src-port 1 dst-port 2 action 1",
        [ipv4(SCTP, sport=1, dport=2)],
        [ipv4(SCTP, sport=2, dport=1)],
    ),
    "VLAN": (
        "udp4 dst-port 9 vlan 5 vlan-mask 0xf000 action 1",
        [ipv4(UDP, tag=5), ipv4(UDP, tag=0x6005)],
        [ipv4(UDP), ipv4(UDP, dport=8, tag=5)],
    ),
    "priority": (
        "udp4 vlan 0x6000 vlan-mask 0x1fff action 1",
        [ipv4(UDP, tag=0x6005)],
        [ipv4(UDP), ipv4(UDP, tag=0x4005)],
    ),
    "flexible bytes": ("udp4 vlan-etype 0x8100 action 1", [ipv4(UDP, tag=5)], [ipv4(UDP)]),
}


@pytest.mark.parametrize("name", RULES)
def test_a_filter_of_ethtool_steers_its_flow_and_no_other(ntuple: World, name: str) -> None:
    words, matching, others = RULES[name]
    with rule(ntuple, words):
        assert queue_of(ntuple, *matching) == 1
        assert queue_of(ntuple, *others) == 0
    assert queue_of(ntuple, *matching) == 0


def test_a_filter_drops_its_flow_and_no_other(ntuple: World) -> None:
    with rule(ntuple, "udp4 dst-port 9 action -1"):
        with watched(ntuple) as received:
            ntuple.host.send(ipv4(UDP), MANY)
        assert received.queue is None and received.matched >= MANY
        assert queue_of(ntuple, ipv4(UDP, dport=10)) == 0


def test_filters_are_listed_survive_a_reset_and_can_be_deleted(ntuple: World) -> None:
    count = 100
    add = "ethtool -N eth0 flow-type udp4 dst-port $((9000 + i)) action 1 loc $i"
    ntuple.guest.run(f"for i in $(seq {count}); do {add} || exit; done")
    assert f"Total {count} rules" in ntuple.guest.run("ethtool -n eth0").output
    assert "Direct to queue 1" in ntuple.guest.run("ethtool -n eth0 rule 100").output
    ntuple.guest.run("ethtool -r eth0")
    ntuple.port.wait_for_carrier(True)
    rss_to(ntuple, 0)  # ixgbe has reset the table
    assert queue_of(ntuple, *(ipv4(UDP, dport=port) for port in (9001, 9042, 9100))) == 1
    assert queue_of(ntuple, *(ipv4(UDP, dport=port) for port in (9000, 9101))) == 0
    ntuple.guest.run(f"for i in $(seq {count}); do [ $i = 42 ] || ethtool -N eth0 delete $i || exit; done")
    assert queue_of(ntuple, ipv4(UDP, dport=9042)) == 1
    assert queue_of(ntuple, ipv4(UDP, dport=9001), ipv4(UDP, dport=9100)) == 0
    ntuple.guest.run("ethtool -N eth0 delete 42")


def test_the_indirection_table_selects_the_queue_of_a_hash(ntuple: World) -> None:
    for queue in (1, 0):
        rss_to(ntuple, queue)
        table = re.findall(r"^ +\d+:((?: +\d)+)$", ntuple.guest.run("ethtool -x eth0").output, re.MULTILINE)
        assert " ".join(table).split() == [f"{queue}"] * 128
        assert queue_of(ntuple, *(ipv4(TCP, sport=port) for port in range(4))) == queue


def test_udp_flows_spread_when_ethtool_adds_ports_to_the_hash(ntuple: World) -> None:
    """Without ports in the hash, all flows go to one queue. Linux's key is random, so the ports differ in every bit."""
    frames = [ipv4(UDP, sport=1 << bit) for bit in range(16)]
    rss_to(ntuple, 0, 1)
    assert queue_of(ntuple, *frames) is not None
    ntuple.guest.run("ethtool -N eth0 rx-flow-hash udp4 sdfn")
    with watched(ntuple) as received:
        for frame in frames:
            ntuple.host.send(frame, MANY)
    assert min(received.queues) >= MANY


def test_the_kernel_logged_no_warning_and_the_nic_only_known_rules(world: World) -> None:
    assert [line for line in warnings(world.guest) if "enabling UDP RSS" not in line] == []
    assert {violation.rule.name for violation in world.served.nic.violations} <= LINUX_DOES
