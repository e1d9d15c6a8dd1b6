"""Rings that the daemon syncs: how a program with a handle syncs them and waits for them.

A request is a word in shared memory (rings/client.py). The daemon makes a wake descriptor of each direction readable
when a poll that found nothing becomes ready.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ixrings.rings import Interface, Region, RxRing, TxRing
from ixrings.rings.client import (
    EVENT_ERROR,
    EVENT_RX,
    EVENT_TX,
    Client,
    ClientForward,
    ClientRxSync,
    ClientSpin,
    ClientTxSync,
)

from .errors import PortClosed, PortError
from .gate import Gate
from .queue_set import Moving, PortSet, QueueSet
from .wakeups import Sides, Wakeups
from .worker import Nap

PATIENCE_S = 50e-6  # a wait spins so long before it sleeps


class Descriptors(Protocol):
    """Of a handle: what the daemon makes readable, and the connection, which hangs up when the daemon ends."""

    wake_rx: int
    wake_tx: int

    @property
    def socket(self) -> int: ...

    def check(self) -> None:
        """Raises PortClosed if the daemon has ended, or has taken the port away."""

    def nothing_comes(self) -> PortClosed:
        """The error for rings that have ended. It says what ended behind them."""

    def close(self) -> None:
        """Close the descriptors in this process. The daemon closes the handle when nobody has its connection."""


class HandleWakeups(Wakeups):
    """One direction. Armed: the daemon was asked, found nothing, and makes the wake descriptor readable later.

    The daemon alone reads and writes that descriptor, so drain() only ignores it until the next arm().
    """

    def __init__(self, wake: int, socket: int, event: int, poll: Callable[[int], int], others: dict[int, int]) -> None:
        super().__init__([], others)
        self._wake, self._event, self._poll = wake, event, poll
        self._armed = False
        self._nap = Nap()
        self._epoll.register(wake, 0)
        self._epoll.register(socket, 0)  # hung up: the daemon has ended

    @property
    def armed(self) -> bool:
        return self._armed

    def arm(self) -> bool:
        """As of Wakeups: False if it was armed. Also True if the direction is ready, and nothing was armed."""
        if self._armed:
            return False
        if not self._poll(self._event):
            self._look(True)
        return True

    def drain(self) -> int:
        came = 0
        for fd, _ in self._epoll.poll(0):
            if fd == self._wake:
                came |= self._event
            elif fd in self._bits:
                came |= self._bits[fd]
                with suppress(BlockingIOError):
                    os.eventfd_read(fd)
        if came:
            self._look(False)
        return came

    def _look(self, armed: bool) -> None:
        if armed != self._armed:
            self._armed = armed
            self._epoll.modify(self._wake, select.EPOLLIN if armed else 0)

    def wait(self, timeout_s: float) -> bool:
        """Sleep. It naps if the direction is always ready, such as a TX ring with room that is not enough."""
        if self._armed or timeout_s == 0:
            return super().wait(timeout_s)
        return self._nap(timeout_s)


class HandleSides(Sides):
    """Both directions."""

    def __init__(self, handle: Descriptors, poll: Callable[[int], int]) -> None:
        super().__init__()
        self.join(
            HandleWakeups(handle.wake_rx, handle.socket, EVENT_RX, poll, {self._nudge: EVENT_RX}),
            HandleWakeups(handle.wake_tx, handle.socket, EVENT_TX, poll, {}),
        )
        self._nap = Nap()

    def wait(self, timeout_s: float) -> bool:
        if (self.rx.armed and self.tx.armed) or timeout_s == 0:
            return super().wait(timeout_s)
        return self._nap(timeout_s)


class HandleSet(PortSet):
    """The rings of one handle.

    handle: the connection with its descriptors, which are open as long as this. open_queue: opens a handle of one
    queue.
    """

    def __init__(
        self,
        name: str,
        port: str,
        interface: Interface,
        region: Region,
        client: Client,
        handle: Descriptors,
        *,
        longest: int,
        busy_poll: bool,
        open_queue: Callable[[int], HandleSet],
    ) -> None:
        super().__init__(name, port, interface, Gate(port), busy_poll=busy_poll, interval_s=PATIENCE_S)
        self.region, self.longest = region, longest
        self.client = client
        self.handle = handle
        self.making = threading.RLock()
        self.tx_rings, self.rx_rings = tuple(interface.tx_rings), tuple(interface.rx_rings)
        self.client_rx = ClientRxSync(client, self.rx_rings, self.gate)
        self.client_tx = ClientTxSync(client, self.tx_rings, self.gate)
        self.rx_sync, self.tx_sync = self.client_rx, self.client_tx
        spins = [
            ClientSpin(client, rx, tx)
            for rx, tx in ((self.rx_rings, ()), ((), self.tx_rings), (self.rx_rings, self.tx_rings))
        ]
        self.busy_rx, self.busy_tx, self.busy = spins
        self._calls: tuple[ClientRxSync | ClientTxSync | ClientSpin, ...] = (self.client_rx, self.client_tx, *spins)
        self._open_queue = open_queue
        self._sides: HandleSides | None = None
        self._queues: dict[int, HandleSet] = {}

    # ---- QueueSet ----

    @property
    def interrupts(self) -> Sides:
        with self.making:
            if self._sides is None:
                self._sides = HandleSides(self.handle, self._poll)
            return self._sides

    def forward_to(self, target: QueueSet) -> Moving:
        if not isinstance(target, HandleSet) or target.region.address != self.region.address:
            raise ValueError(
                f"{self.name} and {target.name} are in different regions; open two ports of one daemon that share one"
            )
        pairs = [(rx, target.tx_rings[i % len(target.tx_rings)]) for i, rx in enumerate(self.rx_rings)]
        return ClientForward(self.client_rx, target.client_tx, pairs)

    def look_after(self) -> None:
        self.handle.check()

    def check(self) -> None:
        self.handle.check()
        if self.rx_rings:  # a busy wait has not polled yet
            self._poll(EVENT_RX)

    def _poll(self, events: int) -> int:
        """Client.poll(). Raises PortClosed if the RX rings have ended: netmap's POLLERR, and no rule is broken."""
        violations = self.client.violations
        ready = self.client.poll(events)
        if events == EVENT_RX and ready == EVENT_ERROR and violations == self.client.violations:
            raise self.handle.nothing_comes()
        return ready

    def look_for_standstill(self) -> None:
        """The daemon looks at link and registers."""

    def why_unsent(self) -> str:
        self.handle.check()
        return "what is behind the port does not take them, or not fast enough; see port.link"

    def descriptors(self, ring: TxRing | RxRing) -> npt.NDArray[np.uint64]:
        raise PortError(
            f"descriptors of {ring.name} are the daemon's: only the program that opens the NIC can read them"
        )

    def check_selectable(self) -> None:
        """Each handle has descriptors of its own."""

    # ---- PortSet ----

    def numbers(self) -> set[int]:
        return {ring.ringid for ring in (*self.tx_rings, *self.rx_rings)}

    def more_queues(self, index: int) -> str:
        return ""

    def queue(self, index: int) -> QueueSet:
        if index not in self._queues:
            self._queues[index] = self._open_queue(index)
        return self._queues[index]

    def warn_of_losses(self, name: str) -> None:
        """The daemon counts for all programs: nothing here says whose frames were lost."""

    def close_gate(self) -> None:
        self.gate.close(self._wake)
        for queue in self._queues.values():
            queue.close_gate()

    def _wake(self) -> None:
        if self._sides is not None:
            self._sides.nudge()

    def leave(self, sentence: str) -> None:
        self.interface.leave(sentence)
        self.refuse(lambda: PortError(sentence))
        self.handle.close()
        for queue in self._queues.values():
            queue.leave(sentence)

    # ---- the end ----

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """C writes to no descriptor of the handle any more, and each call raises `refusal()`."""
        self.client.end()
        for each in self._calls:
            each.refuse(refusal)

    def close(self) -> None:
        """After close_gate()."""
        for queue in self._queues.values():
            queue.close()
        self.refuse(lambda: PortClosed(f"port {self.name} is closed"))
        if self._sides is not None:
            self._sides.close()
        self.interface.close()
        self.region.close()
        self.handle.close()
