"""BAR0: which accesses are valid, and the mapping into this process."""

from __future__ import annotations

import mmap

import numpy as np

from .device import Device
from .errors import DeviceError
from .register import ALL_ONES, RegisterMap
from .registers import Registers

TAILS = ("RDT", "TDT", "VFRDT", "VFTDT")


def check_offset(offset: int, table: type[RegisterMap] = Registers) -> None:
    """Raises ValueError if no register can be at `offset`."""
    if offset % 4 or not 0 <= offset < table.SIZE:
        raise ValueError(f"BAR0 has 32-bit registers from 0 to {table.SIZE - 4:#x}, none at {offset:#x}")


def check_value(value: int) -> None:
    """Raises ValueError if `value` does not fit in a register."""
    if not 0 <= value <= ALL_ONES:
        raise ValueError(f"{value:#x} is not a 32-bit value")


def check_tail(offset: int, table: type[RegisterMap] = Registers) -> None:
    """Raises ValueError if `offset` is not that of a tail register (these have no aliases)."""
    place = table.find(offset)
    if place is None or place.row.name not in TAILS:
        raise ValueError(f"{offset:#x} is not a tail register")


class Bar:
    """A device's BAR0: `size` bytes of `fd` from `offset` on, mapped, read and written in 32-bit accesses.

    An access through a memoryview of 32-bit words is exactly one load or one store. (ctypes' from_address() reads a
    word before it writes it.) The file descriptor may be closed afterwards.
    table: the registers in it. Raises OSError if it cannot be mapped, DeviceError if it is too small for them.
    """

    def __init__(
        self,
        fd: int,
        size: int,
        offset: int = 0,
        *,
        writable: bool = True,
        table: type[RegisterMap] = Registers,
    ) -> None:
        if size < table.SIZE:
            raise DeviceError(
                f"BAR0 has {size} bytes, the registers of {table.WHAT} take {table.SIZE} (8.1). Is this an 82599?"
            )
        self.table = table
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._mapping = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=protection, offset=offset)
        self._bytes = memoryview(self._mapping)
        self.words = self._bytes.cast("I")
        self.address = int(np.frombuffer(self._bytes, np.uint8).ctypes.data)

    def load(self, offset: int) -> int:
        """Exactly one 32-bit load."""
        check_offset(offset, self.table)
        return self.words[offset >> 2]

    def store(self, offset: int, value: int) -> None:
        """Exactly one 32-bit store."""
        check_offset(offset, self.table)
        check_value(value)
        self.words[offset >> 2] = value

    def close(self) -> None:
        """Unmap BAR0. No register may be accessed afterwards."""
        self.words.release()
        self._bytes.release()
        self._mapping.close()


class MappedDevice(Device):
    """A device with BAR0 mapped into this process: each access is one load or store."""

    _bar: Bar

    def read32(self, offset: int, /) -> int:
        self._check_open()
        return self._bar.load(offset)

    def write32(self, offset: int, value: int, /) -> None:
        self._check_open()
        self._bar.store(offset, value)

    def doorbell(self, offset: int) -> int:
        self._check_open()
        check_tail(offset, self._bar.table)
        return self._bar.address + offset
