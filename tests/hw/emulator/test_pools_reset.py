"""Resets of VFs and closed pools while frames are in the NIC: nobody's memory gets them (82599 4.6.10, 8.2.3.27.7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from ixrings.hw.registers import Registers
from tests.support.vf_by_hand import VfByHand, World, frame, mac_of

SLOTS = 64
WAITING = 7  # frames in the packet buffer
RESETS = ("flr", "config", "rst")


@pytest.fixture
def world() -> Iterator[World]:
    """VF 1 has received as many frames as it has descriptors, and more wait in the packet buffer."""
    world = World(2)
    pools = Registers(world.nic)
    for queue in range(8):
        pools.PFQDE.write(QDE=0, WE=1, QUEUE_IDX=queue)
    fill(world)
    assert len(world.vfs[1].received()) == SLOTS - 1
    yield world
    world.close()


def fill(world: World) -> None:
    for count in (SLOTS - 1, WAITING):
        world.vfs[0].transmit(*(frame(mac_of(0), mac_of(1)) for _ in range(count)))
        world.run()


def reset(vf: VfByHand, how: str) -> None:
    if how == "rst":
        vf.vf.write32(0, 1 << 26)
    elif how == "config":
        vf.vf.config_write(0xA8, 2, 0x8000)
    else:
        vf.vf.reset()


@pytest.mark.parametrize("how", RESETS)
def test_frames_of_before_a_vfs_reset_do_not_reach_its_next_driver(world: World, how: str) -> None:
    one = world.vfs[1]
    old = one.rx[0]
    seen = old.buffers.view.copy(), old.descriptors.view.copy()
    reset(one, how)
    one.rx.clear()
    one.tx.clear()
    world.agent.work()
    one.open(mac_of(1))
    one.queues()
    world.run()
    assert one.received() == []
    assert (old.buffers.view == seen[0]).all() and (old.descriptors.view == seen[1]).all()
    sent = frame(mac_of(0), mac_of(1), 99)
    world.vfs[0].transmit(sent)
    world.run()
    assert one.received() == [sent]


def test_the_frames_that_were_lost_are_counted_and_others_still_arrive(world: World) -> None:
    regs = Registers(world.nic)
    sent = frame(mac_of(1), mac_of(0), 80)
    world.vfs[1].transmit(sent)  # waits behind those of VF 1
    world.run()
    dropped = regs.QPRDC[0].read()
    assert world.vfs[0].received() == []
    world.vfs[1].vf.reset()
    world.run()
    assert world.vfs[0].received() == [sent] and regs.QPRDC[0].read() - dropped == WAITING


def test_a_closed_pool_gets_no_frame_that_had_to_wait(world: World) -> None:
    regs, one = Registers(world.nic), world.vfs[1]
    regs.PFVFRE[0].write(regs.PFVFRE[0].read() & ~2)
    before = one.rx[0].buffers.view.copy()
    for index in range(10):
        one.rx[0].write(index, one.rx[0].buffer(index), 0)
    one.vf.write32(0x1018, 9)
    world.run()
    assert one.received() == [] and (one.rx[0].buffers.view == before).all()
    assert regs.QPRDC[0].read() == WAITING


def test_a_reset_with_its_memory_unmapped_touches_nothing_and_breaks_no_rule(world: World) -> None:
    one = world.vfs[1]
    one.vf.unmap_dma_all()
    one.vf.reset()
    world.run()
    fill(world)  # to a closed pool
    assert world.nic.faults == [] and not one.vf.dma_refused()


def test_writes_by_messages_end_with_the_vfs_reset() -> None:
    world = World(2)
    zero, one = world.vfs
    one.vf.write32(0x1028, 0)
    one.vf.read32(0x1028)
    one.vf.map_dma_at(0, 1 << 16, None)
    for low, value in ((0, 0x1000), (4, 0), (8, 512), (0x10, 0), (0x28, 1 << 25)):
        one.vf.write32(0x1000 + low, value)
    assert one.vf.read32(0x1028) & 1 << 25
    one.vf.write32(0x1018, 8)
    zero.transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    (asked,) = one.vf.dma_messages.take()  # the descriptor
    one.vf.dma_messages.answer(asked.id, struct.pack("<QQ", 0x4000, 0))
    world.run()  # the frame is written, by a message that nobody has taken yet
    one.vf.reset()
    world.run()
    assert list(one.vf.dma_messages.take()) == []
    world.close()
