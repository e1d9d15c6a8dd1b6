"""A VF that does anything at all, seeded, beside two others with traffic: every byte of theirs is right, and no memory,
ring, register or counter of another function changes (82599 4.6.10, 8.3.5)."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest

from ixrings import Port, open_port
from ixrings.hw.emulator import Emulated82599, PfAgent, Policy
from ixrings.hw.emulator.blocks.virtual import registers_of
from ixrings.hw.registers import Registers
from tests.support.hostile_vf import (
    BROADCAST,
    CANARY,
    HOSTILE,
    IDLE,
    LEFT,
    PATTERN,
    RIGHT,
    VFS,
    Hostile,
    Neighbour,
    PfQueue,
    canary_of,
)
from tests.support.vf_by_hand import PATIENCE_S, VfByHand, frame, mac_of

MOVED = {"RDH", "RDT", "TDH", "TDT", "PVFGPRC", "PVFGORC_LSB", "PVFGORC_MSB", "PVFMPRC", "PVFGPTC", "PVFGOTC_LSB"}
MOVED |= {"PVFMAILBOX", "PFMAILBOX", "PFMBMEM", "PVTEICR", "PVFGOTC_MSB"}  # traffic and the agent change them
PORT_WIDE = ("PFVTCTL", "GCR_EXT", "GPIE", "MRQC", "MTQC", "PFDTXGSWC", "MAXFRS", "RXCTRL", "DMATXCTL", "VLNCTRL")
QUEUES = 4  # of a pool


class Storm:
    def __init__(self, seed: int, wire: Path) -> None:
        self.chance, self.wire = random.Random(seed), wire
        self.nic = Emulated82599(f"pcap=,{wire}", vfs=VFS, manual=True, rules=Policy.RECORD)
        self.agent = PfAgent(self.nic, serve=False)
        vfs = [VfByHand(self.nic.vf(n), self.agent) for n in range(VFS)]
        for n, vf in enumerate(vfs):
            self.agent.set_vf(n, mac=mac_of(n))
            vf.open(mac_of(n))
        self.left, self.right = (Neighbour(vfs[n], mac_of(n)) for n in (LEFT, RIGHT))
        self.pf = PfQueue(self.nic, VFS * QUEUES)
        self.canaries = [self.left.canary, self.right.canary, self.pf.canary, canary_of(vfs[IDLE].vf)]
        rings = [*self.left.vf.rx, *self.left.vf.tx, *self.right.vf.rx, *self.right.vf.tx, self.pf.ring]
        foreign = [ring.descriptors.iova for ring in rings] + [ring.buffers.iova for ring in rings]
        self.hostile = Hostile(vfs[HOSTILE].vf, self.chance, [*foreign, *(each.iova for each in self.canaries)])
        self.sent = 0
        self.before = self.registers()
        self.nic.clear_violations()

    def registers(self) -> dict[str, int]:
        """Of the other VFs, by label; what traffic changes is left out."""
        rows = {row.name: row for row in Registers.rows()}
        places = {
            (name, index)
            for vf in (LEFT, RIGHT, IDLE)
            for _, name, index in registers_of(vf, QUEUES)
            if name not in MOVED
        }
        places |= {(name, 0) for name in PORT_WIDE}
        places |= {(name, vf) for name in ("PFVML2FLT", "PFVMVIR") for vf in (LEFT, RIGHT, IDLE, VFS)}
        own = {(name, index) for _, name, index in registers_of(HOSTILE, QUEUES)}
        self.own = {rows[name].label(index) for name, index in own}
        self.own |= {f"{side}queue {HOSTILE * QUEUES + q}" for side in ("", "TX ", "RX ") for q in range(QUEUES)}
        return {
            rows[name].label(index): self.nic._engine.registers[rows[name].offset(index) // 4]
            for name, index in sorted(places - own)
        }

    def attack(self, actions: int) -> None:
        for action in self.chance.choices(self.hostile.actions(), k=actions):
            action()
        self.agent.work()

    def traffic(self) -> None:
        """A frame each way between the neighbours, and one to all."""
        there = frame(self.left.mac, self.right.mac, self.chance.randrange(60, 1515), self.sent)
        back = frame(self.right.mac, self.left.mac, self.chance.randrange(60, 1515), self.sent + 1)
        to_all = frame(self.left.mac, BROADCAST, 60 + self.sent % 100, self.sent)
        self.left.vf.transmit(there, to_all)
        self.right.vf.transmit(back)
        self.sent += 1
        while self.nic.step():
            pass
        assert expected(self.right.take()) == [there, to_all]
        assert expected(self.left.take()) == [back]
        assert expected(self.pf.take()) == [to_all]

    def check(self) -> None:
        assert [each.view[:4096].tobytes() for each in self.canaries] == [CANARY] * 4
        after = self.registers()
        assert {name: (value, after[name]) for name, value in self.before.items() if after[name] != value} == {}
        assert [str(each) for each in self.nic.violations if each.register not in self.own] == []
        assert PATTERN not in self.wire.read_bytes()

    def close(self) -> None:
        self.agent.close()
        self.nic.close()


def expected(frames: list[bytes]) -> list[bytes]:
    """Without the frames that the hostile VF sends in its own name."""
    assert not any(PATTERN in each for each in frames)
    return [each for each in frames if each[6:12] != mac_of(HOSTILE)]


def storm(seed: int, wire: Path, turns: int) -> None:
    world = Storm(seed, wire)
    try:
        for _ in range(turns):
            world.attack(4)
            world.traffic()
        world.check()
    finally:
        world.close()


@pytest.mark.breaks_rules
def test_neighbours_of_a_hostile_vf_keep_every_byte(tmp_path: Path) -> None:
    storm(82599, tmp_path / "wire.pcap", 40)


@pytest.mark.slow
@pytest.mark.breaks_rules
@pytest.mark.parametrize("seed", range(8))
def test_neighbours_of_a_hostile_vf_keep_every_byte_for_long(tmp_path: Path, seed: int) -> None:
    storm(seed, tmp_path / "wire.pcap", 400)


@pytest.mark.slow
@pytest.mark.breaks_rules
def test_ports_open_and_talk_while_another_vf_floods_its_mailbox_and_resets_itself() -> None:
    """With the agent's and the engine's own threads."""
    stopping = threading.Event()
    with ExitStack() as stack:
        nic = stack.enter_context(Emulated82599("sink", vfs=3, rules=Policy.IGNORE))
        agent = stack.enter_context(PfAgent(nic))
        agent.set_vf(HOSTILE, mac=mac_of(HOSTILE))  # else it may ask for more addresses, which ends its spoof check
        hostile = Hostile(nic.vf(HOSTILE), random.Random(1), [0x1000])

        def attack() -> None:
            actions = [hostile.flood_the_mailbox, hostile.ask_nonsense, hostile.reset, hostile.open_properly]
            while not stopping.is_set():
                hostile.chance.choice([*actions, hostile.spoof, hostile.post_descriptors])()

        thread = threading.Thread(target=attack)
        thread.start()
        stack.callback(thread.join)
        stack.callback(stopping.set)
        for turn in range(5):
            with open_port(nic.vf(LEFT)) as left, open_port(nic.vf(RIGHT)) as right:
                one, other = (bytes.fromhex(port.mac.replace(":", "")) for port in (left, right))
                there, back = frame(one, other, 60 + turn), frame(other, one, 1000 + turn)
                left.send([there] * 20)
                right.send([back] * 20)
                assert list(islice(theirs(right), 20)) == [there] * 20
                assert list(islice(theirs(left), 20)) == [back] * 20


def theirs(port: Port) -> Iterator[bytes]:
    """Without the frames that the hostile VF sends in its own name."""
    return (each for each in port.recv(timeout=PATIENCE_S) if each[6:12] != mac_of(HOSTILE))
