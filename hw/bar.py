"""BAR0 in this process's memory."""

from __future__ import annotations

import mmap

import numpy as np

from .register import ALL_ONES, DeviceError
from .registers import BAR0_SIZE


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

    def check(self, offset: int) -> None:
        """Raises ValueError for what is no register's place."""
        if offset % 4 or not 0 <= offset < BAR0_SIZE:
            raise ValueError(f"BAR0 has 32-bit registers from 0 to {BAR0_SIZE - 4:#x}, none at {offset:#x}")

    def load(self, offset: int) -> int:
        """Exactly one 32-bit load."""
        self.check(offset)
        return self.words[offset >> 2]

    def store(self, offset: int, value: int) -> None:
        """Exactly one 32-bit store."""
        self.check(offset)
        if not 0 <= value <= ALL_ONES:
            raise ValueError(f"{value:#x} is no 32-bit value")
        self.words[offset >> 2] = value

    def close(self) -> None:
        """Unmap. No register may be accessed afterwards."""
        self.words.release()
        self._bytes.release()
        self._mapping.close()
