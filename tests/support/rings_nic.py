"""The NIC's side of a ring, played on plain memory, for the tests of rings/."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ixrings.rings import Interface, Region, RxRing, TxRing
from ixrings.rings.hotloop import RxSync, TxSync
from ixrings.rings.pages import PageTable
from ixrings.rings.queue import RxQueue, TxQueue

IOVA = 0x10_0000_0000

DD = 1 << 0
EOP = 1 << 1
RXE = 1 << 29


@dataclass(frozen=True)
class TxDescriptor:
    """The fields of an advanced data descriptor (82599 7.2.3.2.4)."""

    address: int
    dtalen: int
    reserved: int
    mac: int
    dtyp: int
    eop: bool
    ifcs: bool
    rs: bool
    dext: bool
    other_commands: int
    status_to_popts: int
    paylen: int

    @classmethod
    def decode(cls, address: int, q1: int) -> TxDescriptor:
        command = q1 >> 24 & 0xFF
        return cls(
            address=address,
            dtalen=q1 & 0xFFFF,
            reserved=q1 >> 16 & 3,
            mac=q1 >> 18 & 3,
            dtyp=q1 >> 20 & 15,
            eop=bool(command & 1),
            ifcs=bool(command & 2),
            rs=bool(command & 8),
            dext=bool(command & 0x20),
            other_commands=command & 0b11010100,
            status_to_popts=q1 >> 32 & 0x3FFF,
            paylen=q1 >> 46,
        )


class TxSide:
    """A TX ring, its queue, and the NIC that reads its descriptors."""

    def __init__(self, region: Region, ring: TxRing, *, iova: int | PageTable = IOVA) -> None:
        self.region = region
        self.ring = ring
        self.memory: npt.NDArray[np.uint64] = np.zeros((ring.num_slots, 2), np.uint64)
        self.words: npt.NDArray[np.uint32] = np.zeros(32, np.uint32)  # TDT at 0, the head write-back at 16
        base = self.words.ctypes.data
        self.queue = TxQueue(
            ring, region, region_iova=iova, descriptors=self.memory.ctypes.data, doorbell=base, head_writeback=base + 64
        )
        self.queue.memory = self.memory, self.words
        self.sync = TxSync([self.queue])

    @property
    def tdt(self) -> int:
        return int(self.words[0])

    def descriptor(self, i: int) -> TxDescriptor:
        return TxDescriptor.decode(int(self.memory[i, 0]), int(self.memory[i, 1]))

    def nic_sends(self, upto: int | None = None) -> None:
        """The NIC has sent everything before descriptor `upto` (None: before TDT), and writes its head back."""
        self.words[16] = self.tdt if upto is None else upto

    def put(self, *lengths: int, flags: int = 0, chained: bool = False) -> None:
        """Advance frames of these lengths, in one slot each, or one frame of these parts."""
        span = self.ring.reserve(len(lengths))
        assert len(span) == len(lengths)
        span.len[:] = lengths
        span.flags[:] = flags
        if chained:
            span.flags[:-1] |= 0x20
        self.ring.advance(len(lengths))


class RxSide:
    """An RX ring, its queue, and the NIC that writes its descriptors back."""

    def __init__(self, region: Region, ring: RxRing, *, fill: bool = True, iova: int | PageTable = IOVA) -> None:
        self.region = region
        self.ring = ring
        self.memory: npt.NDArray[np.uint64] = np.full((ring.num_slots, 2), 0xFFFF_FFFF_FFFF_FFFF, np.uint64)
        self.words: npt.NDArray[np.uint32] = np.zeros(16, np.uint32)  # RDT at 0
        self.queue = RxQueue(
            ring, region, region_iova=iova, descriptors=self.memory.ctypes.data, doorbell=self.words.ctypes.data
        )
        self.queue.memory = self.memory, self.words
        self.sync = RxSync([self.queue])
        self.rdh = 0
        if fill:
            self.queue.fill()

    @property
    def rdt(self) -> int:
        return int(self.words[0])

    @property
    def nic_space(self) -> int:
        return (self.rdt - self.rdh) % self.ring.num_slots

    def nic_receives(self, *lengths: int, chained: bool = False, status: int = 0) -> None:
        """The NIC completes frames of these lengths, in one descriptor each, or one frame of these parts."""
        for k, length in enumerate(lengths):
            assert self.nic_space > 0, "the NIC has no descriptor"
            assert int(self.memory[self.rdh, 1]) & DD == 0, "a descriptor was posted with DD set"
            ends = not chained or k == len(lengths) - 1
            self.memory[self.rdh, 1] = length << 32 | status | DD | (EOP if ends else 0)
            self.rdh = (self.rdh + 1) % self.ring.num_slots

    def buffer_of(self, i: int) -> int:
        """The index of the buffer that descriptor `i` points to."""
        offset = int(self.memory[i, 0]) - IOVA - self.region.buffers_offset
        assert offset % self.region.buf_size == 0
        return offset // self.region.buf_size


class Bench:
    """A port with one TX and one RX ring in a region, and its NIC on plain memory."""

    def __init__(
        self, slots: int = 64, *, buf_size: int = 2048, region: Region | None = None, name: str = "ix0"
    ) -> None:
        self.region = region or Region.for_ports(tx_slots=slots, rx_slots=slots, buf_size=buf_size)
        self.interface: Interface = self.region.register(name, tx_slots=[slots], rx_slots=[slots])
        self.tx = TxSide(self.region, self.interface.tx_rings[0])
        self.rx = RxSide(self.region, self.interface.rx_rings[0])
