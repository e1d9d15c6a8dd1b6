"""PCI configuration space of a virtual function (82599 9.5): what VFIO shows of it to a driver."""

from __future__ import annotations

import struct
from typing import Protocol

from .config_space import (
    AER,
    ARI,
    COMMAND,
    COMMAND_BUS_MASTER,
    COMMAND_MEMORY,
    DEVICE_CONTROL,
    DEVICE_CONTROL_FLR,
    MSIX_CONTROL,
    STATUS,
    STATUS_MASTER_ABORT,
    check_access,
    extended,
    laid_out,
    overlaps,
)
from .virtual import VECTORS

# ASSUMPTION (datasheet not at hand): the capabilities are at the offsets of the PF's. Vendor, device and memory enable
# read as VFIO shows them. On the bus vendor and device read 0xFFFF, and memory enable is 0, because it belongs to the
# PF. A guest that read 0 would write 0 when it enables bus mastering, and QEMU would take BAR0 away. Specification
# Update, erratum 35: the PCIe capability has version 0 and says nothing about the device, so a function-level reset is
# not announced; it works.
IMAGE = {
    0x00: struct.pack("<HHHH", 0x8086, 0x10ED, COMMAND_MEMORY, 0x0010),
    0x08: bytes([0x01, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00]),
    0x2C: struct.pack("<HH", 0x8086, 0x0003),
    0x34: bytes([0x70]),
    0x70: struct.pack("<BBHII", 0x11, 0xA0, VECTORS - 1, 0x0000_0003, 0x0000_2003),
    0xA0: struct.pack("<BB", 0x10, 0x00),
    AER: extended(0x0001, ARI),
    ARI: extended(0x000E, 0),
}
WRITABLE = {
    COMMAND: struct.pack("<H", COMMAND_MEMORY | COMMAND_BUS_MASTER),
    MSIX_CONTROL: struct.pack("<H", 0xC000),
    DEVICE_CONTROL: struct.pack("<H", 0xFFFF & ~DEVICE_CONTROL_FLR),
}


class Function(Protocol):
    """What configuration space asks of its function."""

    def reset(self) -> None:
        """Function-level reset."""

    def set_bus_master(self, on: bool) -> None: ...

    def aborted(self) -> bool:
        """Whether a read request was refused."""

    def forget_abort(self) -> None: ...


class VfConfigSpace:
    """4096 bytes, little-endian."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._writable = laid_out(WRITABLE)
        self._bytes = laid_out(IMAGE)

    def reset(self) -> None:
        self._bytes = laid_out(IMAGE)

    def read(self, offset: int, size: int) -> int:
        """`size` (1, 2 or 4) bytes. Raises ValueError for an access that is not aligned or outside."""
        check_access(offset, size)
        value = int.from_bytes(self._bytes[offset : offset + size], "little")
        if overlaps(offset, size, STATUS) and self._function.aborted():
            value |= STATUS_MASTER_ABORT << 8 * STATUS >> 8 * offset
        return value & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Store the bits that software can write, then do what they ask for. Raises ValueError like `read`."""
        check_access(offset, size)
        for at, byte in enumerate(value.to_bytes(size, "little"), offset):
            mask = self._writable[at]
            self._bytes[at] = (self._bytes[at] & ~mask) | (byte & mask)
        if overlaps(offset, size, STATUS) and value << 8 * offset >> 8 * STATUS & STATUS_MASTER_ABORT:
            self._function.forget_abort()
        if overlaps(offset, size, COMMAND):
            self._function.set_bus_master(bool(self._bytes[COMMAND] & COMMAND_BUS_MASTER))
        if overlaps(offset, size, DEVICE_CONTROL) and value << 8 * offset >> 8 * DEVICE_CONTROL & DEVICE_CONTROL_FLR:
            self._function.reset()
