"""A virtual function that does anything at all: what belongs to others stays as it is (82599 8.3.5)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ixrings.hw.emulator import Emulated82599, PfAgent, Policy
from ixrings.hw.emulator.blocks.virtual import registers_of
from ixrings.hw.registers import BAR0_SIZE, Registers
from tests.support.vf_by_hand import ACK, MAILBOX, MEMORY, REQ, VFU, VfByHand, World, frame, mac_of, words_of

SEED = 82599
# STATUS, EICR and EICS, and where the PF sees requests and resets of VFs
SHOWN_TO_ALL = {0x08, 0x0600, 0x01C0, 0x0710, 0x0800, 0x0808}


@pytest.fixture
def world() -> Iterator[World]:
    world = World(4)
    world.agent.close()
    world.nic.close()
    world.nic = Emulated82599("sink", vfs=4, manual=True, rules=Policy.IGNORE)
    world.agent = PfAgent(world.nic, serve=False)
    world.vfs = [VfByHand(world.nic.vf(n), world.agent) for n in range(4)]
    for n, vf in enumerate(world.vfs):
        vf.open(mac_of(n))
        vf.queues()
    yield world
    world.close()


def of_vf(nic: Emulated82599, number: int) -> set[int]:
    """Offsets in the PF's BAR0 that belong to this VF, and those that its accesses may change."""
    rows = {row.name: row for row in Registers.rows()}
    own = {rows[name].offset(index) for _, name, index in registers_of(number, nic.queues_of_a_pool())}
    for name in ("PFMAILBOX", "PFVFRE", "PFVFTE"):
        own.add(rows[name].offset(number if name == "PFMAILBOX" else number // 32))
    return own | SHOWN_TO_ALL


def test_writes_of_a_vf_change_no_register_of_another_one_or_of_the_pf(world: World) -> None:
    nic, vf, chance = world.nic, world.vfs[1].vf, random.Random(SEED)
    own = of_vf(nic, 1)
    before = [nic._engine.registers[at // 4] for at in range(0, BAR0_SIZE, 4)]
    enables = Registers(nic).PFVFRE[0].read(), Registers(nic).PFVFTE[0].read()
    for _ in range(4000):
        vf.write32(chance.choice(range(0, 0x4000, 4)), chance.getrandbits(32))
        vf.read32(chance.choice(range(0, 0x4000, 4)))
    for _ in range(100):
        nic.step()
    changed = {4 * i for i, value in enumerate(before) if nic._engine.registers[i] != value}
    assert sorted(map(hex, changed - own)) == []
    after = Registers(nic).PFVFRE[0].read(), Registers(nic).PFVFTE[0].read()
    assert [(a ^ b) & ~2 for a, b in zip(enables, after)] == [0, 0]
    world.vfs[0].transmit(frame(mac_of(0), mac_of(2)))
    world.run()
    assert world.vfs[2].received() == [frame(mac_of(0), mac_of(2))]


def test_nonsense_in_a_mailbox_is_answered_and_other_vfs_are_served(world: World) -> None:
    vf, chance = world.vfs[1].vf, random.Random(SEED)
    for _ in range(300):
        vf.write32(MAILBOX, VFU)
        for i in range(16):
            vf.write32(MEMORY + 4 * i, chance.getrandbits(32) if i else chance.choice((chance.getrandbits(32), i + 1)))
        vf.write32(MEMORY, chance.getrandbits(8) << 16 | chance.randrange(0x14))
        vf.write32(MAILBOX, chance.choice((REQ, REQ | ACK, REQ | VFU, ACK, 0xFFFFFFFF)))
        world.agent.work()
        vf.read32(MAILBOX)
    assert world.vfs[2].agrees(0x08, 3)
    vf.write32(MAILBOX, 0)
    world.vfs[1].open(mac_of(1))


def test_a_vf_that_keeps_the_buffer_stops_only_its_own_mailbox(world: World) -> None:
    world.vfs[1].vf.write32(MAILBOX, REQ | VFU)
    world.agent.work()
    assert world.vfs[2].agrees(0x08, 3)
    world.agent.link_changed()
    Registers(world.nic).PFMAILBOX[1].write(RVFU=1)
    assert world.vfs[1].agrees(0x08, 3)


def test_a_vf_that_resets_itself_in_traffic_disturbs_no_other(world: World) -> None:
    sent = 0
    for turn in range(30):
        world.vfs[0].transmit(frame(mac_of(0), mac_of(2), 60 + turn), frame(mac_of(0), mac_of(1)))
        sent += 1
        world.nic.step(1)
        if turn % 3 == 0:
            world.vfs[1].vf.reset()
        world.agent.work()
        world.run()
    assert len(world.vfs[2].received()) == sent


def test_a_vf_that_takes_no_frames_blocks_no_other(world: World) -> None:
    """PFQDE drops what finds no descriptor, whatever the VF says."""
    for turn in range(4):
        world.vfs[0].transmit(*(frame(mac_of(0), mac_of(1), 60 + i % 8) for i in range(31)))
        world.vfs[0].transmit(frame(mac_of(0), mac_of(2), 60 + turn))
        world.run()
    assert len(world.vfs[1].received()) == 63 and len(world.vfs[2].received()) == 4


def test_a_pf_with_fewer_pools_than_vfs_leaves_the_others_without_queues() -> None:
    nic = Emulated82599(vfs=63, manual=True, rules=Policy.IGNORE)
    regs = Registers(nic)
    regs.GCR_EXT.update(VT_MODE=1)
    regs.PFVTCTL.write(VT_ENA=1)
    for number in (16, 62):
        vf = nic.vf(number)
        for offset in range(0, 0x4000, 4):
            vf.write32(offset, 0x0200_0000)
            vf.read32(offset)
        assert [vf.read32(offset) for offset in (0x1010, 0x1028, 0x2018, 0x120)] == [0, 0, 0, 0]
        vf.reset()
    nic.close()


def test_a_vf_that_asks_for_its_own_address_again_keeps_it_and_takes_no_further_filter(world: World) -> None:
    vf = world.vfs[1]
    before = len(world.agent.setup._addresses)
    for _ in range(130):
        assert vf.agrees(1 << 16 | 0x06, *words_of(mac_of(1)))
    assert vf.agrees(0x06, 0, 0)
    assert len(world.agent.setup._addresses) == before
    world.vfs[0].transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    assert vf.received() == [frame(mac_of(0), mac_of(1))]
