"""The queue of a frame inside its pool: filters with a pool, traffic classes (82599 7.1.2.2 to 7.1.2.5, 7.10.3.2)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ixrings.hw.registers import Registers
from tests.support.steered import ACK, SYN, TCP, ethernet, packet
from tests.support.vf_by_hand import SET_VLAN, World, frame, mac_of

OUTSIDE = bytes([2, 0, 0, 0, 9, 9])
LLDP = b"\x01\x80\xc2\0\0\x0e"
QUEUES = 4  # of each pool


@pytest.fixture
def world() -> Iterator[World]:
    world = World(2, "loop", queues=QUEUES)
    yield world
    world.close()


def queues_of(world: World, number: int) -> list[int]:
    """How many frames each queue of the VF has."""
    world.run()
    return [len(world.vfs[number].received(q)) for q in range(len(world.vfs[number].rx))]


def of_type(kind: int, to: bytes) -> bytes:
    return to + mac_of(0) + kind.to_bytes(2, "big") + bytes(46)


def tcp(to: bytes, *, flags: int = ACK, port: int = 1000) -> bytes:
    return to + mac_of(0) + ethernet(packet(TCP, sport=port, flags=flags))[12:]


def test_an_ethertype_filter_gives_its_pool_frames_for_any_address(world: World) -> None:
    regs = Registers(world.nic)
    regs.ETQF[3].write(ETYPE=0x88CC, POOL=1, POOL_EN=1, FILTER_EN=1)
    world.vfs[0].transmit(of_type(0x88CC, LLDP), of_type(0x88CC, OUTSIDE), of_type(0x88CD, OUTSIDE))
    assert queues_of(world, 1) == [4, 0, 0, 0]  # from the switch and from the wire
    regs.ETQS[3].write(QUEUE_EN=1, RX_QUEUE=QUEUES + 2)
    world.vfs[0].transmit(of_type(0x88CC, OUTSIDE))
    assert queues_of(world, 1) == [4, 0, 2, 0]
    regs.ETQS[3].write(QUEUE_EN=1, RX_QUEUE=1)  # a queue of pool 0
    world.vfs[0].transmit(of_type(0x88CC, OUTSIDE))
    assert queues_of(world, 1) == [6, 0, 2, 0] and queues_of(world, 0) == [0, 0, 0, 0]
    regs.PFVFRE[0].write(regs.PFVFRE[0].read() & ~2)
    world.vfs[0].transmit(of_type(0x88CC, OUTSIDE))
    assert queues_of(world, 1) == [6, 0, 2, 0]


def test_an_ethertype_filter_without_pool_chooses_a_queue_in_the_pool_that_has_it(world: World) -> None:
    regs = Registers(world.nic)
    regs.ETQF[0].write(ETYPE=0x88F7, FILTER_EN=1)
    regs.ETQS[0].write(QUEUE_EN=1, RX_QUEUE=QUEUES + 3)
    world.vfs[0].transmit(of_type(0x88F7, mac_of(1)), of_type(0x88F7, b"\xff" * 6))
    assert queues_of(world, 1) == [0, 0, 0, 3]
    world.vfs[1].transmit(mac_of(0) + mac_of(1) + b"\x88\xf7" + bytes(46))
    assert queues_of(world, 0) == [2, 0, 0, 0]  # and its own broadcast, from the loop


@pytest.mark.parametrize(
    ("pool", "compared", "expected"),
    [(1, True, 2), pytest.param(0, True, 0, marks=pytest.mark.slow), pytest.param(0, False, 2, marks=pytest.mark.slow)],
)
def test_a_five_tuple_filter_compares_the_pool(world: World, pool: int, compared: bool, expected: int) -> None:
    regs = Registers(world.nic)
    regs.SDPQF[5].write(1000 >> 8 | (1000 & 0xFF) << 8)
    regs.L34TIMIR[5].write(RX_QUEUE=QUEUES + 2, MUST_BE_ONE=1)
    ignored = dict.fromkeys(("MASK_SOURCE_ADDRESS", "MASK_DESTINATION_ADDRESS", "MASK_DESTINATION_PORT"), 1)
    regs.FTQF[5].write(PROTOCOL=0, PRIORITY=3, POOL=pool, POOL_MASK=int(not compared), QUEUE_ENABLE=1, **ignored)
    world.vfs[0].transmit(tcp(mac_of(1)), tcp(mac_of(1), port=1001))
    counts = queues_of(world, 1)
    assert sum(counts) == 2 and counts[2] == expected // 2


def test_a_syn_filter_chooses_a_queue_in_the_pool_that_has_it(world: World) -> None:
    Registers(world.nic).SYNQF.write(QUEUE_ENABLE=1, RX_QUEUE=QUEUES + 1)
    world.vfs[0].transmit(tcp(mac_of(1), flags=SYN), tcp(mac_of(1)))
    assert queues_of(world, 1) == [1, 1, 0, 0]


def test_rss_goes_on_in_pools_while_a_filter_is_on(world: World) -> None:
    Registers(world.nic).SYNQF.write(QUEUE_ENABLE=1, RX_QUEUE=QUEUES + 1)
    world.vfs[1].vf.write32(0x300, 2 << 29)  # VFPSRTYPE.RQPL: four queues
    world.vfs[0].transmit(*(tcp(mac_of(1), port=port) for port in range(32)))
    assert all(queues_of(world, 1))


@pytest.mark.parametrize(("mode", "queues"), [(12, 8), pytest.param(13, 4, marks=pytest.mark.slow)])
def test_the_priority_of_a_frame_chooses_the_queue_of_its_pool(mode: int, queues: int) -> None:
    world = World(2, kind="dpdk", queues=queues) if mode == 12 else World(2, queues=queues)
    regs = Registers(world.nic)
    regs.MRQC.write(MRQE=mode)
    classes = [priority * 3 % 8 for priority in range(8)]
    for vf in world.vfs:
        assert vf.agrees(SET_VLAN | 1 << 16, 7)
    frames = [frame(mac_of(0), mac_of(1), 60 + p, vlan=p << 13 | 7) for p in range(8)]
    world.vfs[0].transmit(frames[5], frame(mac_of(0), mac_of(1)))
    assert queues_of(world, 1) == [2] + [0] * (queues - 1)  # RTRUP2TC is 0: all have class 0
    regs.RTRUP2TC.write(sum(found << 3 * priority for priority, found in enumerate(classes)))
    world.vfs[0].transmit(*frames, frame(mac_of(0), mac_of(1)))
    assert queues_of(world, 1) == [8 // queues + (3 if q == 0 else 0) for q in range(queues)]
    for priority in range(8):
        assert frames[priority] in world.vfs[1].received(classes[priority] % queues)
    world.close()
