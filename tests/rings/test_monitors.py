"""Monitors: RX rings that show what other rings send and receive, and never slow them down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ixrings.rings import Region
from ixrings.rings.service import EVENT_RX, Kring
from ixrings.rings.soft import Monitor, Pipe, Switch
from tests.support.rings_nic import Bench
from tests.support.soft_rings import Program, World, numbered

TXMON = 0x40


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def watching(world: World, *watched: Kring, zero_copy: bool = False, region: Region | None = None) -> Program:
    program = world.program("monitor", region=region)
    monitor = Monitor(program.krx[0], zero_copy=zero_copy)
    for kring in watched:
        monitor.watch(kring)
    return program


def pipe(world: World) -> tuple[Program, Program]:
    a, b = world.program("x{1"), world.program("x}1")
    Pipe(a.ktx, a.krx, b.ktx, b.krx)
    return a, b


def nic(world: World) -> tuple[Program, Bench]:
    bench = Bench(region=world.region)
    return world.add(bench.interface, [Kring.nic(bench.tx.queue)], [Kring.nic(bench.rx.queue)]), bench


def arrives(bench: Bench, frames: list[bytes]) -> None:
    for k, frame in enumerate(frames):
        at = (bench.rx.rdh + k) % 64
        bench.region.buffers[bench.rx.buffer_of(at), : len(frame)] = np.frombuffer(frame, np.uint8)
    bench.rx.nic_receives(*map(len, frames))


def test_copying_monitors_see_what_a_nic_sends_and_receives(world: World) -> None:
    program, bench = nic(world)
    with Region.for_ports(tx_slots=64, rx_slots=64, buf_size=1024) as other:
        one = watching(world, *program.ktx, *program.krx)
        two = watching(world, *program.krx, region=other)  # its buffers are shorter: netmap cuts the frames
        sent, received = numbered(5, 1500), numbered(4, 1500, first=100)
        program.send(*sent)
        arrives(bench, received)
        program.rxsync()
        assert one.receive() == sent + received
        assert (one.rx.slots["flags"][:9] & TXMON).astype(bool).tolist() == [True] * 5 + [False] * 4
        assert two.receive() == [frame[:1024] for frame in received]
        assert program.take() == received
        two.interface.close()


def test_copying_monitors_see_a_pipes_frames_even_if_their_receiver_never_reads(world: World) -> None:
    a, b = pipe(world)
    before = world.buffers_in_slots()
    at_a, at_b = watching(world, *a.ktx, *a.krx), watching(world, *b.krx)
    assert at_b.poll(EVENT_RX) == 0
    frames = [*numbered(9), bytes(range(256)) * 20]
    a.send(*frames)
    assert at_b.handle.armed == 0
    assert at_a.receive() == at_b.receive() == frames
    assert b.receive() == frames
    b.send(b"back")
    assert at_a.receive() == [b"back"] and at_b.receive() == []
    held = set(world.buffers_in_slots())
    assert held.issuperset(before) and len(held) == len(world.buffers_in_slots())


def test_a_full_monitor_loses_the_oldest_frames_and_counts_them(world: World) -> None:
    a, b = pipe(world)
    full = watching(world, *b.krx)
    sent = numbered(60)
    a.send(*sent)
    assert b.receive() == sent
    b.rxsync()
    a.txsync()
    more = [bytes([k]) * 4000 for k in range(20)]  # two slots each
    a.send(*more)
    assert b.receive() == more  # nothing is slower or lost for the program
    assert full.krx[0].drops == 19  # three free slots have room for one frame
    assert full.receive() == sent + more[19:]


def test_a_zero_copy_monitor_takes_received_frames_when_their_program_releases_them(world: World) -> None:
    program, bench = nic(world)
    before_all = world.buffers_in_slots()
    first = watching(world, *program.krx, zero_copy=True)
    last = watching(world, *program.krx, zero_copy=True)
    before = world.buffers_in_slots()
    frames = numbered(6)
    arrives(bench, frames)
    bought = [int(index) for index in program.rx.slots["buf_idx"][:6]]
    assert program.receive() == frames and first.receive() == last.receive() == []
    program.rxsync()
    assert first.receive() == last.receive() == frames
    taken = [set(one.rx.slots["buf_idx"][:6].tolist()) for one in (first, last)]
    assert set(bought) in taken  # one of the two has the buffers themselves
    assert world.buffers_in_slots() == before and set(before_all) < set(before)
    assert {bench.rx.buffer_of(k) for k in range(6)} == set(program.rx.slots["buf_idx"][:6].tolist())


def test_a_zero_copy_monitor_takes_sent_frames_when_the_nic_has_sent_them(world: World) -> None:
    program, bench = nic(world)
    watcher = watching(world, *program.ktx, zero_copy=True)
    before = world.buffers_in_slots()
    frames = [bytes([k]) * 100 for k in range(70)]
    program.send(*frames[:10])
    assert watcher.receive() == []
    bench.tx.nic_sends(7)
    program.txsync()
    assert watcher.receive() == frames[:7]
    watcher.rxsync()
    assert (program.tx.slots["flags"][:7] & 1).all()  # NS_BUF_CHANGED
    got = 7
    for at in range(10, 70, 10):
        bench.tx.nic_sends()
        program.send(*frames[at : at + 10])
        assert watcher.receive() == frames[got:at]
        watcher.rxsync()
        got = at
    assert world.buffers_in_slots() == before


def test_zero_copy_monitors_of_a_pipe_see_frames_when_the_receiver_has_released_them(world: World) -> None:
    a, b = pipe(world)
    sender, receiver = watching(world, *a.ktx, zero_copy=True), watching(world, *b.krx, zero_copy=True)
    before = world.buffers_in_slots()
    frames = [*numbered(5), b"long" * 1500]
    a.send(*frames)
    assert sender.receive() == receiver.receive() == []
    assert b.receive() == frames
    b.rxsync()
    assert sender.receive() == receiver.receive() == frames
    assert (sender.rx.slots["flags"][0] & TXMON, receiver.rx.slots["flags"][0] & TXMON) == (TXMON, 0)
    assert world.buffers_in_slots() == before


def test_monitors_of_a_switch_see_frames_at_once(world: World) -> None:
    switch = Switch()
    a, b = world.program("a"), world.program("b")
    for program in (a, b):
        world.plug(switch, program)
    sent, zero, received = (
        watching(world, *a.ktx), watching(world, *a.ktx, zero_copy=True), watching(world, *b.krx)
    )  # fmt: skip
    frames = [b"\xff" * 6 + frame for frame in numbered(6)]
    a.send(*frames)
    assert sent.receive() == zero.receive() == received.receive() == frames
    assert b.receive() == frames


def test_a_monitor_may_leave_and_what_it_has_stays(world: World) -> None:
    a, b = pipe(world)
    programs = [world.program(f"m{k}") for k in range(3)]
    monitors = [Monitor(program.krx[0]) for program in programs]
    for monitor in monitors:
        monitor.watch(b.krx[0])
    a.send(b"one")
    monitors[1].close()
    a.send(b"two")
    monitors[2].leave(b.krx[0])
    monitors[0].close()
    a.send(b"three")
    assert [program.receive() for program in programs] == [[b"one", b"two"], [b"one"], [b"one", b"two"]]
    assert b.krx[0].monitors == 0 and b.receive() == [b"one", b"two", b"three"]


def test_what_cannot_be_watched_is_refused(world: World) -> None:
    a, _ = pipe(world)
    program = watching(world, *a.ktx)
    with pytest.raises(ValueError, match="cannot be watched"):
        Monitor(world.program("m").krx[0]).watch(program.krx[0])
    with pytest.raises(ValueError, match="in an RX ring"):
        Monitor(program.ktx[0])
    with Region.for_ports(tx_slots=64, rx_slots=64) as other:
        far = world.program("m", region=other)
        with pytest.raises(ValueError, match="different regions"):
            Monitor(far.krx[0], zero_copy=True).watch(a.ktx[0])
