"""The owner's side of shared queues: share a queue with a worker, and get it back (lease.py, worker.py, takeover.py).

The worker syncs the queue itself. Meanwhile the port leaves it alone: its syncs and waits skip the queue, and its rings
refuse access. Device, link, filters and counters stay with the owner, which has to look after them (Share.wait).

A worker that gives its queue back left it between two syncs, and the port goes on there. A worker that was killed may
have left anything, so its queue is restarted.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ixrings.hw.device import DmaMemory
from ixrings.hw.errors import DeviceError
from ixrings.rings.pages import PageTable
from ixrings.rings.queue import RxQueue, TxQueue

from .checks import require
from .errors import PortError, PortTimeout
from .lease import (
    CHANNEL,
    CONTROL,
    Control,
    Facts,
    Place,
    Side,
    Word,
    make_channel,
    other_has_ended,
    take_token,
    token_waits,
)
from .shared_queue import SharedQueue, close_all
from .takeover import mend_buffers, restart_receive, restart_transmit

if TYPE_CHECKING:
    from .session import Session

REVOKE_S = 2.0  # close() waits so long for workers
LOOK_S = 1.0  # wait() looks after the port so often
ASK_S = 0.005  # reclaim() asks so often: the worker's C loop may overwrite one request


class Share(SharedQueue):
    """The handle as the owner has it: it also gets the queue back.

    rx_packets, tx_packets: frames that the queue has received and given to the NIC since its port was opened, at any
    time. opened: whether a process has opened the handle. worker: the number of that process, 0 before.
    """

    def __init__(
        self, session: Session, index: int, shares: Shares, facts: Facts, fds: list[int], channel: socket.socket
    ) -> None:
        # For the descriptors here: one thread may wait while another takes the queue back. Reentrant, because a signal
        # handler may close the port in between.
        self._lock = threading.RLock()
        super().__init__(facts, fds)
        self._session: Session | None = session  # None: the port is closed, or has the queue again
        self._index, self._shares, self._channel = index, shares, channel
        self._control = Control(fds[CONTROL])
        self._tx, self._rx = self._control.tx(), self._control.rx()
        self._given: set[int] = set()
        for own, theirs in self._pairs(session):
            theirs.num_slots = own.num_slots
            theirs.copy_state(own)
            self._given.update(own.ring.slots["buf_idx"].tolist())

    def _pairs(self, session: Session) -> list[tuple[TxQueue | RxQueue, TxQueue | RxQueue]]:
        """The port's queues, each with the worker's."""
        return [(own, self._tx if isinstance(own, TxQueue) else self._rx) for own in queues_of(session, self._index)]

    @property
    def sentence(self) -> str:
        """For who uses the queue in this process meanwhile."""
        who = f"process {self.worker}" if self.worker else "another process"
        return f"{self.name} is shared with {who}. When it is done with the queue, call reclaim() of the handle"

    @property
    def opened(self) -> bool:
        """Whether a process has opened the handle."""
        with self._lock:
            if self._fds and not token_waits(self._fds[CHANNEL]):
                self.close()  # the descriptors here: the channel shows the worker's end only without them
            return not self._fds

    def close(self) -> None:
        with self._lock:
            super().close()

    @property
    def worker(self) -> int:
        return self._control.words[Word.PID]

    @property
    def rx_packets(self) -> int:
        return self._rx.packets

    @property
    def tx_packets(self) -> int:
        return self._tx.packets

    def ended(self) -> bool:
        """Whether the worker has given the queue back, or has ended."""
        return self._session is None or (self.opened and other_has_ended(self._channel))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the worker is done: False after `timeout` seconds. Meanwhile the port's counters are read in time.

        The NIC's counters stop at 32 or 36 bits, and only this process reads them: an owner that neither waits here nor
        calls its port (stats(), syncs, poll) once in 20 seconds loses counts. Raises DeviceGone, DmaRefused, and
        PortClosed if another thread closes the port.
        """
        require("wait()", timeout, float | None, "seconds, or None to wait without limit")
        end = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while not self.ended():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._sleep(min(left, LOOK_S))
            session = self._session
            if session is not None:
                session.look_after()
        return True

    def _sleep(self, seconds: float) -> None:
        """Until the worker ends, or `seconds` have passed. Shorter before the handle is opened, which wakes nobody."""
        if self.opened:
            ends = select.poll()
            with suppress(ValueError):  # another thread has closed it
                ends.register(self._channel, select.POLLIN)
            ends.poll(max(1, int(seconds * 1000)))
        else:
            time.sleep(min(seconds, ASK_S))

    def reclaim(self, timeout: float = 10.0) -> int:
        """Take the queue back. Returns the number of frames lost with a worker that was killed; otherwise 0.

        A worker that still has the queue is asked to give it back: its next wait, or one of its next 4096 syncs, raises
        PortClosed. Raises PortTimeout if it keeps the queue for `timeout` seconds, PortError if it was killed and
        buffers of its rings are missing, PortClosed if another thread closes the port.
        """
        require("reclaim()", timeout, float)
        session = self._session
        if session is None:
            return 0
        if not self.revoke(time.monotonic() + timeout):
            raise PortTimeout(
                f"{self.name}: process {self.worker} has not given it back within {timeout:g} s, because it does not "
                "sync or wait. End that process, then call reclaim() again"
            )
        with session.gate, session.making:
            if self._session is None:  # another thread was faster
                return 0
            in_order = self._continue(session)
            if not in_order:
                self._mend(session)
            self._shares.take_back(session, self._index)
            try:
                return 0 if in_order else self._restart(session)
            finally:
                self.release()

    def revoke(self, end: float) -> bool:
        """Ask the worker for the queue until it has given it back. False at the time `end`."""
        self._control.words[Word.REVOKED] = 1
        with self._lock:
            if self._fds and take_token(self._fds[CHANNEL]):
                self._control.words[Word.RETURNED] = 1  # nobody opened it, and nobody can any more
                self.close()
                return True
        while not self.ended():
            if time.monotonic() >= end:
                return False
            self._tx.syncs_left = self._rx.syncs_left = 1
            self._sleep(ASK_S)
        return True

    def take_doorbells_back(self) -> None:
        """Workers of this port ring no doorbell any more, where the transport can do that."""
        if self._session is not None:
            with suppress(DeviceError):  # no memory for that: the NIC is stopped next
                self._session.device.take_doorbells_back()

    def release(self) -> None:
        """Drop what the handle holds here, but for its counters."""
        self._session = None
        self.close()
        self._channel.close()

    def leave(self) -> None:
        """In a forked child: the handle is the parent's."""
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self.release()
        self._dropped = (
            f"this handle of {self.name} belongs to the parent process: a fork does not pass it on. Start the process "
            'by multiprocessing.get_context("spawn").Process(..., args=(handle,))'
        )

    def _continue(self, session: Session) -> bool:
        """Stand where the worker stopped. False if it did not stop between two syncs."""
        if self._control.words[Word.RETURNED]:
            with suppress(ValueError):
                for own, theirs in self._pairs(session):
                    own.copy_state(theirs)
                return True
        return False

    def _mend(self, session: Session) -> None:
        """Give the slots their buffers again. Raises PortError if some are missing: the queue then stays out of use."""
        region = session.region
        spare = self._given if session.options["extra_bufs"] else self._given | region.lost_buffers()
        mend_buffers([own.ring for own, _ in self._pairs(session)], spare, region.interfaces, region.total_buffers)

    def _restart(self, session: Session) -> int:
        """Restart the queue, which a killed worker left in an unknown state. Returns how many frames are lost."""
        lost = 0
        for own, theirs in self._pairs(session):
            descriptors = session.descriptors(own.ring)
            if isinstance(own, TxQueue):
                lost += restart_transmit(session.function.queues, own, descriptors, head_word(session, own))
            else:
                lost += restart_receive(session.function.queues, own, descriptors)
            own.copy_counters(theirs)
        return lost


class Shares:
    """The queues of a port that other processes have."""

    def __init__(self) -> None:
        self._shares: dict[int, Share] = {}

    def share(self, session: Session, index: int) -> Share:
        """A handle of queue `index`, which the port has. Raises PortError if it is shared, DeviceError."""
        self.check(index)
        for queue in queues_of(session, index):
            queue.resume()  # a reset of the function may have left it to the next sync
        channel, workers = make_channel()
        fds = [workers.detach()]
        try:
            facts = describe(session, index, fds)
        except BaseException:
            channel.close()
            close_all(fds)
            raise
        share = Share(session, index, self, facts, fds, channel)
        self._shares[index] = share
        for queue in queues_of(session, index):
            queue.ring.leave(share.sentence)
            queue.close(share.sentence)
        session.leave_to_workers(self._shares)
        return share

    def take_back(self, session: Session, index: int) -> None:
        """The port uses queue `index` again."""
        del self._shares[index]
        for queue in queues_of(session, index):
            queue.ring.take_back()
            queue.reopen()
        session.leave_to_workers(self._shares)

    def check(self, index: int) -> None:
        """Raises PortError while queue `index` is shared. A queue whose worker has ended is taken over first."""
        share = self._shares.get(index)
        if share is not None:
            if not share.ended():
                raise PortError(share.sentence)
            share.reclaim()

    def revoke(self) -> None:
        """At close: get every queue back, or make its worker harmless, before the NIC stops."""
        if not self._shares:
            return
        shares, self._shares = list(self._shares.values()), {}
        end = time.monotonic() + REVOKE_S
        kept = [share for share in shares if not share.revoke(end)]
        shares[0].take_doorbells_back()
        for share in shares:
            share.release()
        if kept:
            warnings.warn(
                f"{' and '.join(f'process {share.worker} still has {share.name}' for share in kept)}. The NIC is "
                "stopped, and their next syncs raise PortClosed. Other programs can open the NIC when they have ended",
                RuntimeWarning,
                stacklevel=2,
            )

    def leave(self) -> None:
        """In a forked child: close its copies, so that each end of a channel shows the end of the other."""
        for share in self._shares.values():
            share.leave()
        self._shares = {}


def queues_of(session: Session, index: int) -> list[TxQueue | RxQueue]:
    """The hot loop's queues of one number, the transmit queue first."""
    return [queue for queue in session.all_queues if queue.ring.ringid == index]


def head_word(session: Session, tx: TxQueue) -> npt.NDArray[np.uint32]:
    """The word that the NIC writes its head to, shape (1,)."""
    return session.joined.head_word(tx)


def describe(session: Session, index: int, fds: list[int]) -> Facts:
    """What the worker has to know. Appends its descriptors to `fds`, in the order of lease.py. Raises DeviceError."""
    region, memory = session.region, session.memory
    table = session.seen_at if isinstance(session.seen_at, PageTable) else None
    pages = table.pages if table else ()
    fds.append(Control.make(pages))
    fds.append(os.dup(region.fd))
    doorbells = session.device.doorbell_file()
    fds += [doorbells.fd, *doorbells.kept]

    def place(block: DmaMemory, offset: int = 0) -> Place:
        fd, size, start = block.file()
        fds.append(fd)
        return Place(len(fds) - 1, size, start + offset)

    def side(queue: TxQueue | RxQueue, tail: int, head: Place | None) -> Side:
        descriptors = place(memory[1 + session.all_queues.index(queue)])  # block 0 holds the head write-back words
        return Side(queue.num_slots, descriptors, doorbells.place(tail), head)

    tx = [queue for queue in queues_of(session, index) if isinstance(queue, TxQueue)]
    rx = [queue for queue in queues_of(session, index) if isinstance(queue, RxQueue)]
    head = place(memory[0], tx[0].head_writeback - memory[0].address) if tx else None
    registers = session.function.queues
    return Facts(
        port=session.port,
        queue=index,
        owner=os.getpid(),
        if_offset=session.interface.offset,
        region_size=region.size,
        buf_size=region.buf_size,
        total_buffers=region.total_buffers,
        buffers_offset=region.buffers_offset,
        iova=0 if isinstance(session.seen_at, PageTable) else session.seen_at,
        pages=len(pages),
        page_size=table.page_size if table else 0,
        busy_poll=session.busy_poll,
        interval_s=session.interval_s,
        tx=side(tx[0], registers.TDT[index].offset, head) if tx else None,
        rx=side(rx[0], registers.RDT[index].offset, None) if rx else None,
    )
