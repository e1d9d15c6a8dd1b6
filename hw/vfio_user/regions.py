"""Regions of an emulated 82599 that are accessed by messages: BAR0, the MSI-X table, configuration space."""

from __future__ import annotations

import struct
from typing import Protocol

from ..emulator import Emulated82599, VirtualFunction
from .errors import Refused
from .protocol import WORD, Region

MSIX_BAR_SIZE = 0x4000
CONFIG_SIZE = 4096
Function = Emulated82599 | VirtualFunction  # what a server serves


class MessageRegion(Protocol):
    """A region; read() and write() raise Refused for places and sizes that it does not have."""

    size: int

    def read(self, offset: int, count: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...


class Bar0:
    """Registers: 32-bit words only (8.1). A longer access is a sequence of words in ascending order."""

    def __init__(self, nic: Function) -> None:
        self._nic, self.size = nic, nic.bar0_size

    def read(self, offset: int, count: int) -> bytes:
        if count == 4 and not offset % 4 and offset < self.size:
            return WORD.pack(self._nic.read32(offset))
        self._check(offset, count)
        return b"".join(WORD.pack(self._nic.read32(at)) for at in range(offset, offset + count, 4))

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        for at in range(0, len(data), 4):
            self._nic.write32(offset + at, WORD.unpack_from(data, at)[0])

    def _check(self, offset: int, count: int) -> None:
        if offset % 4 or count % 4 or not count or offset + count > self.size:
            raise Refused


class MsixBar:
    """BAR4, of a VF BAR3: MSI-X table and pending bits (9.3.8.2), 16 KB that only store. The client connects
    eventfds instead.

    ASSUMPTION (datasheet silent): no message is ever pending, because the client masks vectors on its own
    side of the eventfds.
    """

    size = MSIX_BAR_SIZE

    def __init__(self, vectors: int) -> None:
        self._vectors = vectors
        self.reset()

    def reset(self) -> None:
        masked = struct.pack("<QII", 0, 0, 1)
        self._bytes = bytearray(masked * self._vectors).ljust(MSIX_BAR_SIZE, b"\0")

    def read(self, offset: int, count: int) -> bytes:
        if not count or offset + count > MSIX_BAR_SIZE:
            raise Refused
        return bytes(self._bytes[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        if not data or offset + len(data) > MSIX_BAR_SIZE:
            raise Refused
        table = self._bytes[: 16 * self._vectors]
        table[offset : offset + len(data)] = data
        # The rest would go to the pending bits, which are read-only.
        self._bytes[: 16 * self._vectors] = table[: 16 * self._vectors]


class ConfigRegion:
    """Configuration space, accessed in the largest aligned pieces of 4, 2 and 1 bytes."""

    size = CONFIG_SIZE

    def __init__(self, nic: Function) -> None:
        self._nic = nic

    def read(self, offset: int, count: int) -> bytes:
        return b"".join(
            self._nic.config_read(at, size).to_bytes(size, "little") for at, size in self._pieces(offset, count)
        )

    def write(self, offset: int, data: bytes) -> None:
        for at, size in self._pieces(offset, len(data)):
            self._nic.config_write(at, size, int.from_bytes(data[at - offset : at - offset + size], "little"))

    @staticmethod
    def _pieces(offset: int, count: int) -> list[tuple[int, int]]:
        if not count or offset + count > CONFIG_SIZE:
            raise Refused
        pieces = []
        while count:
            size = next(size for size in (4, 2, 1) if size <= count and not offset % size)
            pieces.append((offset, size))
            offset, count = offset + size, count - size
        return pieces


def access_line(letter: str, index: int, offset: int, count: int, value: int) -> str:
    """A line of a trace: `R BAR0 0x00008 4 00080000`. letter: R or W. index: of the region."""
    region = Region(index).name if index in Region._value2member_map_ else f"region {index}"
    digits = 2 * count if count <= 8 else 1
    return f"{letter} {region} {offset:#07x} {count} {value:0{digits}x}"
