"""The hot loop from Python: one call each for txsync, rxsync, forward and busy_wait.

A sync takes microseconds and keeps the GIL, so two threads that sync one queue take turns. Only BusyWait releases the
GIL. On a Python that can run without the GIL, a sync takes its queues first: two threads that sync different queues run
at the same time, and two that sync the same queue are told so (exclusive.c).
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar, cast

from .queue import (
    ATTENTION_DRIVER,
    ATTENTION_VIOLATION,
    MOVED_SHIFT,
    Caller,
    Pair,
    Queue,
    RxQueue,
    TxQueue,
    library,
    pointers,
    raise_violations,
    without_gil,
)

MAX_LIMIT = 2**32 - 1
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # of the build: the GIL may be on or off
ALONE = {"txsync": "txsync_alone", "rxsync": "rxsync_alone", "forward": "forward_alone"}
AnyQueue = TypeVar("AnyQueue", bound=Queue)


def syncing(function: str) -> Callable[..., int]:
    """txsync, rxsync or forward of the library, as this Python needs it. Raises LibraryError."""
    return cast("Callable[..., int]", getattr(library(), ALONE[function] if FREE_THREADED else function))


class Mover(Caller):
    """A caller whose function moves indices and rings doorbells, so a held queue stops it (Queue.hold)."""

    __slots__ = ("_queues",)
    _queues: tuple[Queue, ...]
    function: ClassVar[str]

    def hold(self) -> None:
        self._call = self._resume

    def _resume(self, *arguments: object) -> int:
        """What a call does while a queue is held. The first call after that goes on in C."""
        if not all(queue.resume() for queue in self._queues):
            return ATTENTION_DRIVER
        self._call = syncing(self.function)
        for queue in self._queues:
            queue.settle(self)
        return self._call(*arguments)


class Sync(Mover, Generic[AnyQueue]):
    """Sync all queues of one direction in one C call: TxSync or RxSync.

    Returns whether the driver should look after the NIC: a queue's packets reached its statistics_due (a sync of one
    slot does not check that), or it made 4096 syncs. Raises RingError on a violation: that ring did not move and was
    reset, and the other rings were synced.
    """

    __slots__ = ("_count", "_table")

    def __init__(self, queues: Sequence[AnyQueue]) -> None:
        self._queues = tuple(queues)
        self._table = pointers(self._queues)
        self._count = len(self._queues)
        self._call = syncing(self.function)
        for queue in self._queues:
            queue.call_through(self)

    def __call__(self) -> bool:
        attention = self._call(self._table, self._count)
        if attention:
            if attention & ATTENTION_VIOLATION:
                raise_violations(self._queues, attention)
            return True
        return False


class TxSync(Sync[TxQueue]):
    """txsync: hand over the advanced slots, take back the sent ones. Source: netmap(4), SYNC; 82599 7.2.3."""

    __slots__ = ()
    function = "txsync"


class RxSync(Sync[RxQueue]):
    """rxsync: hand over the released slots, take the received ones. Source: netmap(4), SYNC; 82599 7.1.9."""

    __slots__ = ()
    function = "rxsync"


class Forward(Mover):
    """Zero-copy forwarding in one C call: rxsync, swap of buffers from each RX ring to its TX ring, txsync.

    pairs: (from, to), with both rings in one region. frames, slots: moved by all pairs since they were made. attention:
    after a call, the same as a Sync returns. Raises ValueError when the rings of a pair do not share their buffers.
    """

    __slots__ = ("_count", "_pairs", "_table", "attention")
    forwards = True
    function = "forward"

    def __init__(self, *pairs: tuple[RxQueue, TxQueue]) -> None:
        for rx, tx in pairs:
            if not rx.shares_buffers(tx):
                raise ValueError(
                    f"{rx.ring.name} and {tx.ring.name} are in different regions; open both ports with open_ports()"
                )
        self._queues: tuple[Queue, ...] = tuple(queue for pair in pairs for queue in pair)
        self._pairs = [Pair(ctypes.addressof(rx), ctypes.addressof(tx), 0, 0) for rx, tx in pairs]
        self._table = pointers(self._pairs)
        self._count = len(pairs)
        self._call = syncing(self.function)
        for queue in self._queues:
            queue.call_through(self)
        self.attention = False

    @property
    def frames(self) -> int:
        return sum(pair.frames for pair in self._pairs)

    @property
    def slots(self) -> int:
        return sum(pair.slots for pair in self._pairs)

    def __call__(self, limit: int = 256) -> int:
        """Move up to `limit` whole frames from each RX ring, and return how many moved.

        Raises RingError, and ValueError when `limit` is out of range.
        """
        if not 0 <= limit <= MAX_LIMIT:  # ctypes would drop the upper bits
            raise ValueError(f"limit is {limit}; choose 0 to {MAX_LIMIT}")
        returned = int(self._call(self._table, self._count, limit))
        self.attention = bool(returned & ATTENTION_DRIVER)
        if returned & ATTENTION_VIOLATION:
            raise_violations(self._queues, returned)
        return returned >> MOVED_SHIFT


class BusyWait(Caller):
    """Spin, without the GIL, until a sync of one of these queues would find something.

    For RX that is a descriptor written back, for TX a head write-back after the last sync.
    """

    __slots__ = ("_queues", "_rx", "_rx_count", "_tx", "_tx_count")

    def __init__(self, rx: Sequence[RxQueue], tx: Sequence[TxQueue] = ()) -> None:
        self._queues = (*rx, *tx)
        self._rx = pointers(rx)
        self._rx_count = len(rx)
        self._tx = pointers(tx)
        self._tx_count = len(tx)
        self._call = without_gil("busy_wait")  # it waits, and it only reads
        for queue in self._queues:
            queue.call_through(self)

    def __call__(self, timeout_ns: int) -> bool:
        """True as soon as there is something, False after `timeout_ns`. Keep it short: signal handlers wait for it."""
        return bool(self._call(self._rx, self._rx_count, self._tx, self._tx_count, ctypes.c_uint64(max(timeout_ns, 0))))
