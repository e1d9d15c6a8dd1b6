"""The record of one device: each access to a register, and the descriptors that each tail write gives to the NIC."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ixrings.hw.device import Device
from ixrings.hw.register import ALL_ONES, RegisterMap, Word
from ixrings.hw.registers import Registers
from ixrings.hw.trace import device as trace

KEPT = 50_000  # accesses in the record; later ones are only counted
MOST_WINDOWS = 256  # mappings that a script may have at a time
MOST_MAPPED = 256 << 20  # bytes that they may have together
DESCRIPTOR = 16
MOST_DATA = 2048  # bytes of a transmit descriptor's frame that are kept
ENABLE = 1 << 25  # of RXDCTL and TXDCTL
HEAD_WB_EN = 1
BUS_MASTER = 0x4
TAIL_AFTER_HEAD = 0x8  # bytes from RDH to RDT, and from TDH to TDT
OF_QUEUES = {f"VF{name}" for name in ("TDBAL", "TDBAH", "TDLEN", "TDH", "TDT", "TXDCTL", "TDWBAL", "TDWBAH")}
OF_QUEUES |= {f"VF{name}" for name in ("RDBAL", "RDBAH", "RDLEN", "RDH", "RDT", "RXDCTL", "SRRCTL")}


@dataclass(frozen=True)
class Descriptor:
    """A descriptor at the moment when a tail write gave it to the NIC. mapped: whether the NIC can read its address.
    data: the first bytes at its address, if it is a transmit descriptor."""

    queue: int
    index: int
    q0: int
    q1: int
    mapped: bool
    data: bytes = b""


@dataclass(frozen=True)
class Access:
    """A read or write of a register. at_s: seconds since the script started. given: the descriptors that a tail write
    gave to the NIC; head: the ring's head at that moment; bus_master: whether the NIC was allowed to use DMA. nowhere:
    for a write that enables a queue, the addresses ("ring", "head") that are not mapped. name: of a VF's register, the
    name of the PF's."""

    at_s: float
    write: bool
    name: str
    index: int
    offset: int
    value: int
    given: tuple[Descriptor, ...] = ()
    head: int = 0
    bus_master: bool = True
    nowhere: tuple[str, ...] = ()
    table: type[RegisterMap] = Registers

    @property
    def label(self) -> str:
        """`RXDCTL[0]`."""
        return trace.place_name(self.offset, self.table)

    @property
    def word(self) -> Any:
        """The value with its fields: `access.word.ENABLE`."""
        place = self.table.find(self.offset)
        return place.row.layout(self.value) if place else Word(self.value)

    def __str__(self) -> str:
        return str(trace.Access(self.at_s, self.write, self.offset, self.value, table=self.table))


class Record:
    """What a watched device tells: note() of each access, and its mappings.

    table: the device's registers. peek: reads a register without a note. accesses: the record. count: the number of all
    accesses. last_tail: the time of the last tail write.
    """

    def __init__(self, device: Device, peek: Callable[[int], int], table: type[RegisterMap] = Registers) -> None:
        self._device, self._peek, self._table = device, peek, table
        self.accesses: list[Access] = []
        self.count = 0
        self.last_tail = 0.0
        self._start = time.monotonic()
        self._last: dict[tuple[str, int], int] = {}
        self._tails: dict[tuple[str, int], int] = {}
        self._files: dict[int, tuple[int, int, int]] = {}  # IOVA: size, file descriptor, offset in the file

    def start_clock(self) -> None:
        self._start = time.monotonic()

    # ---- accesses ----

    def note(self, write: bool, offset: int, value: int) -> None:
        self.count += 1
        place = self._table.find(offset)
        name, index = (place.row.name, place.index) if place else (f"{offset:#07x}", 0)
        if name in OF_QUEUES:
            name = name[2:]
        given: tuple[Descriptor, ...] = ()
        head = 0
        if write and name in ("RDT", "TDT"):
            self.last_tail = time.monotonic()
            head = self._peek(offset - TAIL_AFTER_HEAD)
        if write and value <= ALL_ONES:
            given = self._given(name, index, value)
            self._last[name, index] = value
        enables = write and name in ("RXDCTL", "TXDCTL") and value & ENABLE
        nowhere = self._nowhere(name[0], index) if enables else ()
        if len(self.accesses) < KEPT:
            at_s, master = time.monotonic() - self._start, bool(self._device.config_read(0x04, 2) & BUS_MASTER)
            self.accesses.append(
                Access(at_s, write, name, index, offset, value, given, head, master, nowhere, self._table)
            )

    def _address(self, register: str, queue: int) -> int:
        """The address in a pair of registers: _address("TDBA", 0) is in TDBAL[0] and TDBAH[0]."""
        return self._last.get((f"{register}L", queue), 0) | self._last.get((f"{register}H", queue), 0) << 32

    def _nowhere(self, side: str, queue: int) -> tuple[str, ...]:
        """The addresses of a queue that are not mapped: its ring's, and its head's if the NIC writes it back."""
        length = self._last.get((f"{side}DLEN", queue), 0)
        used = {"ring": (self._address(f"{side}DBA", queue) & ~0x7F, length)}
        if side == "T" and self._last.get(("TDWBAL", queue), 0) & HEAD_WB_EN:
            used["head"] = (self._address("TDWBA", queue) & ~0x3, 4)
        return tuple(what for what, (at, size) in used.items() if size and not self.memory(at + size - 1, 1))

    def _given(self, name: str, queue: int, tail: int) -> tuple[Descriptor, ...]:
        """The descriptors from the previous tail up to this one."""
        if name in ("RXDCTL", "TXDCTL"):
            self._tails.pop((name[0], queue), None)  # a queue that is enabled or disabled starts at 0 again
        if name not in ("RDT", "TDT"):
            return ()
        side = name[0]
        slots = self._last.get((f"{side}DLEN", queue), 0) // DESCRIPTOR
        base = self._address(f"{side}DBA", queue)
        previous = self._tails.get((side, queue), 0)
        if not 0 < slots <= 8192 or tail >= slots or previous >= slots:
            return ()
        self._tails[side, queue] = tail
        found = []
        for i in range((tail - previous) % slots):
            index = (previous + i) % slots
            data = self.memory(base + index * DESCRIPTOR, DESCRIPTOR)
            if len(data) == DESCRIPTOR:
                q0, q1 = struct.unpack("<QQ", data)
                frame = self.memory(q0, min(q1 & 0xFFFF, MOST_DATA)) if side == "T" else b""
                found.append(Descriptor(queue, index, q0, q1, bool(self.memory(q0, 1)), frame))
        return tuple(found)

    # ---- the script's memory ----

    def check_room(self, size: int) -> None:
        """Raises OSError when the script has mapped enough."""
        if len(self._files) >= MOST_WINDOWS or sum(entry[0] for entry in self._files.values()) + size > MOST_MAPPED:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def mapped(self, iova: int, size: int, fd: int | None, offset: int) -> None:
        if fd is not None:
            self._files[iova] = (size, os.dup(fd), offset)

    def unmapped(self, iova: int = 0, size: int = 1 << 64) -> None:
        for start in [start for start in self._files if iova <= start < iova + size]:
            os.close(self._files.pop(start)[1])

    def memory(self, iova: int, size: int) -> bytes:
        """The bytes at an IOVA; b"" where nothing is mapped. pread() does not raise SIGBUS when a script has truncated
        the file."""
        for start, (length, fd, offset) in self._files.items():
            if start <= iova and iova + size <= start + length:
                return os.pread(fd, size, offset + iova - start)
        return b""
