"""PCI configuration space of an 82599ES (82599 9.3): header and capabilities, at the offsets that drivers rely on."""

from __future__ import annotations

import struct

from ...register import ALL_ONES
from ..engine.library import Engine
from .block import Chip

SIZE = 4096
COMMAND = 0x04
COMMAND_MEMORY, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE = 0x2, 0x4, 0x400
STATUS = 0x06
# Bits that the engine keeps: INTx is asserted; a read request was refused (Received Master Abort, write 1 to clear).
STATUS_INTERRUPT, STATUS_MASTER_ABORT = 0x8, 0x2000
MSIX_CONTROL = 0x72
DEVICE_CONTROL = 0xA8
DEVICE_CONTROL_FLR = 0x8000
VECTORS = 64

# offset: bytes. The capability chain is 40 power management, 50 MSI, 70 MSI-X, A0 PCIe.
IMAGE = {
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
# offset: mask of the bits that software can write
WRITABLE = {
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
    """4096 bytes, little-endian. Not a Block: CTRL.RST leaves it as it is."""

    def __init__(self, nic: Chip, engine: Engine) -> None:
        self._nic = nic
        self._engine = engine
        self._writable = bytearray(SIZE)
        for offset, mask in WRITABLE.items():
            self._writable[offset : offset + len(mask)] = mask
        self._bytes = bytearray(SIZE)
        self._load_image()

    def reset(self) -> None:
        """A function-level reset. The engine is frozen."""
        self._load_image()
        self._engine.call("nic_clear_master_abort")

    def _load_image(self) -> None:
        self._bytes = bytearray(SIZE)
        for offset, value in IMAGE.items():
            self._bytes[offset : offset + len(value)] = value

    def read(self, offset: int, size: int) -> int:
        """`size` (1, 2 or 4) bytes. Raises ValueError for an access that is not aligned or outside."""
        value = self._stored(offset, size)
        if overlaps(offset, size, STATUS):
            value |= self._live_status() << 8 * STATUS >> 8 * offset
        return value & ALL_ONES >> (32 - 8 * size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Store the bits that software can write, then do what they ask for. Raises ValueError like `read`."""
        check_access(offset, size)
        for i, byte in enumerate(value.to_bytes(size, "little")):
            mask = self._writable[offset + i]
            self._bytes[offset + i] = (self._bytes[offset + i] & ~mask) | (byte & mask)
        if overlaps(offset, size, STATUS) and value << 8 * offset >> 8 * STATUS & STATUS_MASTER_ABORT:
            with self._engine.frozen():
                self._engine.call("nic_clear_master_abort")
        if overlaps(offset, size, COMMAND):
            with self._engine.frozen():
                self.apply_command()
        control_written = offset <= DEVICE_CONTROL and DEVICE_CONTROL + 2 <= offset + size
        if control_written and value >> 8 * (DEVICE_CONTROL - offset) & DEVICE_CONTROL_FLR:
            self._nic.reset()

    def apply_command(self) -> None:
        """Tell the engine what the command register allows. The engine is frozen."""
        self._nic.update_bus_master()
        self._engine.call("nic_disable_line", bool(self._stored(COMMAND, 2) & COMMAND_INTX_DISABLE))

    @property
    def bus_master(self) -> bool:
        return bool(self._stored(COMMAND, 2) & COMMAND_BUS_MASTER)

    def _stored(self, offset: int, size: int) -> int:
        check_access(offset, size)
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def _live_status(self) -> int:
        with self._engine.frozen():
            asserted = self._engine.call("nic_line_asserted")
            aborted = self._engine.call("nic_master_abort")
        return STATUS_INTERRUPT * asserted | STATUS_MASTER_ABORT * aborted


def overlaps(offset: int, size: int, register: int) -> bool:
    """Whether an access touches the 16-bit register at offset `register`."""
    return offset < register + 2 and register < offset + size


def check_access(offset: int, size: int) -> None:
    if size not in (1, 2, 4) or offset % size or not 0 <= offset <= SIZE - size:
        raise ValueError(f"configuration space has no {size}-byte word at {offset:#x}")
