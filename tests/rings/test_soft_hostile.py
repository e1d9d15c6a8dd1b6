"""Another process writes anything into its rings while the service moves frames of pipes, switches and monitors: it can
harm no other program, and no buffer is lost."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from ixrings.rings import Region
from ixrings.rings.service import SoftQueue
from ixrings.rings.soft import Monitor, Pipe, Switch
from tests.rings.test_scribble import start_scribbler
from tests.support.soft_rings import Program, World, numbered

HOSTILE, OTHERS = 2, 3  # zones
Zones = npt.NDArray[np.uint16]


def set_zones(world: World, hostile: Program, others: list[Program]) -> Zones:
    zone_of = np.zeros(world.region.total_buffers, np.uint16)
    for zone, programs in ((HOSTILE, [hostile]), (OTHERS, others)):
        for program in programs:
            for kring in (*program.ktx, *program.krx):
                zone_of[kring.queue.ring.slots["buf_idx"]] = zone
                kring.zone_of, kring.zone = zone_of.ctypes.data, zone
    return zone_of


def assert_owned(zone_of: Zones, program: Program) -> None:
    """Nobody has taken a buffer from the program."""
    for slots in (program.tx.slots, program.rx.slots):
        assert (zone_of[slots["buf_idx"]] == OTHERS).all()


def repair(program: Program, buffers: list[int]) -> None:
    """What a program that is not hostile would have: each slot a buffer of its own, and the indices of the daemon."""
    for kring in (*program.ktx, *program.krx):
        ring, queue = kring.queue.ring, kring.queue
        for slot in ring.slots:
            slot["buf_idx"], slot["len"], slot["flags"] = buffers.pop(), 60, 0
        ring.head = ring.cur = kring.synced_head if kring.tx and kring.behind else queue.hwcur
    program.txsync()
    program.rxsync()


@pytest.mark.parametrize("turns", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_program_that_writes_anything_harms_no_other_and_loses_no_buffer(turns: int) -> None:
    world = World()
    switch = Switch()
    with Region.for_ports(tx_slots=64, rx_slots=64) as private:
        hostile = world.program("hostile", tx=3, rx=3)
        twin, left, right = (world.program(name) for name in ("twin", "left", "right"))
        far = world.program("far", region=private)
        Pipe(hostile.ktx[:1], hostile.krx[:1], twin.ktx, twin.krx)
        Pipe(left.ktx, left.krx, right.ktx, right.krx)
        world.port(switch).open(hostile.ktx[1:2], hostile.krx[1:2])
        world.plug(switch, far)
        Monitor(hostile.krx[2], zero_copy=True).watch(right.krx[0])
        Monitor(hostile.krx[2]).watch(left.krx[0])
        zone_of = set_zones(world, hostile, [twin, left, right])
        owned = np.bincount(zone_of)
        far_buffers = sorted(far.rx.slots["buf_idx"].tolist())
        world.region.buffers[:2] = 0xA5  # the reserved buffers: an index that nobody checked would reach them
        scribbler = start_scribbler(world.region, hostile.interface.offset, 1)
        krings = (*hostile.ktx[:2], *hostile.krx)
        start, turn, reached = time.monotonic(), 0, 0
        try:
            while min(kring.queue.violations for kring in krings) < 1 or turn < turns or reached < 3:
                assert time.monotonic() - start < 60, [kring.queue.violations for kring in krings]
                turn += 1
                for ring in hostile.interface.tx_rings[:2]:
                    head = ring._words[5]
                    ring.head = ring.cur = (head + 9) % 64
                hostile.txsync()
                hostile.rxsync()
                reached += len(far.receive())
                far.send(*(b"\xff" * 6 + frame for frame in numbered(5)))
                twin.send(*numbered(3))
                twin.receive()
                for one, other in ((left, right), (right, left)):
                    frames = numbered(20, first=turn)
                    one.txsync()
                    assert one.send(*frames) == 20
                    assert other.receive() == frames
                    other.rxsync()
        finally:
            scribbler.kill()
            scribbler.wait()
            assert scribbler.stdout is not None
            scribbler.stdout.close()
        assert (np.bincount(zone_of) == owned).all() and (world.region.buffers[:2] == 0xA5).all()
        for program in (left, right):
            assert_owned(zone_of, program)
        assert sorted(far.rx.slots["buf_idx"].tolist()) == far_buffers
        assert_owned(zone_of, twin)

        repair(hostile, np.flatnonzero(zone_of == HOSTILE).tolist())
        violations = [kring.queue.violations for kring in krings]
        twin.receive()
        twin.rxsync()
        hostile.txsync()
        frames = numbered(5, first=77)
        hostile.send(*frames)
        assert twin.receive()[-5:] == frames
        assert violations == [kring.queue.violations for kring in krings]
        assert isinstance(hostile.ktx[0].queue, SoftQueue)
        far.interface.close()
        world.close()
