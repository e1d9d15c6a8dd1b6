"""A ring that programs open and close: who has it, and what happens at the first open and at the last close."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ixrings.rings import RxRing, TxRing
from ixrings.rings.offsets import Offsets
from ixrings.rings.queue import RxQueue, TxQueue
from ixrings.rings.service import Kind, Kring, SoftQueue

from .. import queues, takeover
from ..session import Session
from ..share import head_word
from .errors import Refused
from .pool import DAEMON, Indices, Pool, Zone

STOP_S = 0.001  # in the service's thread, so it is short: programs are not served meanwhile


class Watcher(Protocol):
    """A monitor, as the ring that it watches knows it."""

    def lose(self, ring: SharedRing) -> None:
        """Watch this ring no more."""


class SharedRing(ABC):
    """A ring of the daemon's region. users: handles that have it. exclusive: one of them has it alone.

    watchers: the monitors that see its frames. offsets: where in its buffers the bytes begin; None: at the start.
    """

    def __init__(self, pool: Pool, ring: TxRing | RxRing, kring: Kring) -> None:
        self.pool, self.ring, self.kring = pool, ring, kring
        self.users = 0
        self.exclusive = False
        kring.zone_of = pool.zone_of.ctypes.data
        kring.zone = DAEMON
        kring.stamp = 1
        self.zone: Zone | None = None
        self.watchers: list[Watcher] = []
        self.offsets: Offsets | None = None

    @property
    def uncharged(self) -> int:
        """How many of its buffers do not count in a user's share."""
        return 0

    def end_watches(self) -> None:
        """Nobody has the ring any more: its monitors see nothing more of it, also when it is opened again."""
        for watcher in self.watchers:
            watcher.lose(self)
        self.watchers = []

    @property
    def buffers_now(self) -> Indices:
        """The indices in its slots, as the program left them."""
        return np.array(self.ring.slot_buf_idx, np.uint32)

    def belong_to(self, zone: Zone) -> None:
        """From now on the ring's buffers are those of `zone`."""
        self.zone = zone
        self.kring.zone = zone.number

    def open(self, zone: Zone, offsets: Offsets | None = None) -> None:
        """One more handle has the ring. offsets: for the first one. Raises Refused(ENOMEM)."""
        if not self.users:
            self.offsets = offsets
            try:
                self.begin(zone)
            except BaseException:
                self.offsets = None
                raise
            self.belong_to(zone)
            zone.rings.append(self)
        self.users += 1

    def received_with(self, offset: int, most: int) -> int:
        """How many bytes of a frame one buffer takes behind this offset, if the program wants at most `most`. A program
        that leaves no room gets no frame. Raises Refused(EINVAL)."""
        return max(1, min(self.pool.region.buf_size - offset, most))

    @property
    def unsent(self) -> bool:
        """Whether a NIC has frames of it that it has not sent yet."""
        return False

    @abstractmethod
    def begin(self, zone: Zone) -> None:
        """The first handle opens the ring: its buffers become the zone's. Raises Refused(ENOMEM)."""

    @abstractmethod
    def stop(self) -> None:
        """Nobody has the ring any more: from now on nothing reads or writes its buffers. They are still the zone's."""

    @abstractmethod
    def rest(self) -> None:
        """After stop(), and after the zone has left: what happens to the ring while no program has it."""


class NicRing(SharedRing):
    """A ring of a NIC's queue. While no program has it, it rests with buffers of the daemon. Each first open and each
    last close rebuilds it, so a program finds netmap's initial state."""

    def __init__(self, pool: Pool, session: Session, queue: TxQueue | RxQueue) -> None:
        super().__init__(pool, queue.ring, Kring.nic(queue))
        self._session, self._queue = session, queue
        self._resting: npt.NDArray[np.uint32] = np.array(queue.ring.slot_buf_idx, np.uint32)

    @property
    def uncharged(self) -> int:
        return self.ring.num_slots  # there is a set for each ring of a NIC

    @property
    def unsent(self) -> bool:
        nic, number = self._session.function.queues, self.ring.ringid
        return isinstance(self._queue, TxQueue) and nic.TDT[number].read() != nic.TDH[number].read()

    def received_with(self, offset: int, most: int) -> int:
        received = super().received_with(offset, most)
        if isinstance(self._queue, TxQueue):
            return received
        received -= received % queues.KB  # SRRCTL.BSIZEPACKET (8.2.3.8.7)
        if not received:
            raise Refused(
                errno.EINVAL,
                f"{self.ring.name}: the NIC receives into {queues.KB} bytes or more, and offset {offset} leaves less "
                f"of the {self.pool.region.buf_size} bytes of a buffer",
            )
        return received

    def begin(self, zone: Zone) -> None:
        buffers = self.pool.take(self.ring.num_slots, zone.number, self.ring.name, charged=False)
        try:
            self.stop()
            self._start(buffers, runs=self._session.function.runs)
        except BaseException:  # the device is gone, for example
            self.pool.give(buffers, zone.number)
            raise

    def stop(self) -> None:
        nic = self._session.function.queues
        if isinstance(self._queue, TxQueue):
            takeover.stop_transmit(nic, self._queue, STOP_S)
        else:
            takeover.stop_receive(nic, self._queue)

    def rest(self) -> None:
        self.zone = self.offsets = None
        self.kring.zone = DAEMON
        self._start(self._resting, runs=self._session.function.runs)

    def restart(self) -> None:
        """The function was reset, with all its queues: netmap's initial state again.

        A slot keeps its buffer if that is the zone's, and only then: the NIC is about to write to it. For the others
        there are the buffers with which the ring rests.
        """
        buffers = self._resting
        if self.zone is not None:
            present = self.buffers_now
            kept = self.pool.hand_over(present, self.zone.number, self.zone.number)
            buffers = np.where(kept, present, self._resting)
        self._queue.use_offsets(None)  # the registers are those of a queue without
        self._start(buffers, runs=True)

    def _start(self, buffers: Indices, *, runs: bool) -> None:
        """Rebuild the ring, and switch the queue on. runs: if the function does not, restart() does that later.

        A program that has the region may write to the slots meanwhile, so the NIC gets `buffers`, not what they say.
        """
        session, queue, before = self._session, self._queue, self._queue.offsets
        nic = session.function.queues
        descriptors = session.descriptors(queue.ring)
        queue.use_offsets(self.offsets)
        self.pool.region.rebuild(queue.ring, buffers, self.offsets)
        if not runs:
            queue.restart()
            return
        if self.offsets != before and isinstance(queue, RxQueue):
            size = self.offsets.received if self.offsets else self.pool.region.buf_size
            queues.set_buffer_size(nic, queue.ring.ringid, size)
        if isinstance(queue, TxQueue):
            takeover.start_transmit(nic, queue, descriptors, head_word(session, queue))
        else:
            takeover.start_receive(nic, queue, descriptors, buffers)


class SoftRing(SharedRing):
    """A ring that no NIC has: of a host, a monitor, a null port. It has buffers only while a program has it."""

    def __init__(self, pool: Pool, ring: TxRing | RxRing) -> None:
        self.queue = SoftQueue(ring, pool.region)
        super().__init__(pool, ring, Kring(Kind.NULL, self.queue, tx=isinstance(ring, TxRing)))

    def begin(self, zone: Zone) -> None:
        self.rebuild(self.pool.take(self.ring.num_slots, zone.number, self.ring.name))

    def rebuild(self, buffers: Indices) -> None:
        """netmap's initial state, with these buffers."""
        self.queue.use_offsets(self.offsets)
        self.pool.region.rebuild(self.ring, buffers, self.offsets)
        self.queue.restart()
        self.kring.filled, self.kring.synced_head = self.queue.hwtail, 0

    def stop(self) -> None:
        pass

    def rest(self) -> None:
        self.zone = self.offsets = None
        self.kring.zone = DAEMON
        self.rebuild(np.zeros(self.ring.num_slots, np.uint32))


class PipeRing(SoftRing):
    """A ring of a pipe. While nobody has it, its buffers are those of the pipe, and what was sent stays in it."""

    def __init__(self, pool: Pool, ring: TxRing | RxRing, pipe: Zone) -> None:
        super().__init__(pool, ring)
        self._pipe = pipe
        self.rebuild(pool.take(ring.num_slots, pipe.number, ring.name))
        self.belong_to(pipe)

    def begin(self, zone: Zone) -> None:
        self._mend(self._pipe, zone)
        self._start_offsets()

    def stop(self) -> None:
        if self.zone is not None:
            self._kept = self.pool.hand_over(self.buffers_now, self.zone.number, self._pipe.number)

    def rest(self) -> None:
        self._fill(self._kept, self._pipe)
        self.belong_to(self._pipe)
        self.offsets = None
        self._start_offsets()

    def _start_offsets(self) -> None:
        """Give each slot its initial offset, except slots whose frames wait."""
        first, last = (self.queue.hwcur, self.kring.synced_head if self.kring.tx else self.kring.filled)
        slots, number = np.arange(self.ring.num_slots), self.ring.num_slots
        self.queue.use_offsets(self.offsets)
        self.pool.region.start_offsets(self.ring, self.offsets, (slots - first) % number >= (last - first) % number)

    def _mend(self, zone: Zone, to: Zone) -> None:
        self._fill(self.pool.hand_over(self.buffers_now, zone.number, to.number), to)

    def _fill(self, kept: npt.NDArray[np.bool_], zone: Zone) -> None:
        """Give each slot that has no buffer of its own one of the pool; 0, which moves no frame, if there is none."""
        slots = np.flatnonzero(~kept)
        if len(slots):
            buffers = self.pool.take(min(len(slots), self.pool.room), zone.number, self.ring.name)
            self.ring.slot_buf_idx[slots] = 0
            self.ring.slot_buf_idx[slots[: len(buffers)]] = buffers
