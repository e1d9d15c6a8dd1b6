"""PCI configuration space of an 82599ES (82599 9.3): header and capabilities at the offsets drivers count on."""

from __future__ import annotations

import struct

COMMAND = 0x04
COMMAND_MEMORY, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE = 0x2, 0x4, 0x400
STATUS = 0x06
# Not stored, but asked of the engine: INTx is asserted; a read request was refused (Received Master Abort, ones written clear it).
STATUS_INTERRUPT, STATUS_MASTER_ABORT = 0x8, 0x2000
MSIX_CONTROL = 0x72
DEVICE_CONTROL = 0xA8
DEVICE_CONTROL_FLR = 0x8000
VECTORS = 64

# offset: bytes. The capability chain is 40 power management, 50 MSI, 70 MSI-X, A0 PCIe.
_IMAGE = {
    0x00: struct.pack("<HHHH", 0x8086, 0x10FB, 0x0000, 0x0010),
    0x08: bytes([0x01, 0x00, 0x00, 0x02, 0x10, 0x00, 0x80, 0x00]),  # revision 1, Ethernet, multi-function
    0x10: struct.pack("<IIIIII", 0xC, 0, 0x1, 0, 0xC, 0),  # BAR0 64-bit prefetchable, BAR2 I/O, BAR4 MSI-X
    0x2C: struct.pack("<HH", 0x8086, 0x0003),
    0x34: bytes([0x40]),
    0x3C: bytes([0xFF, 0x01]),  # INTA
    0x40: struct.pack("<BBHHH", 0x01, 0x50, 0x4823, 0x2000, 0),
    0x50: struct.pack("<BBH", 0x05, 0x70, 0x0180),
    0x70: struct.pack("<BBHII", 0x11, 0xA0, VECTORS - 1, 0x0000_0004, 0x0000_2004),
    0xA0: struct.pack("<BBHIHHIHH", 0x10, 0x00, 0x0002, 0x1000_8CC2, 0x2810, 0x0000, 0x0002_3482, 0x0000, 0x1082),
}
# offset: mask of the bits software can write
_WRITABLE = {
    COMMAND: struct.pack("<H", 0x0547),
    0x0C: bytes([0xFF]),
    0x10: struct.pack("<IIIIII", 0xFFFE_0000, 0xFFFF_FFFF, 0xFFFF_FFE0, 0, 0xFFFF_C000, 0xFFFF_FFFF),
    0x3C: bytes([0xFF]),
    0x44: struct.pack("<H", 0x0103),
    0x52: struct.pack("<H", 0x0001),
    MSIX_CONTROL: struct.pack("<H", 0xC000),
    DEVICE_CONTROL: struct.pack("<H", 0xFFFF & ~DEVICE_CONTROL_FLR),
    0xC8: struct.pack("<H", 0x001F),
}


class ConfigSpace:
    """4096 bytes, little-endian."""

    def __init__(self) -> None:
        self._writable = bytearray(4096)
        for offset, mask in _WRITABLE.items():
            self._writable[offset : offset + len(mask)] = mask
        self.reset()

    def reset(self) -> None:
        self._bytes = bytearray(4096)
        for offset, value in _IMAGE.items():
            self._bytes[offset : offset + len(value)] = value

    def read(self, offset: int, size: int) -> int:
        self._check(offset, size)
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self._check(offset, size)
        for i, byte in enumerate(value.to_bytes(size, "little")):
            mask = self._writable[offset + i]
            self._bytes[offset + i] = (self._bytes[offset + i] & ~mask) | (byte & mask)

    @property
    def bus_master(self) -> bool:
        return bool(self.read(COMMAND, 2) & COMMAND_BUS_MASTER)

    @property
    def intx_disabled(self) -> bool:
        return bool(self.read(COMMAND, 2) & COMMAND_INTX_DISABLE)

    def _check(self, offset: int, size: int) -> None:
        if size not in (1, 2, 4) or offset % size or not 0 <= offset <= 4096 - size:
            raise ValueError(f"configuration space has no {size}-byte word at {offset:#x}")
