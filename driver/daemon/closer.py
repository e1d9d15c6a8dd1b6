"""Closes what programs have sent, in threads of its own.

close() of a foreign file may take as long as its owner likes, such as with SO_LINGER, or in a file system of a program
(FUSE). So may close() of a socket that a program can send to: such a file may wait in the socket's queue.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from .protocol import MOST_FDS, close_all

IDLE_S = 1.0  # a thread without work ends
HOLD = 16  # descriptors of one sender; with more of them it waits
HOLD_ALL = 2 * MOST_FDS  # descriptors of all


class Closer:
    """A thread for each sender of descriptors, so that one that blocks does not hold up the others. wake: an eventfd,
    which gets 1 when a sender that had to wait may go on."""

    def __init__(self, wake: int) -> None:
        self._wake: int | None = wake
        self._lock = threading.Lock()
        self._queues: dict[Hashable, SimpleQueue[Sequence[int]]] = {}  # one for each thread
        self._pending: Counter[Hashable] = Counter()

    def close(self, sender: Hashable, fds: Sequence[int]) -> None:
        """Close `fds` soon."""
        if not fds:
            return
        with self._lock:
            queue = self._queues.get(sender) or self._start(sender)
            if queue is not None:
                self._pending[sender] += len(fds)
                queue.put(fds)
                return
        close_all(fds)

    def holds(self, sender: Hashable) -> bool:
        """Whether so many descriptors of this sender wait to be closed that nothing more should be taken from it."""
        return self._pending[sender] > HOLD

    @property
    def holds_all(self) -> bool:
        """Whether so many descriptors wait that no further connection should be taken."""
        with self._lock:
            return self._pending.total() > HOLD_ALL

    def end(self) -> None:
        """From now on nobody writes to `wake`."""
        with self._lock:
            self._wake = None

    def _start(self, sender: Hashable) -> SimpleQueue[Sequence[int]] | None:
        """None if no thread can be made."""
        queue: SimpleQueue[Sequence[int]] = SimpleQueue()
        try:
            threading.Thread(target=self._run, args=(sender, queue), name="closer", daemon=True).start()
        except RuntimeError:
            return None
        self._queues[sender] = queue
        return queue

    def _run(self, sender: Hashable, queue: SimpleQueue[Sequence[int]]) -> None:
        while True:
            try:
                fds = queue.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if queue.empty():
                        del self._queues[sender]
                        return
                continue
            for fd in fds:
                close_all([fd])
                self._note(sender)

    def _note(self, sender: Hashable) -> None:
        with self._lock:
            waited = self._pending[sender] > HOLD or self._pending.total() > HOLD_ALL
            self._pending[sender] -= 1
            if not self._pending[sender]:
                del self._pending[sender]
            if waited and self._wake is not None:
                with suppress(OSError):  # full: it is readable anyway
                    os.eventfd_write(self._wake, 1)
