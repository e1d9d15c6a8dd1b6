"""Limits of VFs: lengths of frames, rates of queues; and VF registers without an effect (82599 8.3.5)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ixrings.hw.registers import Registers
from tests.support.vf_by_hand import World, frame, mac_of

VTRSCINT, VFPBACL = 0x180, 0x148
LONGEST = 9728 - 4  # without CRC: what the switch carries
BUFFER = 2048


@pytest.fixture
def world() -> Iterator[World]:
    """A port for frames of 1518 bytes, looped back."""
    world = World(2, "loop")
    yield world
    world.close()


def send_long(world: World, length: int) -> None:
    """A frame to VF 1 that is longer than a buffer: gathered from one buffer, several times."""
    zero = world.vfs[0]
    ring, sent = zero.tx[0], 0
    head = frame(mac_of(0), mac_of(1), 60)
    ring.buffers.view[:60] = list(head)
    while sent < length:
        size = min(BUFFER, length - sent)
        last = sent + size == length
        command = 0x20 | 2 | (1 | 8 if last else 0)
        first = length << 46 if not sent else 0
        ring.write(ring.tail, ring.buffer(0 if not sent else 1), size | 3 << 20 | command << 24 | first)
        ring.tail, sent = (ring.tail + 1) % ring.slots, sent + size
    zero.vf.write32(0x2018, ring.tail)
    world.run()


def lengths(world: World) -> list[int]:
    """Bytes in each descriptor that VF 1 has received."""
    ring = world.vfs[1].rx[0]
    return [q1 >> 32 & 0xFFFF for q1 in (ring.read(index)[1] for index in range(ring.slots)) if q1 & 1]


def test_the_switch_carries_frames_that_the_port_does_not_receive(world: World) -> None:
    send_long(world, LONGEST)
    assert sum(lengths(world)) == LONGEST
    assert Registers(world.nic).ROC.read() == 0


def test_maxfrs_limits_what_a_vf_receives_from_the_wire(world: World) -> None:
    regs = Registers(world.nic)
    regs.PFDTXGSWC.write(LBE=0)  # all frames leave, and the loop brings them back
    send_long(world, 1514)
    send_long(world, 1515)
    assert lengths(world) == [1514] and regs.ROC.read() == 1
    regs.MAXFRS.write(MFS=9728)  # HLREG0.JUMBOEN is set already
    send_long(world, 9000)
    assert sum(lengths(world)[1:]) == 9000 and regs.ROC.read() == 0


def test_a_rate_also_limits_what_a_vf_sends_to_its_neighbour(world: World) -> None:
    regs = Registers(world.nic)
    regs.RTTBCNRM.write(MMW_SIZE=4)
    regs.RTTDQSEL.write(0)  # the first queue of VF 0
    regs.RTTBCNRC.write(RS_ENA=1, RF_INT=100)  # 100 Mbit/s
    world.vfs[0].transmit(*(frame(mac_of(0), mac_of(1), 1514) for _ in range(20)))
    world.vfs[1].transmit(*(frame(mac_of(1), mac_of(0)) for _ in range(20)))
    for _ in range(100):
        world.nic.step(64, 10_000)
    assert len(world.vfs[0].received()) == 20
    assert len(world.vfs[1].received()) == 1 + 1_000_000 * 100 // 8 // 1000 // 1518  # in 1 ms


def test_vtrscint_is_kept_for_each_vector_until_the_vf_is_reset(world: World) -> None:
    zero, one = world.vfs
    for vf in (zero, one):
        for vector in range(2):
            vf.vf.write32(VTRSCINT + 4 * vector, 0x10 * vf.vf.number + vector + 1)
    assert [Registers(world.nic).PVTRSCINT[i].read() for i in range(4)] == [1, 2, 0x11, 0x12]
    one.vf.reset()
    assert [one.vf.read32(VTRSCINT), one.vf.read32(VTRSCINT + 4)] == [0, 0]
    assert zero.vf.read32(VTRSCINT + 4) == 2


def test_vfpbacl_shows_no_pending_message_also_when_its_cause_is_masked(world: World) -> None:
    one = world.vfs[1]
    one.vf.write32(0x104, 7)  # VTEICS
    assert one.vf.read32(VFPBACL) == 0
    one.vf.write32(VFPBACL, 7)
    assert one.vf.read32(0x100) == 7
