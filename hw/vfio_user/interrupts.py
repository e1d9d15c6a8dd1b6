"""SET_IRQS: connect eventfds of a client to INTx, MSI or MSI-X of the NIC."""

from __future__ import annotations

import errno
import os

from .errors import Refused
from .protocol import Irq, IrqSet
from .regions import Function

EVENTFD_NAME = "anon_inode:[eventfd]"


class SessionInterrupts:
    """The interrupts of one client. Only one kind is connected at a time, as in VFIO."""

    def __init__(self, nic: Function) -> None:
        self._nic = nic
        self._kind: int | None = None

    def set(self, flags: int, index: int, start: int, count: int, fds: list[int]) -> None:
        """Carry out SET_IRQS. Removes the fds that it keeps from `fds`. Raises OSError; then nothing has changed."""
        vectors = self._nic.max_vectors if index == Irq.MSIX else 1
        kinds = (Irq.INTX, Irq.MSI, Irq.MSIX) if self._nic.has_line else (Irq.MSIX,)
        if index not in kinds or start + count > vectors:
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
        """Connect an eventfd to each vector; without fds, disconnect the vectors."""
        if not count or (fds and len(fds) != count) or (self._kind is not None and self._kind != index):
            raise Refused()
        # Any other file could block the engine, or be damaged by its writes.
        if any(os.readlink(f"/proc/self/fd/{fd}") != EVENTFD_NAME for fd in fds):
            raise Refused()
        for fd in fds:  # before anything changes, because this fails for an fd that was opened with O_PATH
            # Otherwise a full eventfd would block the engine, and the client can fill it at any time.
            os.set_blocking(fd, False)
        self._kind = index
        for vector in range(start, start + count):
            fd = fds.pop(0) if fds else -1
            if index == Irq.INTX:
                self._nic.connect_line(fd)
            else:
                self._nic.connect_interrupt(vector, fd)

    def _disable(self, index: int) -> None:
        if index == self._kind:
            self._nic.disable_interrupts()
            self._kind = None
