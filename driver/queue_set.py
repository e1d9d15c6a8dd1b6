"""Queues that one call syncs and waits for: all of a port, or one of them.

waiting.py and queue.py need only what QueueSet names. NicQueues are queues that this process syncs by itself: a Session
(session.py) has all queues of a port, OneQueue one of them, WorkerSet a queue that another process shares. A HandleSet
(handle_set.py) has rings that the daemon syncs. PortSet is what a Port needs besides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ixrings.rings import Interface, Region, RxRing, TxRing
from ixrings.rings.hotloop import BusyWait, RxSync, TxSync
from ixrings.rings.queue import RxQueue, TxQueue

from .doorbells import Bell, Sync, join, ringing
from .gate import Gate
from .wakeups import Sides

Spin = Callable[[int], bool]
"""Spins without the GIL for at most so many ns. Returns whether a sync would find something."""


class Moving(Protocol):
    """Forwards between the rings of two sets. attention: after a call, whether look_after() of both is due."""

    attention: bool

    def __call__(self, limit: int = ...) -> int:
        """Move up to `limit` frames from each RX ring, and return how many moved."""


class QueueSet(ABC):
    """Rings of one port, and how they are synced, waited for and looked after.

    name: of the port or the queue, for errors. port: the port's name. tx_rings, rx_rings: those of the set.
    interface: all rings and buffers of the port. gate: close() waits for the threads inside. busy_poll, interval_s:
    options of the port (interrupt_interval_us). tx_sync, rx_sync: return whether look_after() is due. busy_rx, busy_tx,
    busy: spin for a direction, or both. selectable: fileno() is in use. quiet_s: check the device after this time
    without an interrupt, because a device that is gone sends none. check_due_s: when a wait that found something checks
    it, too.
    """

    quiet_s = 1.0
    tx_rings: tuple[TxRing, ...]
    rx_rings: tuple[RxRing, ...]
    tx_sync: Sync
    rx_sync: Sync
    busy_rx: Spin
    busy_tx: Spin
    busy: Spin

    def __init__(
        self, name: str, port: str, interface: Interface, gate: Gate, *, busy_poll: bool, interval_s: float
    ) -> None:
        self.name, self.port = name, port
        self.interface, self.gate = interface, gate
        self.busy_poll, self.interval_s = busy_poll, interval_s
        self.selectable = False
        self.check_due_s = 0.0

    # ---- what the process that has the queues provides ----

    @property
    @abstractmethod
    def interrupts(self) -> Sides:
        """The vectors of these queues. Raises PortError if they have none of their own."""

    @abstractmethod
    def forward_to(self, target: QueueSet) -> Moving:
        """Forwards from the RX rings here to the TX rings of `target`: ring k to ring k modulo their number.

        Raises ValueError if the rings do not share their buffers.
        """

    @abstractmethod
    def look_after(self) -> None:
        """Do what a sync asks for by returning True: read the counters when due, check the device.

        Raises DeviceGone, DmaRefused.
        """

    @abstractmethod
    def check(self) -> None:
        """After a wait that found nothing: check the device. Raises DeviceGone, DmaRefused."""

    @abstractmethod
    def look_for_standstill(self) -> None:
        """After a wait that found nothing. Raises PortStuck if frames move only after the port is opened again."""

    @abstractmethod
    def why_unsent(self) -> str:
        """What link and queues show when frames are not sent in time. Raises DeviceGone."""

    @abstractmethod
    def descriptors(self, ring: TxRing | RxRing) -> npt.NDArray[np.uint64]:
        """The descriptors of a ring of this set, shape (num_slots, 2): the two halves of each."""

    @abstractmethod
    def check_selectable(self) -> None:
        """Raises PortError if another fileno() is in use that takes the messages of these queues."""

    # ---- as of the last sync ----

    def received(self) -> bool:
        """Whether a frame waits in an RX ring."""
        return any(ring.cur != ring.tail for ring in self.rx_rings)

    def has_room(self) -> bool:
        """Whether every TX ring has room."""
        return all(ring.cur != ring.tail for ring in self.tx_rings)

    def has_some_room(self) -> bool:
        """Whether a TX ring has room."""
        return any(ring.cur != ring.tail for ring in self.tx_rings)

    def pending(self) -> bool:
        """Whether the NIC has slots to send. Raises RingError."""
        return any(ring.pending for ring in self.tx_rings)


class NicQueues(QueueSet):
    """Queues of the hot loop, one a ring, which this process syncs. bell: what needs a message after a sync."""

    def __init__(
        self,
        name: str,
        port: str,
        tx: Sequence[TxQueue],
        rx: Sequence[RxQueue],
        interface: Interface,
        bell: Bell,
        gate: Gate,
        *,
        busy_poll: bool,
        interval_s: float,
    ) -> None:
        super().__init__(name, port, interface, gate, busy_poll=busy_poll, interval_s=interval_s)
        self.bell = bell
        self.set_queues(tx, rx)

    def set_queues(self, tx: Sequence[TxQueue], rx: Sequence[RxQueue]) -> None:
        """Sync and wait for these queues from now on."""
        self.tx, self.rx = tuple(tx), tuple(rx)
        self.tx_rings = tuple(queue.ring for queue in tx)
        self.rx_rings = tuple(queue.ring for queue in rx)
        self.tx_sync = ringing(self.bell, TxSync(self.tx))
        self.rx_sync = ringing(self.bell, RxSync(self.rx))
        self.busy_rx, self.busy_tx, self.busy = BusyWait(self.rx), BusyWait((), self.tx), BusyWait(self.rx, self.tx)

    def forward_to(self, target: QueueSet) -> Moving:
        if not isinstance(target, NicQueues):
            raise ValueError(f"{self.name} and {target.name} are in different regions; open both through the daemon")
        return join(self.bell, target.bell, *((rx, target.tx[i % len(target.tx)]) for i, rx in enumerate(self.rx)))


class PortSet(QueueSet):
    """All queues of an open port, and what a Port needs for frames, queues and its end.

    region: the memory. making: held by who makes queues or shares them. shared: the numbers of queues that other
    processes have. longest: bytes of the longest frame that send() takes, without CRC, with a VLAN tag.
    """

    region: Region
    making: AbstractContextManager[object]
    shared: frozenset[int] = frozenset()
    longest: int

    @abstractmethod
    def numbers(self) -> set[int]:
        """Of all queues, also those that other processes have."""

    @abstractmethod
    def queue(self, index: int) -> QueueSet:
        """The set of one queue, the same each time. The caller holds `making`."""

    @abstractmethod
    def more_queues(self, index: int) -> str:
        """How to open the port so that it has queue `index`, as the end of a sentence."""

    @abstractmethod
    def warn_of_losses(self, name: str) -> None:
        """Warn the caller of recv(), once a port, if frames came and none was received. Raises DeviceGone."""

    @abstractmethod
    def close_gate(self) -> None:
        """End the waits of other threads, let nobody in any more, and wait until all have left."""

    @abstractmethod
    def leave(self, sentence: str) -> None:
        """In a forked child: refuse every use of what belongs to the parent, with this sentence (forked.py)."""
