"""A virtual function that does anything at all: what belongs to others stays as it is (82599 8.3.5)."""

from __future__ import annotations

import ctypes
import os
import random
from collections.abc import Iterator

import pytest

from ixrings import open_port
from ixrings.hw.emulator import Emulated82599, PfAgent, Policy, RuleBroken
from ixrings.hw.emulator.blocks.virtual import registers_of
from ixrings.hw.errors import DeviceGone
from ixrings.hw.registers import BAR0_SIZE, Registers
from tests.support.vf_by_hand import ACK, MAILBOX, MEMORY, REQ, VFU, VfByHand, World, frame, mac_of, words_of
from tests.support.vfio_user_peer import memfd

SEED = 82599
# STATUS, EICR and EICS, and where the PF sees requests and resets of VFs
SHOWN_TO_ALL = {0x08, 0x0600, 0x01C0, 0x0710, 0x0800, 0x0808}


@pytest.fixture
def world() -> Iterator[World]:
    world = World(4, rules=Policy.IGNORE)
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


# ---- ways around anti-spoofing ----


def send_in_pieces(vf: VfByHand, *pieces: bytes, options: int = 0, context: tuple[int, int] | None = None) -> None:
    """One frame, a descriptor for each piece; `options`: POPTS. A context descriptor comes first."""
    ring, at = vf.tx[0], 0
    words = [] if context is None else [context]
    length = sum(map(len, pieces))
    for i, piece in enumerate(pieces):
        ring.buffers.view[at : at + len(piece)] = list(piece)
        command = 0x2A | int(i == len(pieces) - 1)
        words.append((ring.buffers.iova + at, len(piece) | 3 << 20 | command << 24 | options << 40 | length << 46))
        at += len(piece)
    for word in words:
        ring.write(ring.tail, *word)
        ring.tail = (ring.tail + 1) % ring.slots
    vf.vf.write32(0x2018, ring.tail)


def test_a_spoofed_frame_is_dropped_and_counted_however_short_and_in_however_many_pieces(world: World) -> None:
    regs = Registers(world.nic)
    for length in (1, 6, 11, 12, 13, 14, 60):
        for cut in (0, 1, 6, 11):
            whole = frame(mac_of(0), b"\xff" * 6)[:length]
            send_in_pieces(world.vfs[1], *(piece for piece in (whole[:cut], whole[cut:]) if piece))
            world.run()
            assert (regs.SSVPC.read(), regs.GPTC.read()) == (1, 0), (length, cut)
    assert world.vfs[2].received() == []


def test_no_checksum_is_written_over_the_source_address(world: World) -> None:
    """MACLEN is at least 14 (7.2.3.2.3), else the queue stops."""
    for vf, options, context in ((1, 1, (20, 1 << 10)), (3, 2, (0, 0))):  # IXSM: bytes 10, 11. TXSM, UDP: bytes 6, 7
        words = context[0], 2 << 20 | 0x20 << 24 | context[1]
        send_in_pieces(world.vfs[vf], frame(mac_of(vf), mac_of(2)), options=options, context=words)
    world.run()
    assert world.vfs[2].received() == [] and Registers(world.nic).GPTC.read() == 0
    ring, sent = world.vfs[0].tx[0], frame(mac_of(0), mac_of(2))
    ring.buffers.view[:60] = list(sent)
    ring.write(0, ring.buffers.iova, 60 | 10 << 16 | 0xF << 24)  # a legacy descriptor: CSO 10; EOP, IFCS, IC, RS
    world.vfs[0].vf.write32(0x2018, 1)
    world.run()
    assert world.vfs[2].received() == [sent]


def test_the_vlan_that_is_checked_is_the_outermost(world: World) -> None:
    """A tag of its own in the frame, and the tag of others by the descriptor."""
    regs, one = Registers(world.nic), world.vfs[1]
    assert one.agrees(1 << 16 | 0x04, 7) and world.vfs[2].agrees(1 << 16 | 0x04, 9)
    regs.PFVFSPOOF[0].write(0x202)
    one.transmit(frame(mac_of(1), mac_of(2), vlan=7), tag=9)
    world.run()
    assert world.vfs[2].received() == [] and regs.SSVPC.read() == 1


# ---- what the functions of a process share ----


@pytest.mark.breaks_rules
def test_a_rule_that_a_vf_breaks_is_raised_in_its_own_driver() -> None:
    nic = Emulated82599("sink", vfs=2, manual=True, rules=Policy.RAISE)
    with nic, PfAgent(nic, serve=False) as agent:
        zero, one = (VfByHand(nic.vf(n), agent) for n in range(2))
        for n, vf in enumerate((zero, one)):
            vf.open(mac_of(n))
            vf.queues()
        one.tx[0].write(0, one.tx[0].buffer(0), 60 | 3 << 20 | 0x2B << 24 | 59 << 46)  # a wrong PAYLEN
        one.vf.write32(0x2018, 1)
        nic.step()
        Registers(nic).STATUS.read()
        zero.vf.read32(0x8)
        with pytest.raises(RuleBroken, match="PAYLEN"):
            one.vf.read32(0x8)


def test_no_function_takes_the_addresses_of_all_others(world: World) -> None:
    """32 TiB are shared equally, as a process has 128 TiB: four functions with 32 TiB each took all."""
    with memfd(4096) as fd:
        os.ftruncate(fd, 4 << 40)
        world.vfs[1].vf.map_dma_at(1 << 50, 4 << 40, fd)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            world.vfs[1].vf.map_dma_at(1 << 51, 4 << 40, fd)
        world.vfs[2].vf.map_dma_at(1 << 50, 4 << 40, fd)


def test_tails_that_a_vf_stores_after_its_physical_function_was_closed_do_no_harm() -> None:
    nic = Emulated82599(vfs=1, manual=True)
    vf = nic.vf(0)
    with PfAgent(nic, serve=False):
        address = vf.doorbell(0x2018)
        nic.close()
    ctypes.c_uint32.from_address(address).value = 1  # as the C loop of a port does
    vf.close()


@pytest.mark.slow
def test_a_port_on_a_vf_outlives_its_physical_function() -> None:
    nic = Emulated82599(vfs=1)
    agent = PfAgent(nic)
    with open_port(nic.vf(0)) as port:
        port.send([bytes(60)])
        agent.close()
        nic.close()
        port.send([bytes(60)] * 3)
        with pytest.raises(DeviceGone, match="Its PF was reset or closed"):
            port.flush()
