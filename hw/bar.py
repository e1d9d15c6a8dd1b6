"""BAR0: what an access to it may be, and its place in this process's memory."""

from __future__ import annotations

import mmap

import numpy as np

from .device import Device
from .errors import DeviceError
from .register import ALL_ONES
from .registers import BAR0_SIZE, Registers


def check_offset(offset: int) -> None:
    """Raises ValueError for what is no register's place."""
    if offset % 4 or not 0 <= offset < BAR0_SIZE:
        raise ValueError(f"BAR0 has 32-bit registers from 0 to {BAR0_SIZE - 4:#x}, none at {offset:#x}")


def check_value(value: int) -> None:
    """Raises ValueError for what does not fit a register."""
    if not 0 <= value <= ALL_ONES:
        raise ValueError(f"{value:#x} is no 32-bit value")


def check_tail(offset: int) -> None:
    """Raises ValueError for an offset that no driver's loop should store to. A tail register has one place, without aliases."""
    place = Registers.find(offset)
    if place is None or place.row.name not in ("RDT", "TDT"):
        raise ValueError(f"{offset:#x} is no tail register")


class Bar:
    """`size` bytes of a device from `offset` of `fd` on, read and written in single 32-bit accesses.

    A memoryview of 32-bit words does exactly one load or store an access. (ctypes' from_address() reads a word before it writes it.)
    Raises OSError. The descriptor may be closed afterwards.
    """

    def __init__(self, fd: int, size: int, offset: int = 0, *, writable: bool = True) -> None:
        if size < BAR0_SIZE:
            raise DeviceError(f"BAR0 has {size} bytes; an 82599's registers take {BAR0_SIZE} (8.1). Is this an 82599?")
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._mapping = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=protection, offset=offset)
        self._bytes = memoryview(self._mapping)
        self.words = self._bytes.cast("I")
        self.address = int(np.frombuffer(self._bytes, np.uint8).ctypes.data)

    def load(self, offset: int) -> int:
        """Exactly one 32-bit load."""
        check_offset(offset)
        return self.words[offset >> 2]

    def store(self, offset: int, value: int) -> None:
        """Exactly one 32-bit store."""
        check_offset(offset)
        check_value(value)
        self.words[offset >> 2] = value

    def close(self) -> None:
        """Unmap. No register may be accessed afterwards."""
        self.words.release()
        self._bytes.release()
        self._mapping.close()


class MappedDevice(Device):
    """A device whose BAR0 is mapped here: an access is a load or a store."""

    _bar: Bar

    def read32(self, offset: int, /) -> int:
        self._check_open()
        return self._bar.load(offset)

    def write32(self, offset: int, value: int, /) -> None:
        self._check_open()
        self._bar.store(offset, value)

    def doorbell(self, offset: int) -> int:
        self._check_open()
        check_tail(offset)
        return self._bar.address + offset
