"""An emulated 82599 that records every register access, and the descriptors that each tail write gives to it."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.fields import CTRL
from ixrings.hw.register import ALL_ONES, Word
from ixrings.hw.registers import Registers
from ixrings.hw.trace import device as trace

KEPT = 50_000  # accesses in the record; later ones are only counted
MOST_WINDOWS = 256  # mappings that a script may have at a time
MOST_MAPPED = 256 << 20  # bytes that they may have together
DESCRIPTOR = 16
MOST_DATA = 2048  # bytes of a transmit descriptor's frame that are kept
ENABLE = 1 << 25  # of RXDCTL and TXDCTL
HEAD_WB_EN = 1


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
    for a write that enables a queue, the addresses ("ring", "head") that are not mapped."""

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

    @property
    def label(self) -> str:
        """`RXDCTL[0]`."""
        return trace.place_name(self.offset)

    @property
    def word(self) -> Any:
        """The value with its fields: `access.word.ENABLE`."""
        place = Registers.find(self.offset)
        return place.row.layout(self.value) if place else Word(self.value)

    def __str__(self) -> str:
        return str(trace.Access(self.at_s, self.write, self.offset, self.value))


@dataclass(frozen=True)
class Pace:
    """How fast a slow NIC works: a step of at most `frames` frames each `every_s`, and none within `after_tail_s` after
    a tail write."""

    every_s: float
    frames: int = 64
    after_tail_s: float = 0.0


class WatchedNic(Emulated82599):
    """accesses: the record. count: the number of all accesses. received: frames by queue, over all resets."""

    def __init__(self, wire: str, *, mac: bytes, link_up_s: float, pace: Pace | None) -> None:
        self.accesses: list[Access] = []
        self.count = 0
        self.received: list[int] = [0] * 16
        self._start = time.monotonic()
        self._last: dict[tuple[str, int], int] = {}
        self._tails: dict[tuple[str, int], int] = {}
        self._files: dict[int, tuple[int, int, int]] = {}  # IOVA: size, file descriptor, offset in the file
        self._last_tail = 0.0
        self._stopping = threading.Event()
        self._pump: threading.Thread | None = None
        super().__init__(wire, mac=mac, link_up_s=link_up_s, manual=pace is not None)
        if pace is not None:
            self._pump = threading.Thread(target=self._run, args=(pace,), name="pace")
            self._pump.start()

    def _run(self, pace: Pace) -> None:
        before = time.monotonic()
        while not self._stopping.wait(pace.every_s):
            now = time.monotonic()
            if now - self._last_tail >= pace.after_tail_s:
                self.step(pace.frames, int((now - before) * 1e9))
                before = now

    def start_clock(self) -> None:
        self._start = time.monotonic()

    # ---- record ----

    def read32(self, offset: int, /) -> int:
        value = super().read32(offset)
        place = Registers.find(offset)
        if place is not None and place.row.name == "QPRC":
            self.received[place.index] += value  # reading clears it
        self._note(False, offset, value)
        return value

    def write32(self, offset: int, value: int, /) -> None:
        self._note(True, offset, value)
        if offset == Registers.CTRL.offset() and CTRL(value & ALL_ONES).RST | CTRL(value & ALL_ONES).LRST:
            self._save_counters()
        super().write32(offset, value)

    def _note(self, write: bool, offset: int, value: int) -> None:
        self.count += 1
        place = Registers.find(offset)
        name, index = (place.row.name, place.index) if place else (f"{offset:#07x}", 0)
        given: tuple[Descriptor, ...] = ()
        head = 0
        if write and name in ("RDT", "TDT"):
            self._last_tail = time.monotonic()
            head = super().read32((Registers.RDH if name == "RDT" else Registers.TDH).offset(index))
        if write and value <= ALL_ONES:
            given = self._given(name, index, value)
            self._last[name, index] = value
        enables = write and name in ("RXDCTL", "TXDCTL") and value & ENABLE
        nowhere = self._nowhere(name[0], index) if enables else ()
        if len(self.accesses) < KEPT:
            at_s, master = time.monotonic() - self._start, self._config.bus_master
            self.accesses.append(Access(at_s, write, name, index, offset, value, given, head, master, nowhere))

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

    def reset(self) -> None:
        """Called by the server when the script has closed the NIC."""
        self._save_counters()
        super().reset()

    def _save_counters(self) -> None:
        """Add the queue counters to `received` before a reset clears them."""
        for queue in range(len(self.received)):
            self.received[queue] += super().read32(Registers.QPRC.offset(queue))

    # ---- the script's memory ----

    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        if len(self._files) >= MOST_WINDOWS or sum(entry[0] for entry in self._files.values()) + size > MOST_MAPPED:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        super().map_dma_at(iova, size, fd, offset, readable=readable, writable=writable)
        if fd is not None:
            self._files[iova] = (size, os.dup(fd), offset)

    def unmap_dma_range(self, iova: int, size: int) -> None:
        super().unmap_dma_range(iova, size)
        self._forget(iova, size)

    def unmap_dma_all(self) -> None:
        super().unmap_dma_all()
        self._forget(0, 1 << 64)

    def _forget(self, iova: int, size: int) -> None:
        for start in [start for start in self._files if iova <= start < iova + size]:
            os.close(self._files.pop(start)[1])

    def memory(self, iova: int, size: int) -> bytes:
        """The bytes at an IOVA; b"" where nothing is mapped. pread() does not raise SIGBUS when a script has truncated
        the file."""
        for start, (length, fd, offset) in self._files.items():
            if start <= iova and iova + size <= start + length:
                return os.pread(fd, size, offset + iova - start)
        return b""

    def close(self) -> None:
        self._stopping.set()
        if self._pump is not None:
            self._pump.join()
            self._pump = None
        super().close()
        self._forget(0, 1 << 64)
