"""Mirror rules of the software 82599: copies of frames for a pool that watches (82599 8.2.3.27)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ixrings.hw.registers import Registers
from tests.support.vf_by_hand import SET_VLAN, UPDATE_XCAST, World, frame, mac_of

OUTSIDE = bytes([2, 0, 0, 0, 9, 9])
BROADCAST = b"\xff" * 6
LOOPED_BACK = 1 << 18
WATCHER = 2  # the VF that gets the copies


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(3, getattr(request, "param", "sink"))
    yield world
    world.close()


on_a_loop = pytest.mark.parametrize("world", ["loop"], indirect=True)


def watched(world: World) -> list[bytes]:
    world.run()
    return world.vfs[WATCHER].received()


def test_a_pool_rule_copies_what_the_pools_in_its_mask_receive(world: World) -> None:
    regs = Registers(world.nic)
    regs.PFMRVM[1].write(1 << 1)
    regs.PFMRCTL[1].write(VPME=1, MP=WATCHER)
    to_one, to_zero = frame(mac_of(0), mac_of(1)), frame(mac_of(1), mac_of(0))
    world.vfs[0].transmit(to_one, frame(mac_of(0), OUTSIDE))
    world.vfs[1].transmit(to_zero)
    assert watched(world) == [to_one] and world.vfs[WATCHER].status(0) & LOOPED_BACK
    assert world.vfs[1].received() == [to_one] and world.vfs[0].received() == [to_zero]


@on_a_loop
def test_an_uplink_rule_copies_what_comes_from_the_wire_also_for_nobody(world: World) -> None:
    Registers(world.nic).PFMRCTL[0].write(UPME=1, MP=WATCHER)
    to_wire = frame(mac_of(0), OUTSIDE)
    world.vfs[0].transmit(frame(mac_of(0), mac_of(1)), to_wire)
    assert watched(world) == [to_wire] and not world.vfs[WATCHER].status(0) & LOOPED_BACK


def test_a_downlink_rule_copies_what_goes_to_the_wire(world: World) -> None:
    Registers(world.nic).PFMRCTL[3].write(DPME=1, MP=WATCHER)
    to_wire, to_all = frame(mac_of(0), OUTSIDE), frame(mac_of(0), BROADCAST)
    world.vfs[0].transmit(to_wire, frame(mac_of(0), mac_of(1)), to_all)
    assert watched(world) == [to_wire, to_all] and world.vfs[WATCHER].status(0) & LOOPED_BACK
    assert Registers(world.nic).GPTC.read() == 2


def test_a_vlan_rule_copies_the_vlans_of_its_filters(world: World) -> None:
    regs = Registers(world.nic)
    for number, vlan in ((0, 7), (0, 8), (1, 7), (1, 8)):
        assert world.vfs[number].agrees(SET_VLAN | 1 << 16, vlan)
    entry = next(each.index for each in regs.PFVLVF if each.read().VI_EN and each.read().VLAN_ID == 7)
    regs.PFMRVLAN[entry // 32 * 4].write(1 << entry % 32)
    regs.PFMRCTL[0].write(VLME=1, MP=WATCHER)
    seven = frame(mac_of(0), mac_of(1), vlan=7)
    world.vfs[0].transmit(seven, frame(mac_of(0), mac_of(1), vlan=8), frame(mac_of(0), mac_of(1)))
    assert watched(world) == [seven] and len(world.vfs[1].received()) == 3


def test_a_pool_gets_one_copy_of_what_several_rules_and_filters_give_it(world: World) -> None:
    regs = Registers(world.nic)
    world.vfs[WATCHER].agrees(UPDATE_XCAST, 1)
    regs.PFMRVM[0].write(0b11)
    regs.PFMRCTL[0].write(VPME=1, DPME=1, MP=WATCHER)
    regs.PFMRCTL[1].write(UPME=1, DPME=1, MP=WATCHER)
    world.vfs[0].transmit(frame(mac_of(0), BROADCAST))
    assert watched(world) == [frame(mac_of(0), BROADCAST)]


def test_a_rule_copies_neither_spoofed_frames_nor_to_a_closed_pool(world: World) -> None:
    regs = Registers(world.nic)
    regs.PFMRCTL[0].write(DPME=1, MP=WATCHER)
    world.vfs[0].transmit(frame(mac_of(1), OUTSIDE))
    assert watched(world) == []
    regs.PFVFRE[0].write(regs.PFVFRE[0].read() & ~(1 << WATCHER))
    world.vfs[0].transmit(frame(mac_of(0), OUTSIDE))
    assert watched(world) == [] and regs.GPTC.read() == 1
