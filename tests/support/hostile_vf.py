"""A virtual function that does anything at all, with a seed, and the neighbours that must not notice it."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

from ixrings.hw.device import DmaMemory
from ixrings.hw.emulator import Emulated82599, VirtualFunction
from ixrings.hw.registers import Registers
from tests.support.by_hand import BUFFER, DD, Ring
from tests.support.vf_by_hand import ACK, MAILBOX, MEMORY, REQ, VFU, VfByHand, frame, mac_of
from tests.support.vfio_user_peer import memfd

VFS = 4
HOSTILE, LEFT, RIGHT, IDLE = 1, 0, 2, 3
SLOTS = 64
PATTERN = b"canary! "
CANARY = PATTERN * (4096 // len(PATTERN))
BROADCAST = b"\xff" * 6
NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 31, 63, 64, 127, 128, 1514, 1518, 9728, 0xFFFF, 0x10000, 1 << 25, 1 << 26]
NUMBERS += [0x0200_0000, 0x8000_0000, 0xC000_0000, (1 << 32) - 1]
OPCODES = [*range(0x14), 0x77, 0x100, 0xFFFF]


class Neighbour:
    """A VF with one queue each way that takes each frame once, and gives the descriptor back."""

    def __init__(self, vf: VfByHand, mac: bytes) -> None:
        self.vf, self.mac = vf, mac
        self.vf.queues()
        self.next = 0
        self.canary = canary_of(vf.vf)

    def take(self) -> list[bytes]:
        frames, ring = [], self.vf.rx[0]
        while True:
            _, q1 = ring.read(self.next)
            if not q1 & DD:
                break
            frames.append(ring.bytes(self.next, q1 >> 32 & 0xFFFF))
            ring.write(self.next, ring.buffer(self.next), 0)
            self.next = (self.next + 1) % ring.slots
        self.vf.vf.write32(0x1018, (self.next - 1) % ring.slots)
        return frames


class PfQueue:
    """The PF's own receive queue, in the pool after those of the VFs; the agent has none."""

    def __init__(self, nic: Emulated82599, queue: int) -> None:
        self.ring, self.regs, self.queue, self.next = Ring(nic, SLOTS), Registers(nic), queue, 0
        nic.enable_bus_master(True)
        regs, ring = self.regs, self.ring
        regs.RDBAL[queue].write(ring.descriptors.iova & 0xFFFF_FFFF)
        regs.RDBAH[queue].write(ring.descriptors.iova >> 32)
        regs.RDLEN[queue].write(SLOTS * 16)
        regs.SRRCTL[queue].write(BSIZEPACKET=2, BSIZEHEADER=4, DESCTYPE=1)
        regs.DCA_RXCTRL[queue].update(MUST_BE_ZERO=0)
        regs.RXDCTL[queue].write(ENABLE=1)
        regs.RXDCTL[queue].read()
        for index in range(SLOTS):
            ring.write(index, ring.buffer(index), 0)
        regs.RDT[queue].write(SLOTS - 1)
        self.canary = canary_of(nic)

    def take(self) -> list[bytes]:
        frames = []
        while self.ring.read(self.next)[1] & DD:
            frames.append(self.ring.bytes(self.next, self.ring.read(self.next)[1] >> 32 & 0xFFFF))
            self.ring.write(self.next, self.ring.buffer(self.next), 0)
            self.next = (self.next + 1) % SLOTS
        self.regs.RDT[self.queue].write((self.next - 1) % SLOTS)
        return frames


def canary_of(device: Emulated82599 | VirtualFunction) -> DmaMemory:
    """4 KB that nobody is told of."""
    memory = device.alloc_dma(4096)
    memory.view[:4096] = list(CANARY)
    return memory


class Hostile:
    """What VF 1 does. foreign: addresses of others."""

    def __init__(self, vf: VirtualFunction, chance: random.Random, foreign: Sequence[int]) -> None:
        self.vf, self.chance, self.foreign = vf, chance, foreign
        self.rings = [Ring(vf, SLOTS) for _ in range(2)]
        self.spoofed = 0

    def actions(self) -> list[Callable[[], None]]:
        return [
            self.write_anywhere,
            self.write_a_queue,
            self.post_descriptors,
            self.spoof,
            self.change_the_source,
            self.send_what_is_not_its_own,
            self.ask_nonsense,
            self.flood_the_mailbox,
            self.point_elsewhere,
            self.choose_vectors,
            self.reset,
            self.configure,
            self.open_properly,
            self.remap,
        ]

    def word(self) -> int:
        return self.chance.choice((self.chance.choice(NUMBERS), self.chance.getrandbits(32)))

    def address(self) -> int:
        ring = self.chance.choice(self.rings)
        mine = (ring.descriptors.iova, ring.buffers.iova + BUFFER * self.chance.randrange(SLOTS), ring.writeback.iova)
        return self.chance.choice((*mine, *mine, *mine, *self.foreign)) + self.chance.choice((0, 0, 0, 0, 1, 8, 2047))

    def queue(self) -> int:
        """The offset of a queue's registers; those from 4 on are not the VF's."""
        return self.chance.choice((0x1000, 0x2000)) + 0x40 * self.chance.choice((0, 0, 0, 1, 3, 4, 7))

    # ---- registers ----

    def write_anywhere(self) -> None:
        for _ in range(8):
            self.vf.write32(4 * self.chance.randrange(0x1000), self.word())
            self.vf.read32(4 * self.chance.randrange(0x1000))

    def write_a_queue(self) -> None:
        base = self.queue()
        for _ in range(4):
            self.vf.write32(base + 4 * self.chance.randrange(16), self.word())

    def point_elsewhere(self) -> None:
        base, address = self.queue(), self.address()
        at = base + self.chance.choice((0x00, 0x38))  # the ring, or the head's write-back
        self.vf.write32(at, address & 0xFFFF_FFFF | self.chance.getrandbits(1))
        self.vf.write32(at + 4, address >> 32)

    def choose_vectors(self) -> None:
        for offset in (0x120, 0x124, 0x140, 0x108, 0x104, 0x110, 0x114, 0x820, 0x824):
            self.vf.write32(offset, self.word())
        with suppress(ValueError):
            self.vf.enable_interrupts(self.chance.randrange(5))

    # ---- queues ----

    def post_descriptors(self) -> None:
        ring, at = self.chance.choice(self.rings), self.chance.randrange(SLOTS)
        for i in range(self.chance.randrange(1, 9)):
            length = self.chance.choice((0, 1, 5, 12, 13, 14, 17, 60, 1500, 0xFFFF))
            command = self.chance.choice((0x2B, 0x2B, 0x2B, self.chance.getrandbits(8)))
            kind = self.chance.choice((3, 3, 3, 2, 0, 1))
            q1 = length | kind << 20 | command << 24 | length << 46
            ring.write((at + i) % SLOTS, self.address(), self.chance.choice((q1, q1, q1, self.chance.getrandbits(64))))
        self.vf.write32(self.queue() + 0x18, self.chance.choice((at, at + 8, self.word())))

    def start_queue(self) -> None:
        """Queue 0 of each direction, as it should be."""
        for ring, base in zip(self.rings, (0x1000, 0x2000)):
            enable = 1 << 25 | (32 | 1 << 8 if base == 0x2000 else 0)
            values = (0x28, 0), (0, ring.descriptors.iova & 0xFFFF_FFFF), (4, ring.descriptors.iova >> 32)
            for low, value in (*values, (8, SLOTS * 16), (0x10, 0), (0x18, 0), (0x28, enable)):
                self.vf.write32(base + low, value)
        self.vf.write32(0x1014, 2 | 4 << 8 | 1 << 25)

    def spoof(self) -> None:
        """Frames of a neighbour to a neighbour, whole or in pieces, in a VLAN or not, too short to look at."""
        self.vf.enable_bus_master(True)
        self.start_queue()
        ring = self.rings[1]
        sent = frame(mac_of(LEFT), self.chance.choice((mac_of(RIGHT), BROADCAST, mac_of(9))), fill=0x5F)
        if self.chance.getrandbits(1):
            sent = sent[:12] + struct.pack("!HH", 0x8100, self.chance.getrandbits(16)) + sent[12:]
        length = self.chance.choice((len(sent), len(sent), 12, 13, 14, 16, 17))
        cut = self.chance.choice((length, length, 1, 6, 11, 12))
        ring.buffers.view[: len(sent)] = list(sent)
        pieces = [(0, min(cut, length)), (min(cut, length), length)]
        used = [(low, high) for low, high in pieces if high > low]
        extra = self.chance.choice((0, 0, 0x40))  # VLE
        for i, (low, high) in enumerate(used):
            command = 0x2A | extra | int(i == len(used) - 1)
            ring.write(i, ring.buffers.iova + low, high - low | 3 << 20 | command << 24 | length << 46)
        self.vf.write32(0x2018, len(used))
        self.spoofed += 1

    def change_the_source(self) -> None:
        """A checksum whose place is inside of the addresses."""
        self.vf.enable_bus_master(True)
        self.start_queue()
        ring, sent = self.rings[1], frame(mac_of(HOSTILE), mac_of(RIGHT))
        ring.buffers.view[: len(sent)] = list(sent)
        context = self.chance.choice((0, 20, 4 << 9 | 20, 13 << 9 | 20))
        ring.write(0, context, 2 << 20 | 0x20 << 24 | self.chance.choice((0, 1, 2, 3)) << 10 | 8 << 40 | 9 << 48)
        command, options = self.chance.choice((0x2B, 0xAB)), self.chance.choice((1, 2, 3)) << 40
        ring.write(1, ring.buffers.iova, 60 | 3 << 20 | command << 24 | options | 60 << 46)
        ring.write(2, ring.buffers.iova, 60 | self.chance.choice((6, 8, 11)) << 16 | 0xF << 24)  # legacy: CSO
        self.vf.write32(0x2018, self.chance.choice((2, 3)))

    def send_what_is_not_its_own(self) -> None:
        """A frame with its own address, whose other part is memory of another function."""
        self.vf.enable_bus_master(True)
        self.start_queue()
        ring, sent = self.rings[1], frame(mac_of(HOSTILE), self.chance.choice((mac_of(RIGHT), mac_of(9))))
        ring.buffers.view[: len(sent)] = list(sent)
        ring.write(0, ring.buffers.iova, 30 | 3 << 20 | 0x2A << 24 | 130 << 46)
        ring.write(1, self.chance.choice((*self.foreign, ring.buffers.iova)), 100 | 3 << 20 | 0x2B << 24 | 130 << 46)
        self.vf.write32(0x2018, 2)

    # ---- the mailbox ----

    def ask_nonsense(self) -> None:
        self.vf.write32(MAILBOX, VFU)
        for i in range(1, 16):
            self.vf.write32(MEMORY + 4 * i, self.word())
        opcode = self.chance.choice(OPCODES) | self.chance.getrandbits(8) << 16 | self.chance.choice((0, 0, 0, 7 << 29))
        self.vf.write32(MEMORY, self.chance.choice((opcode, opcode, opcode, self.word())))
        self.vf.write32(MAILBOX, self.chance.choice((REQ, REQ, REQ | VFU, REQ | ACK, self.word())))

    def flood_the_mailbox(self) -> None:
        for _ in range(16):
            self.vf.write32(MAILBOX, self.chance.choice((REQ, ACK, REQ | ACK, VFU, 0xFF)))

    def open_properly(self) -> None:
        """As a driver does; the answers do not matter."""
        self.vf.enable_bus_master(True)
        self.vf.write32(MAILBOX, VFU)
        self.vf.write32(MEMORY, 1)
        self.vf.write32(MAILBOX, REQ)

    # ---- the function ----

    def reset(self) -> None:
        if self.chance.getrandbits(1):
            self.vf.reset()
        else:
            self.vf.write32(0, 1 << 26)

    def configure(self) -> None:
        size = self.chance.choice((1, 2, 4))
        at = self.chance.choice((4, 6, 0x10, 0x70, 0x72, 0xA0, 0xA8, 0x104, 4 * self.chance.randrange(1024)))
        at -= at % size
        self.vf.config_write(at, size, self.word() & (1 << 8 * size) - 1)
        self.vf.config_read(at, size)
        if self.chance.getrandbits(1):
            self.vf.enable_bus_master(True)

    def remap(self) -> None:
        """Addresses of others as its own: this memory is another one, which only the VF sees."""
        iova = self.chance.choice(self.foreign) & ~0xFFF
        with memfd(4096) as fd, suppress(OSError):
            self.vf.map_dma_at(iova, 4096, fd, 0)
            self.vf.map_dma_at(iova, 4096, fd, 0)  # refused: windows do not overlap
        if self.chance.getrandbits(1):
            with suppress(OSError):
                self.vf.unmap_dma_range(iova, 4096)
