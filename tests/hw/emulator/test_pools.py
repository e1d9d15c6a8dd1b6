"""VT mode of the software 82599 with frames: which pools receive, the switch, VLANs, anti-spoofing (82599 7.10.3)."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator

import pytest

from ixrings.hw.registers import Registers
from tests.support.vf_by_hand import (
    SET_MACVLAN,
    SET_MULTICAST,
    SET_VLAN,
    UPDATE_XCAST,
    World,
    frame,
    mac_of,
    words_of,
)

BROADCAST = b"\xff" * 6
OUTSIDE = bytes([2, 0, 0, 0, 9, 9])
LOOPED_BACK = 1 << 18  # in the status of a received descriptor
Start = Callable[..., World]


@pytest.fixture
def start() -> Iterator[Start]:
    worlds: list[World] = []

    def begin(*arguments: int | str, **options: int | str) -> World:
        worlds.append(World(*arguments, **options))  # type: ignore[arg-type]
        return worlds[-1]

    yield begin
    while worlds:
        worlds.pop().close()


def trusted(world: World, number: int) -> None:
    """The VF, trusted and opened again."""
    world.agent.set_vf(number, trust=True)
    world.vfs[number].answer()
    world.vfs[number].open(mac_of(number))


def test_a_frame_goes_from_vf_to_vf_and_not_to_the_wire(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    sent = [frame(mac_of(0), mac_of(1), 60 + i) for i in range(3)]
    zero.transmit(*sent)
    world.run()
    assert one.received() == sent and zero.received() == []
    assert one.status(0) & LOOPED_BACK
    regs = Registers(world.nic)
    assert regs.GPTC.read() == 0 and regs.GPRC.read() == 0 and regs.QPTC[0].read() == 3
    assert zero.tx[0].read(2)[1] & 1 << 32  # the descriptor is written back


def test_counters_of_vfs_count_what_their_pools_carried_and_are_not_cleared_by_reads(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    zero.transmit(frame(mac_of(0), mac_of(1), 96), frame(mac_of(0), b"\x01\0\x5e\0\0\1", 60))
    one.agrees(SET_MULTICAST | 1 << 16, 0)
    world.run()
    for _ in range(2):
        assert [zero.vf.read32(at) for at in (0x201C, 0x2020, 0x2024)] == [2, 100 + 64, 0]
        assert [one.vf.read32(at) for at in (0x101C, 0x1020, 0x1024, 0x1034)] == [1, 100, 0, 0]
    one.vf.write32(0x101C, 0)
    one.vf.reset()
    assert one.vf.read32(0x101C) == 1


def test_a_vf_receives_from_the_wire_what_is_for_its_address(start: Start) -> None:
    world = start(2, "loop")
    zero, one = world.vfs
    world.agent.set_vf(0, spoofchk=False)
    Registers(world.nic).PFDTXGSWC.write(LBE=0)  # all frames leave, and the loop brings them back
    sent = [frame(mac_of(0), mac_of(1)), frame(mac_of(0), OUTSIDE), frame(mac_of(0), mac_of(0))]
    zero.transmit(*sent)
    world.run()
    assert one.received() == [sent[0]] and zero.received() == [sent[2]]
    assert not one.status(0) & LOOPED_BACK
    regs = Registers(world.nic)
    assert regs.GPTC.read() == 3 and regs.GPRC.read() == 2


def test_unknown_addresses_leave_by_the_wire_and_broadcasts_go_both_ways(start: Start) -> None:
    world = start(3)
    for vf in world.vfs[1:]:
        vf.agrees(UPDATE_XCAST, 1)
    world.vfs[0].transmit(frame(mac_of(0), OUTSIDE), frame(mac_of(0), BROADCAST))
    world.run()
    assert [len(vf.received()) for vf in world.vfs] == [0, 1, 1]
    assert Registers(world.nic).GPTC.read() == 2


def test_multicast_reaches_the_pools_whose_table_has_it_and_all_multicast_ones(start: Start) -> None:
    world = start(4)
    group, other = b"\x01\0\x5e\0\x12\x34", b"\x01\0\x5e\0\x56\x78"
    hashed = (group[4] >> 4 | group[5] << 4) & 0xFFF
    world.vfs[1].agrees(SET_MULTICAST | 1 << 16, hashed)
    world.vfs[2].agrees(UPDATE_XCAST, 0)
    trusted(world, 3)
    world.vfs[3].agrees(UPDATE_XCAST, 2)
    world.vfs[0].transmit(frame(mac_of(0), group), frame(mac_of(0), other))
    world.run()
    assert [len(vf.received()) for vf in world.vfs] == [0, 1, 0, 2]


def test_a_second_address_receives_and_is_gone_after_a_reset(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    assert one.agrees(SET_MACVLAN | 1 << 16, *words_of(OUTSIDE))
    zero.transmit(frame(mac_of(0), OUTSIDE))
    world.run()
    assert len(one.received()) == 1
    one.vf.reset()
    world.agent.work()
    one.open(mac_of(1))
    one.rx.clear()
    one.queues()
    zero.transmit(frame(mac_of(0), OUTSIDE), frame(mac_of(0), mac_of(1)))
    world.run()
    assert one.received() == [frame(mac_of(0), mac_of(1))]


def test_a_spoofed_source_is_dropped_and_counted(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    zero.transmit(frame(OUTSIDE, mac_of(1)), frame(mac_of(1), BROADCAST), frame(mac_of(0), mac_of(1)))
    world.run()
    assert one.received() == [frame(mac_of(0), mac_of(1))]
    regs = Registers(world.nic)
    assert regs.SSVPC.read() == 2 and regs.SSVPC.read() == 0 and regs.GPTC.read() == 0
    assert zero.vf.read32(0x201C) == 1 and zero.tx[0].read(0)[1] & 1 << 32
    world.agent.set_vf(0, spoofchk=False)
    zero.transmit(frame(OUTSIDE, mac_of(1)))
    world.run()
    assert len(one.received()) == 2


def test_an_address_of_its_own_choice_ends_the_check_until_the_pf_is_reset(start: Start) -> None:
    """As Linux's ixgbe: the setting of the administrator stays."""
    world = start()
    zero, one = world.vfs
    assert zero.agrees(SET_MACVLAN | 1 << 16, *words_of(OUTSIDE))
    assert zero.agrees(SET_MACVLAN, 0, 0)
    zero.transmit(frame(OUTSIDE, mac_of(1)))
    world.run()
    assert len(one.received()) == 1 and world.agent.vfs[0].spoofchk
    world.agent.set_vf(0, spoofchk=True)
    zero.transmit(frame(OUTSIDE, mac_of(1)))
    world.run()
    assert len(one.received()) == 1 and Registers(world.nic).SSVPC.read() == 1


def test_a_tag_of_a_vlan_that_the_vf_is_not_in_is_dropped_and_counted(start: Start) -> None:
    """As Linux's ixgbe, whose spoofchk is about addresses and VLANs."""
    world = start()
    zero, one = world.vfs
    one.agrees(SET_VLAN | 1 << 16, 7)
    zero.transmit(frame(mac_of(0), mac_of(1), vlan=7))
    world.run()
    assert one.received() == [] and Registers(world.nic).SSVPC.read() == 1
    zero.agrees(SET_VLAN | 1 << 16, 7)
    zero.transmit(frame(mac_of(0), mac_of(1), vlan=7))
    world.run()
    assert len(one.received()) == 1


def test_tagged_frames_reach_the_vfs_that_asked_for_the_vlan(start: Start) -> None:
    world = start(3)
    world.agent.set_vf(0, spoofchk=False)
    assert world.vfs[1].agrees(SET_VLAN | 1 << 16, 7)
    for vlan in (7, 8):
        world.vfs[0].transmit(
            frame(mac_of(0), mac_of(1), vlan=vlan),
            frame(mac_of(0), mac_of(2), vlan=vlan),
            frame(mac_of(0), BROADCAST, vlan=vlan),
        )
    world.run()
    assert world.vfs[1].received() == [frame(mac_of(0), mac_of(1), vlan=7), frame(mac_of(0), BROADCAST, vlan=7)]
    assert world.vfs[2].received() == []
    assert world.vfs[1].agrees(SET_VLAN, 7)
    world.vfs[0].transmit(frame(mac_of(0), mac_of(1), vlan=7))
    world.run()
    assert len(world.vfs[1].received()) == 2


def test_a_tag_from_the_descriptor_is_inserted_before_the_switch(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    for vf in world.vfs:
        vf.agrees(SET_VLAN | 1 << 16, 7)
    zero.transmit(frame(mac_of(0), mac_of(1)), tag=7)
    world.run()
    (got,) = one.received()
    assert got[12:16] == b"\x81\0\0\7" and got[16:] == frame(mac_of(0), mac_of(1))[12:]


def test_a_port_vlan_tags_every_frame_and_the_vf_cannot_choose_another(start: Start) -> None:
    world = start(3)
    for number in (0, 1):
        world.agent.set_vf(number, vlan=9, qos=3)
    zero, one, two = world.vfs
    zero.transmit(frame(mac_of(0), mac_of(1)), frame(mac_of(0), mac_of(2)), frame(mac_of(0), mac_of(1), vlan=5))
    zero.transmit(frame(mac_of(0), mac_of(1), 70), tag=5)
    world.run()
    tag = b"\x81\0" + (3 << 13 | 9).to_bytes(2, "big")
    assert [got[12:16] for got in one.received()] == [tag, tag] and two.received() == []
    assert Registers(world.nic).SSVPC.read() == 1


def test_a_frame_without_pool_goes_to_the_default_pool_only_if_the_port_takes_it(start: Start) -> None:
    world = start(2, "loop")
    world.agent.set_vf(0, spoofchk=False)
    regs = Registers(world.nic)
    regs.PFDTXGSWC.write(LBE=0)
    regs.PFVTCTL.write(VT_ENA=1, RPL_EN=1, DEF_PL=1)
    zero, one = world.vfs
    zero.transmit(frame(mac_of(0), OUTSIDE))
    world.run()
    assert one.received() == []
    for name, value in (("FCTRL", {"BAM": 1, "UPE": 1}),):
        regs.RXCTRL.update(RXEN=0)
        getattr(regs, name).write(**value)
        regs.SECRXCTRL.update(RX_DIS=1)
        regs.SECRXSTAT.read()
        regs.RXCTRL.update(RXEN=1)
        regs.SECRXCTRL.update(RX_DIS=0)
    zero.transmit(frame(mac_of(0), OUTSIDE))
    world.run()
    assert len(one.received()) == 1
    regs.PFVTCTL.update(DIS_DEF_POOL=1)
    zero.transmit(frame(mac_of(0), OUTSIDE))
    world.run()
    assert len(one.received()) == 1


def test_without_replication_one_pool_has_the_frame(start: Start) -> None:
    world = start(3)
    for vf in world.vfs:
        vf.agrees(UPDATE_XCAST, 1)
    Registers(world.nic).PFVTCTL.write(VT_ENA=1, DEF_PL=2)
    world.vfs[0].transmit(frame(mac_of(0), BROADCAST))
    world.run()
    assert [len(vf.received()) for vf in world.vfs] == [0, 0, 1]


def test_a_closed_pool_neither_sends_nor_receives(start: Start) -> None:
    world = start()
    regs = Registers(world.nic)
    zero, one = world.vfs
    regs.PFVFRE[0].write(regs.PFVFRE[0].read() & ~2)
    zero.transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    assert one.received() == []
    regs.PFVFTE[0].write(regs.PFVFTE[0].read() & ~1)
    regs.PFVFRE[0].write(regs.PFVFRE[0].read() | 2)
    zero.transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    assert one.received() == [] and zero.vf.read32(0x2010) == 1
    regs.PFVFTE[0].write(regs.PFVFTE[0].read() | 1)
    world.run()
    assert len(one.received()) == 1


def test_a_vf_without_bus_master_moves_nothing(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    zero.vf.enable_bus_master(False)
    zero.transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    assert one.received() == []
    zero.vf.enable_bus_master(True)
    one.vf.enable_bus_master(False)
    world.run()
    assert one.received() == [] and Registers(world.nic).QPRDC[0].read() == 1  # PFQDE: dropped


def test_no_vf_reaches_the_memory_of_another_function(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    victim = one.vf.alloc_dma(4096)
    victim.view[:] = 0xA5
    mine = zero.tx[0]
    mine.write(0, victim.iova, 60 | 3 << 20 | 0x2B << 24 | 60 << 46)
    zero.vf.write32(0x2018, 1)
    world.run()
    assert [violation.rule.name for violation in world.nic.violations] == ["dma_read"] or world.nic.faults
    assert zero.vf.dma_refused() and not one.vf.dma_refused() and not world.nic.dma_refused()
    assert one.received() == []
    world.nic.clear_violations()
    zero.rx[0].write(0, victim.iova, 0)
    one.transmit(frame(mac_of(1), mac_of(0)))
    world.run()
    assert (victim.view == 0xA5).all() and world.nic.faults
    world.nic.clear_violations()


@pytest.mark.parametrize("queues", [1, 2, 4])
def test_rss_spreads_over_as_many_queues_as_the_vf_asks_for(start: Start, queues: int) -> None:
    world = start(2, queues=4)
    zero, one = world.vfs
    one.vf.write32(0x300, (queues // 2) << 29)  # VFPSRTYPE.RQPL
    for port in range(32):
        packet = bytes.fromhex("4500002e0000000040110000") + bytes([10, 0, 0, 1, 10, 0, 0, port])
        whole = mac_of(1) + mac_of(0) + b"\x08\0" + packet + bytes([0, port, 0, 9, 0, 26, 0, 0]) + bytes(18)
        zero.transmit(whole)
    world.run()
    counts = [len(one.received(q)) for q in range(4)]
    assert sum(counts) == 32 and all(counts[:queues]) and not any(counts[queues:])


def test_queue_causes_are_the_vfs_own_and_follow_vtivar(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    fds = one.vf.enable_interrupts(3)
    one.vf.write32(0x120, 0x80 | 1 | 0x80 << 8)  # VTIVAR: receive queue 0 -> vector 1, transmit queue 0 -> vector 0
    one.vf.write32(0x108, 7)
    zero.transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    assert one.vf.read32(0x100) == 2 and os.eventfd_read(fds[1]) == 1
    one.transmit(frame(mac_of(1), mac_of(0)))
    world.run()
    assert one.vf.read32(0x100) == 1 and os.eventfd_read(fds[0]) == 1
    assert zero.vf.read32(0x100) == 0
    assert Registers(world.nic).EICR.read() & 0xFFFF == 0


@pytest.mark.slow
def test_sixty_three_vfs_talk_to_their_neighbours(start: Start) -> None:
    world = start(63)
    for n, vf in enumerate(world.vfs):
        vf.transmit(frame(mac_of(n), mac_of((n + 1) % 63)))
    world.run()
    assert all(len(vf.received()) == 1 for vf in world.vfs)


def test_memory_of_a_vf_that_only_messages_reach_is_read_and_written_by_its_own_messages(start: Start) -> None:
    world = start()
    zero, one = world.vfs
    size, ring, buffer = 1 << 16, 0x1000, 0x4000
    memories = [bytearray(size), bytearray(size)]
    sent = frame(mac_of(0), mac_of(1), 100)
    memories[0][buffer : buffer + 100] = sent
    memories[0][ring : ring + 16] = struct.pack("<QQ", buffer, 100 | 3 << 20 | 0x2B << 24 | 100 << 46)
    memories[1][ring : ring + 16] = struct.pack("<QQ", buffer, 0)
    for vf in (zero, one):
        vf.vf.write32(0x2028, 0)
        vf.vf.write32(0x1028, 0)
        vf.vf.read32(0x2028)
        vf.vf.read32(0x1028)
        vf.vf.map_dma_at(0, size, None)
    for low, value in ((0, ring), (4, 0), (8, 512), (0x10, 0), (0x28, 1 << 25)):
        one.vf.write32(0x1000 + low, value)
    for low, value in ((0, ring), (4, 0), (8, 512), (0x10, 0), (0x28, 1 << 25 | 32 | 1 << 8)):
        zero.vf.write32(0x2000 + low, value)
    assert one.vf.read32(0x1028) & zero.vf.read32(0x2028) & 1 << 25
    one.vf.write32(0x1018, 8)
    zero.vf.write32(0x2018, 1)
    for _ in range(50):
        world.nic.step()
        for vf, memory in zip((zero, one), memories):
            for request in vf.vf.dma_messages.take():
                place = slice(request.iova, request.iova + request.length)
                if request.data is not None:
                    memory[place] = request.data
                vf.vf.dma_messages.answer(request.id, bytes(memory[place]) if request.data is None else b"")
    assert memories[1][buffer : buffer + 100] == sent and memories[1][ring + 8] & 1
    assert memories[0][ring + 12] & 1 and world.nic.faults == []
    assert world.nic.dma_messages.fileno() == -1
