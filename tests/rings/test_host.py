"""Host rings: frames to and from Linux's network stack, through a real TAP."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ixrings.rings.layout import RingFlag
from ixrings.rings.service import EVENT_ERROR, EVENT_RX, EVENT_TX, Kring, Reason
from ixrings.rings.soft import Host, Pipe
from tests.support.namespaces import Namespace, ip, namespace, unique, why_not
from tests.support.rings_nic import Bench
from tests.support.soft_rings import Program, World

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
ETHERTYPE = 0x88B5  # for experiments: nothing else on this machine sends it
NS_FORWARD = 4

pytestmark = [pytest.mark.network, pytest.mark.skipif(bool(why_not()), reason=why_not())]


@contextmanager
def tap(name: str) -> Iterator[int]:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


class Linux:
    """The other side of a TAP: a packet socket on it. Only frames of ETHERTYPE count."""

    def __init__(self, name: str, mtu: int) -> None:
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        ip("link", "set", name, "mtu", str(mtu), "up")
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind((name, ETHERTYPE))
        self.socket.settimeout(20)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.socket.send(frame)

    def receive(self, count: int) -> list[bytes]:
        return [self.socket.recv(65536) for _ in range(count)]


@pytest.fixture
def linux(request: pytest.FixtureRequest) -> Iterator[tuple[Linux, int]]:
    mtu = getattr(request, "param", 1500)
    name = unique("ixh")
    with tap(name) as fd:
        side = Linux(name, mtu)
        yield side, fd
        side.socket.close()


def ethernet(count: int, length: int = 60) -> list[bytes]:
    head = bytes(range(2, 8)) + bytes(range(18, 24)) + ETHERTYPE.to_bytes(2, "big")
    return [(head + k.to_bytes(4, "big") * (length // 4))[:length] for k in range(count)]


def host_rings(world: World, fd: int, longest: int = 1518) -> tuple[Program, Host]:
    program = world.program("ix0^")
    host = Host(fd, longest=longest)
    host.join(tx=program.ktx, rx=program.krx)
    world.work(host)
    return program, host


def receive_all(program: Program, count: int) -> list[bytes]:
    """Linux queues a frame for the TAP before send() returns, so nothing has to be awaited."""
    got: list[bytes] = []
    while len(got) < count:
        program.rxsync()
        frames = program.take()
        assert frames, f"{len(got)} of {count} frames"
        got += frames
    return got


@pytest.mark.parametrize("linux", [9000], indirect=True)
def test_frames_go_to_linux_and_come_from_it_whole_and_in_order(world: World, linux: tuple[Linux, int]) -> None:
    side, fd = linux
    program, host = host_rings(world, fd, longest=9018)
    before = world.buffers_in_slots()
    for length in (60, 1514, 9014):  # the last one needs five slots
        frames = ethernet(10, length)
        assert program.send(*frames) == 10
        assert side.receive(10) == frames
        assert program.tx.space == 63  # all slots came back at once
        side.send(*frames)
        assert receive_all(program, 10) == frames
    assert world.buffers_in_slots() == before
    assert (host.state.to_host, host.state.from_host) == (30, 30)
    assert host.state.to_host_bytes == host.state.from_host_bytes == 10 * (60 + 1514 + 9014)


def test_poll_reports_frames_of_linux_and_what_finds_no_room_waits_in_linux(
    world: World, linux: tuple[Linux, int]
) -> None:
    side, fd = linux
    program, host = host_rings(world, fd)
    assert program.poll(EVENT_RX | EVENT_TX) == EVENT_TX
    side.send(*ethernet(100))
    while host.state.from_host < 63:
        world.run()  # the daemon does so when the TAP's descriptor is readable
    world.run()  # it sleeps, although there is more
    assert host.state.drops == 0
    assert program.handle.armed == 0
    assert program.poll(EVENT_RX) == EVENT_RX and program.take() == ethernet(63)
    assert receive_all(program, 37) == ethernet(100)[63:]


def test_what_linux_sent_while_nobody_took_it_is_dropped_and_counted(world: World, linux: tuple[Linux, int]) -> None:
    side, fd = linux
    program, host = host_rings(world, fd)
    host.join()
    side.send(*ethernet(200, 70))
    world.run()
    assert host.state.drops == 0
    host.join(tx=program.ktx, rx=program.krx)
    assert host.state.drops == 200
    side.send(*ethernet(3))
    assert receive_all(program, 3) == ethernet(3)


@pytest.mark.parametrize("linux", [9000], indirect=True)
def test_a_frame_is_never_cut(world: World, linux: tuple[Linux, int]) -> None:
    """A long one waits until there is room for all of it, and one that is too long for the NIC is dropped."""
    side, fd = linux
    program, host = host_rings(world, fd, longest=9018)
    short, long = ethernet(61), ethernet(1, 9014)
    side.send(*short, *long)
    while host.state.from_host < 59:  # of 63 free slots, a long frame needs five
        world.run()
    got = receive_all(program, 62)
    assert got == short + long
    host.state.longest = 1518
    side.send(*ethernet(2, 1519), *ethernet(2, 1518))
    assert receive_all(program, 2) == ethernet(2, 1518) and host.state.drops == 2


def test_a_frame_without_a_header_is_refused_by_linux_and_a_broken_slot_by_the_ring(
    world: World, linux: tuple[Linux, int]
) -> None:
    side, fd = linux
    program, host = host_rings(world, fd)
    program.send(b"short")
    assert host.state.refused == 1
    program.put(*ethernet(5))
    program.tx.slots["buf_idx"][4] = 0
    assert program.poll(EVENT_TX) & EVENT_ERROR
    assert side.receive(3) == ethernet(3) and program.tx.head == 4
    program.tx.slots["flags"][5] = 0x20
    program.tx.advance(2)
    program.txsync()
    assert program.ktx[0].queue.violations == 2


def test_marked_frames_pass_between_a_nics_rings_and_linux(world: World, linux: tuple[Linux, int]) -> None:
    """A pipe stands for the NIC: `wire` is its other end."""
    side, fd = linux
    nic, wire, program = world.program("ix0"), world.program("wire"), world.program("ix0^")
    Pipe(nic.ktx, nic.krx, wire.ktx, wire.krx)
    host = Host(fd)
    host.join(tx=program.ktx, rx=program.krx, down=nic.ktx)
    world.work(host)
    before = world.buffers_in_slots()
    program.rx.flags = RingFlag.NR_FORWARD
    side.send(*ethernet(4))
    program.rxsync()
    program.rx.slots["flags"][[0, 1, 3]] = NS_FORWARD
    program.rx.advance(4)
    program.rxsync()
    frames = ethernet(4)
    assert wire.receive() == [frames[0], frames[1], frames[3]]
    assert world.buffers_in_slots() == before


def test_marked_frames_of_a_nics_ring_go_to_linux_when_they_are_released(
    world: World, linux: tuple[Linux, int]
) -> None:
    side, fd = linux
    bench = Bench(region=world.region)
    program = world.add(bench.interface, [Kring.nic(bench.tx.queue)], [Kring.nic(bench.rx.queue)])
    host = Host(fd)
    host.join(up=program.krx)
    frames = ethernet(4)
    for k, frame in enumerate(frames):
        bench.region.buffers[bench.rx.buffer_of(k), :60] = np.frombuffer(frame, np.uint8)
    bench.rx.nic_receives(60, 60, 60, 60)
    program.rxsync()
    program.rx.flags = RingFlag.NR_FORWARD
    program.rx.slots["flags"][[1, 2]] = NS_FORWARD
    program.rx.advance(3)
    program.rxsync()
    assert side.receive(2) == frames[1:3] and host.state.to_host == 2
    assert program.rx.space == 1 and program.rx.slots["flags"][1] == 0


def test_linux_waits_while_the_nics_ring_is_full_and_frames_are_dropped_if_it_does_not_send(
    world: World, linux: tuple[Linux, int]
) -> None:
    side, fd = linux
    bench = Bench(region=world.region)
    host = Host(fd)
    host.join(nic_tx=[Kring.nic(bench.tx.queue)])
    world.work(host)
    side.send(*ethernet(100))
    world.run()  # the NIC stands still
    assert (host.state.from_host, bench.tx.tdt, host.state.drops) == (63, 63, 37)
    side.send(*ethernet(200))
    bench.tx.nic_sends()
    ends = threading.Event()
    sending = threading.Thread(target=lambda: send_until(bench, ends))
    sending.start()
    world.run()
    ends.set()
    sending.join()
    assert host.state.from_host > 63 + 63  # more than the ring has room for
    assert host.state.from_host + host.state.drops == 300


def send_until(bench: Bench, ends: threading.Event) -> None:
    while not ends.is_set():
        bench.tx.nic_sends()
        time.sleep(0)


@contextmanager
def joined_hosts(world: World) -> Iterator[tuple[Namespace, list[int]]]:
    """Two TAPs in two namespaces, joined as TAP and NIC are while no program is there. A pipe stands for the wire."""
    names = unique("ixa"), unique("ixb")
    with tap(names[0]) as one, tap(names[1]) as two, namespace("ixA") as left, namespace("ixB") as right:
        left.take(names[0], "10.9.0.1/24")
        right.take(names[1], "10.9.0.2/24")
        a, b = world.program("a", slots=128), world.program("b", slots=128)
        Pipe(a.ktx, a.krx, b.ktx, b.krx)
        hosts = [Host(one), Host(two)]
        hosts[0].join(nic_tx=a.ktx, nic_rx=a.krx)
        hosts[1].join(nic_tx=b.ktx, nic_rx=b.krx)
        world.work(*hosts)
        server = subprocess.Popen(right.command(sys.executable, "-c", SERVER), stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            yield left, [one, two]
        finally:
            server.kill()
            server.communicate()


SERVER = """
import socket
server = socket.create_server(("10.9.0.2", 5000))
print("ready", flush=True)
client, _ = server.accept()
total = 0
while data := client.recv(1 << 16):
    total += len(data)
client.sendall(str(total).encode())
"""
CLIENT = """
import socket
client = socket.create_connection(("10.9.0.2", 5000), timeout=20)
client.sendall(bytes(5_000_000))
client.shutdown(socket.SHUT_WR)
print(client.recv(100).decode())
"""


def test_two_hosts_transfer_by_tcp_while_no_program_has_the_nic(world: World) -> None:
    """Without offloads on the TAP, Linux fills in each checksum and checks it: a wrong one would stop TCP."""
    with joined_hosts(world) as (left, fds):
        before = world.buffers_in_slots()
        client = subprocess.Popen(left.command(sys.executable, "-c", CLIENT), stdout=subprocess.PIPE, text=True)
        while client.poll() is None:
            if world.service.run() is Reason.SLEEP:
                select.select(fds, [], [], 0.05)
        assert client.communicate()[0] == "5000000\n"
        assert world.buffers_in_slots() == before
