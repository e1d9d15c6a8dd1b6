"""SET_IRQS: eventfds of a client become the NIC's INTx, MSI or MSI-X."""

from __future__ import annotations

import errno
import os

from ixrings.hw.emulator import Emulated82599

from .errors import Refused
from .protocol import Irq, IrqSet

EVENTFD_NAME = "anon_inode:[eventfd]"


class SessionInterrupts:
    """One kind at a time, as with VFIO."""

    def __init__(self, nic: Emulated82599) -> None:
        self._nic = nic
        self._kind: int | None = None

    def set(self, flags: int, index: int, start: int, count: int, fds: list[int]) -> None:
        """Takes out of `fds` what it keeps. Raises OSError, and then nothing has changed."""
        vectors = self._nic.max_vectors if index == Irq.MSIX else 1
        if index not in (Irq.INTX, Irq.MSI, Irq.MSIX) or start + count > vectors:
            raise Refused()
        if flags == IrqSet.EVENTFD | IrqSet.TRIGGER:
            self._connect(index, start, count, fds)
        elif fds:
            raise Refused()
        elif flags == IrqSet.NONE | IrqSet.TRIGGER and not count:
            self._disable(index)
        elif index == Irq.INTX and count and flags in (IrqSet.NONE | IrqSet.MASK, IrqSet.NONE | IrqSet.UNMASK):
            self._nic.mask_line(flags == IrqSet.NONE | IrqSet.MASK)
        else:
            known = IrqSet.NONE | IrqSet.BOOL | IrqSet.EVENTFD, IrqSet.MASK | IrqSet.UNMASK | IrqSet.TRIGGER
            one_of_each = all((flags & group).bit_count() == 1 for group in known) and not flags & ~int(
                known[0] | known[1]
            )
            raise Refused(errno.EOPNOTSUPP if one_of_each else errno.EINVAL)

    def _connect(self, index: int, start: int, count: int, fds: list[int]) -> None:
        """An eventfd for each of the vectors, or none at all: then they are disconnected."""
        if not count or (fds and len(fds) != count) or (self._kind is not None and self._kind != index):
            raise Refused()
        # Anything else could block the engine, or be a file that it then writes to.
        if any(os.readlink(f"/proc/self/fd/{fd}") != EVENTFD_NAME for fd in fds):
            raise Refused()
        self._kind = index
        for vector in range(start, start + count):
            fd = fds.pop(0) if fds else -1
            if fd >= 0:
                os.set_blocking(fd, False)  # whoever has its other end could fill it between a look and the write
            if index == Irq.INTX:
                self._nic.connect_line(fd)
            else:
                self._nic.connect_interrupt(vector, fd)

    def _disable(self, index: int) -> None:
        if index == self._kind:
            self._nic.disable_interrupts()
            self._kind = None
