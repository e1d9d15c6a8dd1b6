"""The vectors of one direction, and the epoll descriptor over their eventfds."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

from ixrings.hw.registers import Registers

ALL = 0xFFFF_FFFF


class Wakeups:
    """The vectors of one direction: armed, waited for and drained together. For one thread at a time."""

    def __init__(self, vectors: Mapping[int, int], others: Mapping[int, int]) -> None:
        """vectors: eventfd of each vector -> its bit in the masks.

        others: further eventfds that end a wait, with their own bits.
        """
        self.mask = sum(vectors.values())
        self.armed = 0  # vectors that may send a message, or sent one that drain() has not taken
        self._bits = {**vectors, **others}
        self._epoll = select.epoll()
        for fd in self._bits:
            self._epoll.register(fd, select.EPOLLIN)

    def unmask(self, vectors: int) -> None:
        """Let the hardware send messages for these vectors."""
        raise NotImplementedError

    def fileno(self) -> int:
        """Readable while a message is pending that drain() has not taken."""
        return self._epoll.fileno()

    def arm(self) -> bool:
        """Let each vector send one message; a pending message comes at once. False if all were armed already."""
        missing = self.mask & ~self.armed
        if missing:
            self.unmask(missing)
        self.armed |= missing
        return missing != 0

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
        self.armed &= ~came
        return came

    def wait(self, timeout_s: float) -> bool:
        """Sleep, without the GIL, until a message comes. False after `timeout_s`."""
        return bool(self._epoll.poll(timeout_s))

    def close(self) -> None:
        self._epoll.close()


class VectorWakeups(Wakeups):
    """MSI-X: the NIC masks a vector when it sends its message."""

    def __init__(self, nic: Registers, vectors: Mapping[int, int], others: Mapping[int, int]) -> None:
        super().__init__(vectors, others)
        self._nic = nic

    def unmask(self, vectors: int) -> None:
        if vectors & ALL:
            self._nic.EIMS_EX[0].write(vectors & ALL)
        if vectors >> 32:
            self._nic.EIMS_EX[1].write(vectors >> 32)
