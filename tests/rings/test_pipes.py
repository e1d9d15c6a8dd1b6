"""Pipes: what one program sends, another receives, in the same buffers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ixrings.rings import Region
from ixrings.rings.service import EVENT_ERROR, EVENT_RX, EVENT_TX
from ixrings.rings.soft import Monitor, Pipe
from tests.support.service_daemon import Daemon, build_client, finished, started
from tests.support.soft_rings import MOREFRAG, Program, World, numbered

FRAMES = 50_000


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def ends(world: World, slots: int = 64) -> tuple[Program, Program]:
    a, b = world.program("x{1", slots=slots), world.program("x}1", slots=slots)
    Pipe(a.ktx, a.krx, b.ktx, b.krx)
    return a, b


def test_frames_arrive_in_order_whole_and_in_the_buffers_they_were_sent_in(world: World) -> None:
    a, b = ends(world)
    before = world.buffers_in_slots()
    sent = a.tx.slots["buf_idx"][:40].tolist()
    frames = numbered(40)
    assert a.send(*frames) == 40
    assert b.receive() == frames
    assert b.rx.slots["buf_idx"][:40].tolist() == sent  # no byte was copied
    b.rxsync()
    for turn in range(20):
        there, back = numbered(37, first=turn), numbered(23, length=1514, first=-turn & 0xFFFF)
        a.txsync()
        b.txsync()
        a.send(*there)
        b.send(*back)
        assert b.receive() == there and a.receive() == back
        b.rxsync()
        a.rxsync()
    assert world.buffers_in_slots() == before
    assert a.ktx[0].queue.packets == b.krx[0].queue.packets == 40 + 20 * 37


def test_the_senders_slots_come_back_when_the_receiver_has_released_as_many(world: World) -> None:
    a, b = ends(world)
    assert a.send(*numbered(100)) == 63
    a.txsync()
    assert a.tx.space == 0
    assert len(b.receive(most=7)) == 7
    a.txsync()
    assert a.tx.space == 0  # released, and not synced yet
    b.rxsync()
    assert a.tx.space == 0  # a tail moves only in a call of its own program
    a.txsync()
    assert a.tx.space == 7
    assert a.send(*numbered(100, first=63)) == 7
    assert b.receive() == numbered(63)[7:] + numbered(7, first=63)


def test_a_frame_in_several_slots_moves_when_it_is_whole(world: World) -> None:
    a, b = ends(world)
    long = [bytes(range(256)) * 20, b"short" * 12, bytes(reversed(range(256))) * 24]
    a.send(*long)
    assert b.receive() == long
    span = a.tx.reserve(2)
    span.len[:] = 2048
    span.flags[:] = MOREFRAG
    a.tx.advance(2)
    a.txsync()
    assert b.receive() == []  # its end is still to come
    a.send(b"end")
    (frame,) = b.receive()
    assert len(frame) == 2 * 2048 + 3 and frame.endswith(b"end")
    b.rxsync()
    a.txsync()
    assert a.tx.space == 63


def test_frames_in_several_slots_keep_together_when_the_ring_is_nearly_full(world: World) -> None:
    a, b = ends(world)
    sent: list[bytes] = []
    got: list[bytes] = []
    for turn in range(60):
        for frame in numbered(4, length=5000, first=4 * turn) + numbered(3, first=turn):
            if a.put(frame):
                sent.append(frame)
        a.txsync()
        b.rxsync()
        got += b.take(most=5)
    for _ in range(20):
        got += b.receive()
        a.txsync()
    assert got == sent and len(sent) > 150


def test_poll_reports_each_side_as_soon_as_the_other_has_moved(world: World) -> None:
    a, b = ends(world)
    assert b.poll(EVENT_RX) == 0 and b.handle.armed == EVENT_RX
    a.send(b"first")
    assert b.handle.armed == 0  # it was woken
    assert b.poll(EVENT_RX) == EVENT_RX and b.take() == [b"first"]
    a.put(*numbered(62))
    a.tx.cur = a.tx.tail
    assert a.poll(EVENT_TX) == 0 and a.handle.armed == EVENT_TX
    b.rxsync()  # takes back the slot of the first frame
    assert a.handle.armed == 0 and a.poll(EVENT_TX) == EVENT_TX


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [("buf_idx", 0, "BUF_IDX"), ("buf_idx", 2**32 - 1, "BUF_IDX"), ("len", 2049, "LEN_OVER_BUFFER"),
     ("flags", 0x10, "INDIRECT")],
)  # fmt: skip
def test_a_slot_that_breaks_a_rule_is_refused_and_the_frames_before_it_have_moved(
    world: World, field: str, value: int, rule: str
) -> None:
    a, b = ends(world)
    a.put(*numbered(9))
    good = a.tx.slots[4].copy()
    a.tx.slots[field][4] = value
    assert a.poll(EVENT_TX) & EVENT_ERROR
    error = a.ktx[0].queue.take_error()
    assert error is not None and error.rule.name == rule and "slot 4 " in str(error)
    assert (a.tx.head, a.tx.cur) == (4, 4)  # the broken frame and those after it are the program's again
    assert b.receive() == numbered(4)
    a.tx.slots[4] = good
    a.tx.advance(5)
    a.txsync()
    assert b.receive() == numbered(9)[4:]


def test_wrong_indices_move_nothing_and_the_ring_goes_back(world: World) -> None:
    a, b = ends(world)
    a.send(*numbered(5))
    a.tx.head = 2
    a.txsync()
    assert a.ktx[0].queue.violations == 1 and (a.tx.head, a.tx.cur) == (5, 5)
    b.rxsync()
    b.rx.head = 64
    b.rxsync()
    assert b.krx[0].queue.violations == 1 and (b.rx.head, b.rx.tail) == (0, 5)
    b.rx.slots["buf_idx"][1] = 1
    b.rx.advance(2)
    b.rxsync()
    assert b.krx[0].queue.violations == 2 and b.rx.head == 0


def test_a_frame_of_more_slots_than_netmap_allows_is_refused(world: World) -> None:
    a, _ = ends(world, slots=128)
    span = a.tx.reserve(65)
    span.flags[:] = MOREFRAG
    a.tx.advance(65)
    a.txsync()
    error = a.ktx[0].queue.take_error()
    assert error is not None and error.rule.name == "CHAIN_TOO_LONG"


def test_owners_change_with_the_buffers_and_a_foreign_buffer_is_refused(world: World) -> None:
    a, b = ends(world)
    zone_of = np.zeros(world.region.total_buffers, np.uint16)
    for zone, program in ((2, a), (3, b)):
        for ring in (program.tx, program.rx):
            zone_of[ring.slots["buf_idx"]] = zone
        for kring in (*program.ktx, *program.krx):
            kring.zone_of, kring.zone = zone_of.ctypes.data, zone
    before = np.bincount(zone_of)
    a.send(*numbered(30))
    assert b.receive() == numbered(30)
    b.rxsync()
    for zone, program in ((2, a), (3, b)):
        for ring in (program.tx, program.rx):
            assert (zone_of[ring.slots["buf_idx"]] == zone).all()
    assert (np.bincount(zone_of) == before).all()
    a.put(*numbered(2))
    a.tx.slots["buf_idx"][31] = b.tx.slots["buf_idx"][0]
    a.txsync()
    error = a.ktx[0].queue.take_error()
    assert error is not None and error.rule.name == "BUF_IDX" and b.receive() == numbered(1)
    for slot, flags in ((a.tx.head, MOREFRAG), (a.tx.head + 1, 0)):  # one buffer in both slots of a frame
        a.tx.slots["buf_idx"][slot] = a.rx.slots["buf_idx"][0]
        a.tx.slots["flags"][slot] = flags
    a.tx.advance(2)
    a.txsync()
    error = a.ktx[0].queue.take_error()
    assert error is not None and error.rule.name == "BUF_IDX" and (np.bincount(zone_of) == before).all()
    own = int(b.rx.slots["buf_idx"][30])
    b.rx.slots["buf_idx"][30] = a.tx.slots["buf_idx"][0]
    b.rxsync()
    error = b.krx[0].queue.take_error()
    assert error is not None and error.rule.name == "BUF_IDX" and b.rx.head == 30
    b.rx.slots["buf_idx"][30] = own
    b.rx.advance(1)
    b.rxsync()
    assert b.krx[0].queue.violations == 1


def test_a_restarted_pipe_is_empty(world: World) -> None:
    a, b = ends(world)
    pipe = Pipe(a.ktx, a.krx, b.ktx, b.krx)
    before = world.buffers_in_slots()
    a.send(*numbered(50))
    b.receive(most=5)
    pipe.restart()
    assert b.receive() == [] and (a.tx.head, a.tx.space) == (0, 63)
    a.send(*numbered(63, first=9))
    assert b.receive() == numbered(63, first=9)
    assert world.buffers_in_slots() == before


def test_two_processes_exchange_frames_through_a_pipe_while_a_monitor_shows_them(tmp_path: Path) -> None:
    """Each waits in poll() while the other, or the daemon, is asleep."""
    world = World()
    a, b, monitor = (world.program(name, slots=128) for name in ("x{1", "x}1", "m"))
    Pipe(a.ktx, a.krx, b.ktx, b.krx)
    Monitor(monitor.krx[0]).watch(b.krx[0])
    before = world.buffers_in_slots()
    world.service.set(())  # the thread's service has the handles
    client = build_client(tmp_path)
    with (
        Daemon([a.handle, b.handle]),
        started(client, world.region, b.interface, b.handle, "receive", FRAMES) as receiver,
        started(client, world.region, a.interface, a.handle, "send", FRAMES) as sender,
    ):
        finished(sender)
        finished(receiver)
    assert b.krx[0].queue.packets == FRAMES == monitor.krx[0].queue.packets + monitor.krx[0].drops
    assert monitor.krx[0].queue.packets == 127  # nobody reads it
    assert world.buffers_in_slots() == before
    world.close()


def test_without_a_twin_frames_wait_and_rings_that_do_not_fit_are_refused(world: World) -> None:
    a, b = ends(world)
    pipe = Pipe(a.ktx, a.krx, b.ktx, b.krx)
    pipe.close()
    a.send(*numbered(3))
    b.rxsync()
    assert b.rx.space == 0 and a.tx.space == 60
    with pytest.raises(ValueError, match="has 64 slots, and x}2 RX ring 0 128"):
        c = world.program("x}2", slots=128)
        Pipe(a.ktx, a.krx, c.ktx, c.krx)
    with Region.for_ports(tx_slots=64, rx_slots=64) as other, pytest.raises(ValueError, match="different regions"):
        c = world.program("y}1", region=other)
        Pipe(a.ktx, a.krx, c.ktx, c.krx)
