"""A worker's side of a shared queue: it maps what the handle has, and syncs the queue itself (share.py, lease.py)."""

from __future__ import annotations

import mmap
import os
import socket
import time
import types
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from ixrings.rings import Interface, RxRing, TxRing
from ixrings.rings.memory import Attached, Mapping, map_shared
from ixrings.rings.queue import RxQueue, TxQueue

from . import forked
from .errors import PortClosed, PortError
from .gate import Gate
from .lease import CONTROL, DOORBELLS, PAGE, REGION, Control, Facts, Place, Word, other_has_ended, region_iova
from .queue import Queue
from .queue_set import NicQueues, QueueSet
from .queues import DESCRIPTOR_SIZE
from .wakeups import Sides, Wakeups

SHORTEST_NAP_S, LONGEST_NAP_S = 20e-6, 1e-3  # between two looks at the rings of a wait, after it has spun for a while
# The regions of this process by their files: queues of one region forward to each other only through one mapping.
REGIONS: WeakValueDictionary[tuple[int, int], Mapping] = WeakValueDictionary()


@dataclass
class NoBell:
    """Tails are words in memory (driver/doorbells.py)."""

    doorbells_need_ringing: bool = False

    def ring_doorbells(self) -> None:
        pass


class Lease:
    """The right to a queue, from the token on until it is given back. Owns the channel."""

    def __init__(self, facts: Facts, channel: socket.socket, control: Control) -> None:
        self.facts, self._channel, self._control = facts, channel, control
        self.ended = ""  # otherwise the sentence that says why
        self.queues: tuple[TxQueue | RxQueue, ...] = ()
        control.words[Word.PID] = os.getpid()

    def check(self) -> None:
        """Raises PortClosed, after giving the queue back, when the owner wants it back or has ended."""
        if self._control.words[Word.REVOKED]:
            self.give_back(f"{self.facts.name} was taken back by the process that opened it")
        elif other_has_ended(self._channel):
            self.give_back(
                f"the process {self.facts.owner} that opened {self.facts.port} has ended, and its port with it"
            )
        if self.ended:
            raise PortClosed(self.ended)

    def give_back(self, sentence: str) -> None:
        """Touch the queue no more, and tell the owner that it was left between two syncs. May be called again."""
        if self.ended:
            return
        self.ended = sentence
        for queue in self.queues:
            queue.ring.leave(sentence)
            queue.close(sentence, PortClosed)
        self._control.words[Word.RETURNED] = 1
        self._channel.close()

    def leave(self, sentence: str) -> None:
        """In a forked child: the queue is the parent's."""
        if not self.ended:
            self.ended = sentence
            for queue in self.queues:
                queue.ring.leave(sentence)
                queue.leave(sentence)
            self._channel.close()


class Nap:
    """Sleeps that become longer while nothing comes: at line rate a ring of 1024 slots is full after 69 us."""

    def __init__(self) -> None:
        self._next_s = SHORTEST_NAP_S
        self._ended_at = 0.0

    def __call__(self, timeout_s: float) -> bool:
        """Sleep, at most for `timeout_s`. Returns False: nothing is known to have come."""
        if time.monotonic() - self._ended_at > self._next_s:  # the program did something else meanwhile
            self._next_s = SHORTEST_NAP_S
        time.sleep(min(timeout_s, self._next_s))
        self._next_s = min(2 * self._next_s, LONGEST_NAP_S)
        self._ended_at = time.monotonic()
        return False


class NapWakeups(Wakeups):
    """One direction without vectors."""

    def __init__(self) -> None:
        super().__init__([], {})
        self._nap = Nap()

    def unmask(self, vectors: int) -> None:
        """There is nothing to unmask."""

    def wait(self, timeout_s: float) -> bool:
        return self._nap(timeout_s)


class Napping(Sides):
    """Both directions without vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.join(NapWakeups(), NapWakeups())
        self._nap = Nap()

    def wait(self, timeout_s: float) -> bool:
        return self._nap(timeout_s)


class WorkerSet(NicQueues):
    """The set of the one shared queue. Device, link and counters are the owner's."""

    quiet_s = LONGEST_NAP_S

    def __init__(
        self,
        lease: Lease,
        tx: Sequence[TxQueue],
        rx: Sequence[RxQueue],
        interface: Interface,
        descriptors: dict[int, npt.NDArray[np.uint64]],
    ) -> None:
        facts = lease.facts
        super().__init__(
            facts.name,
            facts.port,
            tx,
            rx,
            interface,
            NoBell(),
            Gate(facts.port),
            busy_poll=facts.busy_poll,
            interval_s=facts.interval_s,
        )
        self._lease, self._descriptors = lease, descriptors
        self._sides: Sides | None = None

    @property
    def interrupts(self) -> Sides:
        """No vectors: a wait naps between two looks at the rings."""
        if self._sides is None:
            self._sides = Napping()
        return self._sides

    def check_selectable(self) -> None:
        raise PortError(
            f"{self.name} has no fileno() in this process: interrupts belong to the process that opened the port. Use "
            "poll(), which looks at the rings every millisecond or more often, or poll(busy=True)"
        )

    def close(self) -> None:
        if self._sides is not None:
            self._sides.close()

    def look_after(self) -> None:
        self._lease.check()

    def check(self) -> None:
        self._lease.check()

    def look_for_standstill(self) -> None:
        """The owner looks at link and registers."""

    def why_unsent(self) -> str:
        return f"ask process {self._lease.facts.owner}, which opened the port, for port.link"

    def descriptors(self, ring: TxRing | RxRing) -> npt.NDArray[np.uint64]:
        return self._descriptors[ring.address]


class WorkerQueue(Queue):
    """A queue of another process's port, from SharedQueue.open(). A context manager; close() gives the queue back.

    Its methods are those of Queue. When the owner takes the queue back, closes its port or ends, the next wait, and one
    of the next 4096 syncs, raises PortClosed.
    """

    __slots__ = ("_lease",)

    def __init__(self, queues: WorkerSet, lease: Lease) -> None:
        super().__init__(queues)
        self._lease = lease
        forked.OPEN.add(self)
        weakref.finalize(self, end, queues, lease)  # also at the interpreter's exit: a killed worker leaves less

    def _open(self) -> QueueSet:
        if self._lease.ended:
            raise PortClosed(self._lease.ended)
        return super()._open()

    def close(self) -> None:
        """Give the queue back to the owner: reclaim() continues where this process stopped. May be called again."""
        session = self._session
        self._end()
        if isinstance(session, WorkerSet):
            end(session, self._lease)

    def leave(self, sentence: str) -> None:
        """In a forked child: the queue is the parent's (forked.py)."""
        self._end()
        self._lease.leave(sentence)

    def __enter__(self) -> WorkerQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def end(queues: WorkerSet, lease: Lease) -> None:
    lease.give_back(f"{lease.facts.name} was given back; the process that opened the port can share it again")
    queues.close()


def attach(facts: Facts, fds: Sequence[int], channel: socket.socket) -> WorkerQueue:
    """Map what the handle has, and make the queue. The token is taken; the caller closes `fds`, but not the channel.

    Raises PortError if the memory cannot be mapped.
    """
    control = Control(fds[CONTROL])
    lease = Lease(facts, channel, control)
    try:
        region = map_region(fds[REGION])
        interface = Interface(region, facts.if_offset)
        memory = Files(fds)
        known = Attached(region.address, facts.region_size, facts.buf_size, facts.total_buffers, facts.buffers_offset)
        iova = region_iova(facts, control)
        tx: list[TxQueue] = []
        rx: list[RxQueue] = []
        descriptors: dict[int, npt.NDArray[np.uint64]] = {}
        if facts.tx is not None and facts.tx.head is not None:
            ring = next(each for each in interface.tx_rings if each.ringid == facts.queue)
            descriptors[ring.address] = memory.descriptors(facts.tx.descriptors, facts.tx.slots)
            tx.append(control.tx())
            tx[0].join(
                ring,
                known,
                region_iova=iova,
                descriptors=memory.address(facts.tx.descriptors),
                doorbell=memory.doorbell(facts.tx.doorbell),
                head_writeback=memory.address(facts.tx.head),
            )
        if facts.rx is not None:
            rx_ring = next(each for each in interface.rx_rings if each.ringid == facts.queue)
            descriptors[rx_ring.address] = memory.descriptors(facts.rx.descriptors, facts.rx.slots)
            rx.append(control.rx())
            rx[0].join(
                rx_ring,
                known,
                region_iova=iova,
                descriptors=memory.address(facts.rx.descriptors),
                doorbell=memory.doorbell(facts.rx.doorbell),
            )
    except BaseException as error:
        lease.give_back("it could not be mapped")
        if isinstance(error, OSError):
            raise PortError(f"{facts.name} cannot be mapped: {error.strerror}") from None
        raise
    lease.queues = (*tx, *rx)
    for queue in lease.queues:
        queue.memory = (memory, control)  # stays mapped as long as C may use it
    return WorkerQueue(WorkerSet(lease, tx, rx, interface, descriptors), lease)


def map_region(fd: int) -> Mapping:
    """The region, mapped once in this process. Raises OSError."""
    status = os.fstat(fd)
    key = status.st_dev, status.st_ino
    found = REGIONS.get(key)
    if found is None:
        found = REGIONS[key] = map_shared(fd, status.st_size)
    return found


class Files:
    """DMA memory and tail registers of a handle, mapped. They stay mapped as long as this object."""

    def __init__(self, fds: Sequence[int]) -> None:
        self._fds = fds
        self._views: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}

    def _map(self, file: int, size: int, offset: int) -> npt.NDArray[np.uint8]:
        view = self._views.get((file, offset))
        if view is None:
            mapping = mmap.mmap(self._fds[file], size, flags=mmap.MAP_SHARED, offset=offset)
            view = self._views[file, offset] = np.frombuffer(mapping, np.uint8)
        return view

    def address(self, place: Place) -> int:
        """Where the memory is in this process."""
        return int(self._map(place.file, place.size, 0).ctypes.data) + place.offset

    def descriptors(self, place: Place, slots: int) -> npt.NDArray[np.uint64]:
        view = self._map(place.file, place.size, 0)[place.offset :][: slots * DESCRIPTOR_SIZE]
        return view.view("<u8").reshape(-1, 2)

    def doorbell(self, place: int) -> int:
        """The address of a tail register. Only its page is mapped, which has the tails of other queues, too."""
        start = place - place % PAGE
        return int(self._map(DOORBELLS, PAGE, start).ctypes.data) + place - start
