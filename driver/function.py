"""The PCI function of a port: what a physical and a virtual function do each in its own way.

A port has one Function, which hides the registers: PhysicalFunction (physical_function.py) has the whole NIC,
VirtualFunction (virtual_function.py) what the PF leaves to it. Rings, hot loop and waits know only what is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ixrings.hw.device import Device, DmaMemory
from ixrings.rings import RxRing, TxRing
from ixrings.rings.pages import PageTable
from ixrings.rings.queue import RxQueue, TxQueue
from ixrings.rings.ring import RateLimiter

from .config import OnePortOptions
from .interrupts import Interrupts
from .link import Link
from .queue_registers import QueueRegisters
from .queues import DESCRIPTOR_SIZE
from .statistics import PortStatistics
from .vlan import Vlan


@dataclass(frozen=True)
class Bound:
    """The NIC's queues that this port has rings for (`-k`, /R, /T)."""

    tx: Collection[int]
    rx: Collection[int]


@dataclass(frozen=True)
class Joined:
    """Rings joined to queues, and the IOVA of each descriptor ring and each head write-back word."""

    tx: tuple[TxQueue, ...]
    rx: tuple[RxQueue, ...]
    tx_iova: tuple[int, ...]
    rx_iova: tuple[int, ...]
    head_iova: tuple[int, ...]
    memory: tuple[DmaMemory, ...]
    seen_at: int | PageTable  # the region's byte 0, or its pages, as the NIC sees them

    def descriptors(self, ring: TxRing | RxRing) -> npt.NDArray[np.uint64]:
        """The descriptors of a ring of this port, shape (num_slots, 2): the two halves of each."""
        index = next(index for index, queue in enumerate((*self.tx, *self.rx)) if queue.ring is ring)
        block = self.memory[1 + index]  # block 0 holds the head write-back words
        return block.view[: DESCRIPTOR_SIZE * ring.num_slots].view("<u8").reshape(-1, 2)

    def head_word(self, tx: TxQueue) -> npt.NDArray[np.uint32]:
        """The word that the NIC writes its head to, shape (1,)."""
        block = self.memory[0]
        start = tx.head_writeback - block.address
        return block.view[start : start + 4].view(np.uint32)


class Counting(Protocol):
    """Counters since the port was opened, beyond the bits of their registers. due_at: read them before this time."""

    due_at: float

    def accumulate(self) -> None:
        """Read everything once. Raises DeviceGone."""

    def totals(self) -> PortStatistics:
        """As of the last accumulate()."""


class Function(ABC):
    """What a port needs of its PCI function besides rings. Errors are those of the Port's methods.

    queues: the registers of each queue. statistics: from set_up() on. rates: of the transmit
    queues.
    """

    statistics: Counting
    rates: RateLimiter

    def __init__(self, device: Device, options: OnePortOptions, queues: QueueRegisters) -> None:
        self.device, self.options, self.queues = device, options, queues

    # ---- from start to stop, in this order (82599 4.6.3) ----

    @abstractmethod
    def quiet(self, port: str) -> None:
        """From any state to a function without DMA and interrupts. port: its name, for errors."""

    @abstractmethod
    def set_up(self, joined: Joined, buf_size: int) -> None:
        """Set up link, filters and queues. Bus master is on."""

    @abstractmethod
    def make_interrupts(self, bound: Bound) -> Interrupts:
        """Its vectors, all masked."""

    @abstractmethod
    def start(self, *, receives: bool) -> None:
        """Start reception, if there are receive rings: they have their buffers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop all DMA and interrupts. Raises DeviceGone."""

    # ---- an open port ----

    @property
    def runs(self) -> bool:
        """Whether queues can be switched on now: a PF may be in reset, which a virtual function waits for."""
        return True

    @abstractmethod
    def check_present(self) -> None:
        """Raises DeviceGone."""

    @abstractmethod
    def check(self) -> None:
        """After a sync that asks for it, and after a wait that found nothing: see what others have changed."""

    @abstractmethod
    def refusal(self, what: str) -> str:
        """The end of a sentence: why this function does not have `what` (an attribute or an option)."""

    @abstractmethod
    def link(self) -> Link:
        """The link now. Raises DeviceGone."""

    def glance(self) -> Link:
        """The link as registers show it that nobody's read changes, for a __repr__. Raises DeviceGone."""
        return self.link()

    # ---- settings ----

    @abstractmethod
    def mac(self) -> bytes:
        """The port's own address."""

    @abstractmethod
    def set_mac(self, address: str | bytes) -> None:
        """Raises ValueError if it is not unicast."""

    @property
    @abstractmethod
    def promiscuous(self) -> bool:
        """Whether every good frame is received."""

    @abstractmethod
    def set_promiscuous(self, on: bool) -> None: ...

    @abstractmethod
    def set_multicast(self, groups: Sequence[bytes], *, everything: bool) -> None:
        """Receive these groups instead of the previous ones, or all. Raises ValueError."""

    @abstractmethod
    def vlan(self, queues: Sequence[int]) -> Vlan:
        """Filter and tag stripping; queues: the port's receive queues."""
