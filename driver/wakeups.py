"""Interrupt vectors as descriptors: of one direction, and of both."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Unmask = Callable[[int], None]
"""Lets the hardware send messages for these bits."""


@dataclass
class Vector:
    """One vector. A port and its queues wait for the same vectors, each at its time, and share these objects."""

    fd: int  # its eventfd
    bit: int  # in the masks
    armed: bool = False  # it may send a message, or has sent one that drain() has not taken


class Wakeups:
    """The vectors of one direction: armed, waited for and drained together. For one thread at a time."""

    def __init__(self, vectors: Sequence[Vector], others: Mapping[int, int]) -> None:
        """others: further eventfds that end a wait -> the bits that drain() returns for them."""
        self._vectors = self._all = vectors
        self._bits = {**{vector.fd: vector.bit for vector in vectors}, **others}
        self._epoll = select.epoll()
        for fd in self._bits:
            self._epoll.register(fd, select.EPOLLIN)

    def use(self, vectors: Sequence[Vector]) -> None:
        """Arm only these of the vectors from now on. Another one that is armed may send its message."""
        self._vectors = vectors

    def unmask(self, vectors: int) -> None:
        """Let the hardware send messages for these vectors."""
        raise NotImplementedError

    def fileno(self) -> int:
        """Readable while a message is pending that drain() has not taken."""
        return self._epoll.fileno()

    @property
    def armed(self) -> bool:
        """Whether a vector may send a message, or has sent one that drain() has not taken."""
        return any(vector.armed for vector in self._vectors)

    def arm(self) -> bool:
        """Let each vector send one message; a pending message comes at once. False if all were armed already."""
        missing = 0
        for vector in self._vectors:
            if not vector.armed:
                missing |= vector.bit
        if not missing:
            return False
        self.unmask(missing)
        for vector in self._vectors:
            vector.armed = True
        return True

    def drain(self) -> int:
        """Take the messages that came. Returns the bits of their vectors, which are masked now."""
        came = 0
        for fd, _ in self._epoll.poll(0):
            if fd not in self._bits:
                continue
            came |= self._bits[fd]
            try:
                os.eventfd_read(fd)
            except BlockingIOError:  # already taken
                pass
        if came:
            for vector in self._all:  # also one that use() has left out since: it has sent its message, and is masked
                if vector.bit & came:
                    vector.armed = False
        return came

    def wait(self, timeout_s: float) -> bool:
        """Sleep, without the GIL, until a message comes. False after `timeout_s`."""
        return bool(self._epoll.poll(timeout_s))

    def close(self) -> None:
        self._epoll.close()


class VectorWakeups(Wakeups):
    """MSI-X: the NIC masks a vector when it sends its message."""

    def __init__(self, unmask: Unmask, vectors: Sequence[Vector], others: Mapping[int, int]) -> None:
        super().__init__(vectors, others)
        self._unmask = unmask

    def unmask(self, vectors: int) -> None:
        self._unmask(vectors)


class Sides:
    """The wake-ups of both directions, which two threads may use at the same time. All are masked until armed.

    rx, tx: set by who makes the vectors. fileno(): readable while a message of either direction is pending.
    """

    rx: Wakeups
    tx: Wakeups

    def __init__(self) -> None:
        self._both: select.epoll | None = None
        self._nudge = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def join(self, rx: Wakeups, tx: Wakeups) -> None:
        """The two directions. `rx` has the descriptor that nudged_by() gives among its others."""
        self.rx, self.tx = rx, tx
        self._both = select.epoll()
        for wakeups in (rx, tx):
            self._both.register(wakeups.fileno(), select.EPOLLIN)

    def nudged_by(self, vectors: Sequence[Vector]) -> dict[int, int]:
        """An entry of a Wakeups' `others`: a nudge counts as a message of all `vectors`, so they are armed anew."""
        return {self._nudge: sum(vector.bit for vector in vectors)}

    def fileno(self) -> int:
        assert self._both is not None, "join() comes first"
        return self._both.fileno()

    def wait(self, timeout_s: float) -> bool:
        """As Wakeups.wait(), for both directions."""
        assert self._both is not None, "join() comes first"
        return bool(self._both.poll(timeout_s))

    def drain_receive(self) -> int:
        """rx.drain()."""
        return self.rx.drain()

    def nudge(self) -> None:
        """Make rx and fileno() readable, because frames wait in rings whose messages were taken."""
        if self._nudge >= 0:
            os.eventfd_write(self._nudge, 1)

    def close(self) -> None:
        """Close the descriptors, but not those of the vectors. May be called again."""
        for name in ("_both", "rx", "tx"):
            descriptor = getattr(self, name, None)
            if descriptor is not None:
                descriptor.close()  # an epoll object may be closed twice
        self._close_nudge()

    def __del__(self) -> None:
        self._close_nudge()

    def _close_nudge(self) -> None:
        if getattr(self, "_nudge", -1) >= 0:
            os.close(self._nudge)
            self._nudge = -1
