"""Queues that one call syncs and waits for: all of a port, or one of them.

A Session (session.py) is the set of all queues of a port. OneQueue is the set of one, in the process that opened the
port. A process that shares a queue makes a set of its own: waiting.py and queue.py need only what is named here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ixrings.rings import Interface, RxRing, TxRing
from ixrings.rings.hotloop import BusyWait, RxSync, TxSync
from ixrings.rings.queue import RxQueue, TxQueue

from .doorbells import Bell, Sync, ringing
from .gate import Gate
from .wakeups import Sides


class QueueSet(ABC):
    """Queues of one port, and how they are synced, waited for and looked after.

    name: of the port or the queue, for errors. port: the port's name. tx, rx: queues of the hot loop, one a ring.
    interface: the rings and buffers. bell: what needs a message after a sync.
    gate: close() waits for the threads inside. busy_poll, interval_s: options of the port (interrupt_interval_us).
    tx_sync, rx_sync: return whether look_after() is due. selectable: fileno() is in use. quiet_s: check the device
    after this time without an interrupt, because a device that is gone sends none.
    """

    quiet_s = 1.0

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
        self.name, self.port = name, port
        self.interface, self.bell, self.gate = interface, bell, gate
        self.busy_poll, self.interval_s = busy_poll, interval_s
        self.selectable = False
        self.set_queues(tx, rx)

    def set_queues(self, tx: Sequence[TxQueue], rx: Sequence[RxQueue]) -> None:
        """Sync and wait for these queues from now on."""
        self.tx, self.rx = tuple(tx), tuple(rx)
        self.tx_sync: Sync = ringing(self.bell, TxSync(self.tx))
        self.rx_sync: Sync = ringing(self.bell, RxSync(self.rx))
        self.busy_rx, self.busy_tx, self.busy = BusyWait(self.rx), BusyWait((), self.tx), BusyWait(self.rx, self.tx)

    # ---- what the process that has the queues provides ----

    @property
    @abstractmethod
    def interrupts(self) -> Sides:
        """The vectors of these queues. Raises PortError if they have none of their own."""

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
        return any(queue.ring.cur != queue.ring.tail for queue in self.rx)

    def has_room(self) -> bool:
        """Whether every TX ring has room."""
        return all(queue.ring.cur != queue.ring.tail for queue in self.tx)

    def has_some_room(self) -> bool:
        """Whether a TX ring has room."""
        return any(queue.ring.cur != queue.ring.tail for queue in self.tx)

    def pending(self) -> bool:
        """Whether the NIC has slots to send. Raises RingError."""
        return any(queue.ring.space != queue.num_slots - 1 for queue in self.tx)
