"""A virtual function driven by hand: its mailbox, one or more queues, frames. The small driver of the VF tests."""

from __future__ import annotations

import struct
import time

from ixrings.hw.emulator import Emulated82599, PfAgent, Policy, VirtualFunction
from tests.support.by_hand import BUFFER, DD, EOP, Ring

MAILBOX, MEMORY = 0x2FC, 0x200
REQ, ACK, VFU, PFU, PFSTS, PFACK, RSTI, RSTD = (1 << i for i in range(8))
OK, REFUSED, CTS = 0x8000_0000, 0x4000_0000, 0x2000_0000
API_1_0, API_1_1, API_1_2, API_1_3, API_1_4, API_1_5 = 0, 2, 3, 4, 5, 6
RESET, SET_MAC, SET_MULTICAST, SET_VLAN, SET_LPE, SET_MACVLAN = range(1, 7)
NEGOTIATE, GET_QUEUES, UPDATE_XCAST, GET_LINK_STATE = 0x08, 0x09, 0x0C, 0x10
PATIENCE_S = 20.0


def words_of(mac: bytes) -> tuple[int, int]:
    return int.from_bytes(mac[:4], "little"), int.from_bytes(mac[4:], "little")


class VfByHand:
    """Asks by mailbox and waits for the answer; `agent` works when it is asked, so nothing happens in between."""

    def __init__(self, vf: VirtualFunction, agent: PfAgent) -> None:
        self.vf, self.agent = vf, agent
        self.vf.enable_bus_master(True)
        self.rx: list[Ring] = []
        self.tx: list[Ring] = []

    def wait(self, bit: int) -> int:
        """VFMAILBOX once it shows `bit`."""
        until = time.monotonic() + PATIENCE_S
        while True:
            shown = self.vf.read32(MAILBOX)
            if shown & bit:
                return shown
            assert time.monotonic() < until, f"VFMAILBOX never showed {bit:#x}"

    def send(self, *words: int) -> None:
        self.vf.write32(MAILBOX, VFU)
        assert self.vf.read32(MAILBOX) & VFU
        for i, word in enumerate(words):
            self.vf.write32(MEMORY + 4 * i, word)
        self.vf.write32(MAILBOX, REQ)

    def answer(self, words: int = 16) -> list[int]:
        self.vf.write32(MAILBOX, VFU)
        got = [self.vf.read32(MEMORY + 4 * i) for i in range(words)]
        self.vf.write32(MAILBOX, ACK)
        return got

    def ask(self, *words: int) -> list[int]:
        """The answer to a request."""
        self.send(*words)
        self.agent.work()
        self.wait(PFSTS)
        reply = self.answer()
        self.agent.work()  # the acknowledgement
        return reply

    def agrees(self, *words: int) -> bool:
        return self.ask(*words)[0] == words[0] | OK | CTS

    def open(self, mac: bytes, api: int = API_1_3) -> None:
        """RESET, negotiation, address, the frame length of an untagged port."""
        self.vf.enable_bus_master(True)
        self.ask(RESET)
        assert self.agrees(NEGOTIATE, api)
        assert self.agrees(SET_MAC, *words_of(mac))
        assert self.agrees(SET_LPE, 1518)
        if api >= API_1_2:
            assert self.agrees(UPDATE_XCAST, 1)

    # ---- queues ----

    def receive_queue(self, q: int = 0, slots: int = 64, vme: int = 0) -> Ring:
        ring, base = Ring(self.vf, slots), 0x1000 + 0x40 * q
        for low, value in (
            (0x00, ring.descriptors.iova & 0xFFFFFFFF),
            (0x04, ring.descriptors.iova >> 32),
            (0x08, slots * 16),
            (0x0C, 1 << 9),
            (0x14, 2 | 4 << 8 | 1 << 25),
            (0x28, 1 << 25 | vme << 30),
        ):
            self.vf.write32(base + low, value)
        assert self.vf.read32(base + 0x28) & 1 << 25
        for index in range(slots):
            ring.write(index, ring.buffer(index), 0)
        self.vf.write32(base + 0x18, slots - 1)
        self.rx.append(ring)
        return ring

    def transmit_queue(self, q: int = 0, slots: int = 64) -> Ring:
        ring, base = Ring(self.vf, slots), 0x2000 + 0x40 * q
        for low, value in (
            (0x00, ring.descriptors.iova & 0xFFFFFFFF),
            (0x04, ring.descriptors.iova >> 32),
            (0x08, slots * 16),
            (0x28, 1 << 25 | 32 | 1 << 8),
        ):
            self.vf.write32(base + low, value)
        assert self.vf.read32(base + 0x28) & 1 << 25
        self.tx.append(ring)
        return ring

    def queues(self, count: int = 1) -> None:
        for q in range(count):
            self.receive_queue(q)
            self.transmit_queue(q)

    def transmit(self, *frames: bytes, q: int = 0, tag: int | None = None) -> None:
        """Frames in the ring, RS on each, the tail written; `tag`: inserted by the descriptor."""
        ring = self.tx[q]
        if tag is not None:
            ring.write(ring.tail, tag << 16 | 14 << 9, 0x2 << 20 | 1 << 29)
            ring.tail = (ring.tail + 1) % ring.slots
        for frame in frames:
            index = ring.tail
            ring.buffers.view[index * BUFFER : index * BUFFER + len(frame)] = list(frame)
            command = 0x20 | 1 | 2 | 8 | (0x40 if tag is not None else 0)
            ring.write(index, ring.buffer(index), len(frame) | 3 << 20 | command << 24 | len(frame) << 46)
            ring.tail = (ring.tail + 1) % ring.slots
        self.vf.write32(0x2018 + 0x40 * q, ring.tail)

    def received(self, q: int = 0) -> list[bytes]:
        """The frames from the ring's start to the first descriptor without DD."""
        frames = []
        for index in range(self.rx[q].slots):
            _, q1 = self.rx[q].read(index)
            if not q1 & DD:
                break
            assert q1 & EOP
            frames.append(self.rx[q].bytes(index, q1 >> 32 & 0xFFFF))
        return frames

    def status(self, index: int, q: int = 0) -> int:
        """Q1 of a written-back receive descriptor."""
        return self.rx[q].read(index)[1]


def mac_of(vf: int) -> bytes:
    return bytes([2, 0, 0, 0, 1, vf])


def frame(source: bytes, to: bytes, length: int = 60, fill: int = 0, vlan: int | None = None) -> bytes:
    head = to + source + (struct.pack("!HH", 0x8100, vlan) if vlan is not None else b"") + b"\x88\xb5"
    return head + bytes((fill + i) & 0xFF for i in range(length - len(head)))


class World:
    """A NIC with VFs, an agent that works when asked, each VF opened with queues."""

    def __init__(
        self,
        vfs: int = 2,
        wire: str = "sink",
        *,
        kind: str = "linux",
        queues: int = 1,
        rules: Policy = Policy.RECORD,
        **agent: int,
    ) -> None:
        self.nic = Emulated82599(wire, vfs=vfs, manual=True, rules=rules)
        self.agent = PfAgent(self.nic, kind, serve=False, **agent)
        self.vfs = [VfByHand(self.nic.vf(n), self.agent) for n in range(vfs)]
        for n, vf in enumerate(self.vfs):
            vf.open(mac_of(n))
            vf.queues(queues)

    def run(self) -> None:
        while self.nic.step():
            pass

    def close(self) -> None:
        self.agent.close()
        self.nic.close()
