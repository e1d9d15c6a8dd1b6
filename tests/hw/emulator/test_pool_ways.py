"""Frames in VT mode that go the way of the frame before them go where a look at every frame sends them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ixrings.hw.registers import Registers
from tests.support.steered import UDP, ethernet, packet
from tests.support.vf_by_hand import World, frame, mac_of

OUTSIDE, GROUP = bytes([2, 0, 0, 0, 1, 99]), bytes.fromhex("01005e000001")
VFS, TURNS = 3, 4
COUNTERS = ("PVFGPRC", "PVFMPRC", "PVFGPTC", "PVFGORC_LSB", "PVFGOTC_LSB")
NO_FRAME_HAS = 0x1234  # an EtherType
Change = Callable[[Registers], None]

CHANGES: tuple[Change, ...] = (
    lambda regs: regs.PFVFSPOOF[0].write(MACAS=regs.PFVFSPOOF[0].read().MACAS ^ 1),
    lambda regs: regs.PFDTXGSWC.write(LBE=not regs.PFDTXGSWC.read().LBE),
    lambda regs: regs.PFVTCTL.write(regs.PFVTCTL.read(), RPL_EN=not regs.PFVTCTL.read().RPL_EN),
    lambda regs: regs.PFVFRE[0].write(regs.PFVFRE[0].read() ^ 2),
    lambda regs: regs.PFVMTXSW[0].write(regs.PFVMTXSW[0].read() ^ 1),
    lambda regs: regs.VLNCTRL.write(regs.VLNCTRL.read(), VFE=not regs.VLNCTRL.read().VFE),
    lambda regs: regs.PFVML2FLT[1].write(regs.PFVML2FLT[1].read(), AUPE=not regs.PFVML2FLT[1].read().AUPE),
    lambda regs: regs.MPSAR[2].write(regs.MPSAR[2].read() ^ 4),
    lambda regs: regs.PFVMVIR[0].write(0, VLANA=2 - regs.PFVMVIR[0].read().VLANA),
)


def some_frame(choose: random.Random, port: bytes) -> bytes:
    to = choose.choice([*map(mac_of, range(VFS)), *map(mac_of, range(VFS)), port, OUTSIDE, GROUP, b"\xff" * 6])
    source = choose.choice([mac_of(0), mac_of(0), mac_of(0), mac_of(1), OUTSIDE])
    body = choose.choice([ethernet(packet(UDP)), ethernet(packet(UDP)), ethernet(packet(UDP), tag=7), bytes(80)])
    length = choose.choice([40, 60, 61, 80, 200])
    return (to + source + body[12:]).ljust(length, b"\0")


def outcome(seed: int, quick: bool) -> list[object]:
    """What all functions and the wire have after some frames of VF 0, with changes of registers between them. Without
    `quick`, a filter that matches no frame makes the NIC look at every frame."""
    choose = random.Random(seed)
    world = World(VFS, "loop")
    try:
        regs = Registers(world.nic)
        if not quick:
            regs.ETQF[0].write(ETYPE=NO_FRAME_HAS, FILTER_EN=1)
        for _ in range(TURNS):
            some = [some_frame(choose, world.nic.mac) for _ in range(3)]
            sent = [each for each in some for _ in range(choose.randrange(1, 3))]
            world.vfs[0].transmit(*sent)
            world.run()
            choose.choice(CHANGES)(regs)
        found: list[object] = [regs.GPRC.read(), regs.GPTC.read(), regs.SSVPC.read(), regs.GORCL.read()]
        found += [regs.QPTC[0].read(), regs.QBTC_L[0].read(), regs.QPRC[0].read(), regs.BPTC.read(), regs.MPTC.read()]
        found += [getattr(regs, name)[vf].read() for name in COUNTERS for vf in range(VFS + 1)]
        for vf in world.vfs:
            frames = vf.received()
            found.append([(each, vf.status(index)) for index, each in enumerate(frames)])
            found.append(vf.vf.read32(0x100))  # VTEICR
        return found
    finally:
        world.close()


def test_a_frame_with_another_source_does_not_go_the_way_of_the_genuine_one_before_it() -> None:
    world = World(VFS, "sink")
    try:
        genuine, spoofed = frame(mac_of(0), mac_of(1)), frame(OUTSIDE, mac_of(1))
        world.vfs[0].transmit(genuine, genuine, spoofed, genuine)
        world.run()
        assert world.vfs[1].received() == [genuine] * 3
        assert Registers(world.nic).SSVPC.read() == 1
    finally:
        world.close()


@pytest.mark.breaks_rules()
@pytest.mark.parametrize("seed", range(2))
def test_frames_like_the_one_before_go_where_a_look_at_each_sends_them(seed: int) -> None:
    assert outcome(seed, True) == outcome(seed, False)


@pytest.mark.slow
@pytest.mark.breaks_rules()
def test_many_frames_like_the_one_before_go_where_a_look_at_each_sends_them() -> None:
    received = 0
    for seed in range(2, 40):
        quick = outcome(seed, True)
        assert quick == outcome(seed, False), seed
        received += sum(len(part) for part in quick if isinstance(part, list))
    assert received > 100
