"""Closes descriptors of programs in a thread of its own: close() of a foreign file may take as long as its owner likes,
such as with SO_LINGER, or in a file system of a program (FUSE)."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue

from .protocol import close_all


class Closer:
    """wake: an eventfd, which gets 1 whenever descriptors have been closed."""

    def __init__(self, wake: int) -> None:
        self._wake = wake
        self._asked: SimpleQueue[tuple[Sequence[int], int]] = SimpleQueue()
        self._closed: deque[int] = deque()
        self._started = False

    def close(self, fds: Sequence[int], key: int) -> None:
        """Close `fds` soon. closed() then returns `key`."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="closer", daemon=True).start()
        self._asked.put((fds, key))

    def closed(self) -> list[int]:
        """The keys whose descriptors have been closed since the last call."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        return [self._closed.popleft() for _ in range(len(self._closed))]

    def _run(self) -> None:
        while True:
            fds, key = self._asked.get()
            close_all(fds)
            self._closed.append(key)
            with suppress(OSError):  # the daemon ends
                os.eventfd_write(self._wake, 1)
