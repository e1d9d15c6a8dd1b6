"""What a rule sees: an access, the registers before it, and what the driver wrote and read until then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...register import Accessor, Row
from ...registers import QUEUES, Registers

DESCRIPTOR = 16
QUEUE_CONTROL = ("RXDCTL", "TXDCTL")
COUNTS = {"RDLEN", "RDH", "RDT", "TDLEN", "TDH", "TDT"}
# Registers that show one row of a table: the register that selects it.
INDIRECT = {"RTTDT1C": Registers.RTTDQSEL, "RTTBCNRC": Registers.RTTDQSEL}
QUEUE_SECTIONS = ("8.2.3.8.", "8.2.3.9.", "8.2.3.11.")
Memory = Callable[[int, int], "bytes | None"]  # (IOVA, size): the bytes there; None when they cannot be read


def is_of_a_queue(row: Row[Any]) -> bool:
    """Whether each queue has one. Tables of filters have as many entries."""
    return row.count == QUEUES and row.section.startswith(QUEUE_SECTIONS)


class Trail:
    """The last write and the last read of a register.

    written_at, read_at: their numbers among all accesses, -1 for none. written_s: the time of the write, in seconds.
    ever: bits that any write set. confirmed: bits whose last read showed what was last written.
    """

    __slots__ = ("confirmed", "ever", "read_at", "value", "written", "written_at", "written_s")

    def __init__(self) -> None:
        self.written_at = self.read_at = -1
        self.written = self.ever = self.confirmed = self.value = 0
        self.written_s = float("-inf")


@dataclass
class History:
    """Accesses since the last reset. written: by register name, the indices (of an INDIRECT register: the rows)."""

    trails: dict[tuple[str, int], Trail] = field(default_factory=dict)
    written: dict[str, set[int]] = field(default_factory=dict)
    accesses: int = 0

    def _trail(self, name: str, index: int) -> Trail:
        trail = self.trails.get((name, index))
        if trail is None:
            trail = self.trails[name, index] = Trail()
        return trail

    def note_write(self, name: str, index: int, value: int) -> None:
        trail = self._trail(name, index)
        self.accesses += 1
        trail.confirmed &= ~(trail.written ^ value)
        trail.written_at, trail.written, trail.written_s = self.accesses, value, time.monotonic()
        trail.ever |= value
        select = INDIRECT.get(name)
        self.written.setdefault(name, set()).add(self._trail(select.name, 0).written & select.mask if select else index)

    def note_read(self, name: str, index: int, value: int) -> None:
        trail = self._trail(name, index)
        self.accesses += 1
        trail.read_at, trail.value, trail.confirmed = self.accesses, value, ~(trail.written ^ value)

    def forget(self) -> None:
        self.trails.clear()
        self.written.clear()

    def forget_queues(self, queues: range) -> None:
        """Forget the registers of these queues."""
        for name, index in list(self.trails):
            if index in queues and is_of_a_queue(getattr(Registers, name)):
                del self.trails[name, index]
                self.written.get(name, set()).discard(index)

    def of(self, register: Accessor[Any]) -> Trail:
        """The register's trail; an empty one when it was not accessed."""
        return self.trails.get((register.row.name, register.index)) or Trail()


def vf_of_queue(regs: Registers, queue: int) -> int | None:
    """The VF to which the pools give a queue; None for one of the PF."""
    mode = regs.GCR_EXT.read().VT_MODE if regs.PFVTCTL.read().VT_ENA else 0
    vf = queue // (16 >> mode)
    return vf if mode and vf < regs.STATUS.read().NUM_VFS else None


class Ring:
    """The registers of one queue, named by purpose. side: R (receive) or T (transmit), as their names begin.

    slots: the ring's number of descriptors, 0 before its length is written.
    """

    def __init__(self, regs: Registers, side: str, index: int) -> None:
        receive = side == "R"
        self.index = index
        self.low = (regs.RDBAL if receive else regs.TDBAL)[index]
        self.high = (regs.RDBAH if receive else regs.TDBAH)[index]
        self.length = (regs.RDLEN if receive else regs.TDLEN)[index]
        self.head = (regs.RDH if receive else regs.TDH)[index]
        self.tail = (regs.RDT if receive else regs.TDT)[index]
        self.control: Accessor[Any] = regs.RXDCTL[index] if receive else regs.TXDCTL[index]
        self.enabled = bool(self.control.read().ENABLE)
        length = self.length.read() & self.length.row.mask  # a client may store anything into a mapped page
        self.slots = length // DESCRIPTOR

    @property
    def iova(self) -> int:
        return self.low.read() | self.high.read() << 32

    def ahead(self, first: int, last: int) -> int:
        """The number of descriptors from `first` up to, not including, `last`."""
        return (last - first) % self.slots


@dataclass(slots=True)
class Access:
    """A register is written with `value`, or read; with `size`, the DMA memory [value, value + size) is unmapped.

    before: this register's value before the access. regs: all registers before it; reads have no side effects.
    waits_are_seen: register accesses arrive without delay, so it is known how long the driver waited. vf: the
    virtual function whose access it is; its driver does not know what the PF's driver did.
    """

    row: Row[Any] | None
    index: int
    value: int
    before: int
    regs: Registers
    history: History
    memory: Memory
    is_read: bool = False
    size: int = 0
    waits_are_seen: bool = True
    vf: int | None = None
    _ring: Ring | None = None

    @property
    def name(self) -> str:
        return self.row.name if self.row else ""

    @property
    def register(self) -> str:
        return self.row.label(self.index) if self.row else f"BAR0 offset {self.index:#07x}"

    def rises(self, name: str) -> bool:
        """Whether the write changes this bit from 0 to 1."""
        return bool(~self.before & self.value & self._mask(name))

    def falls(self, name: str) -> bool:
        """Whether the write changes this bit from 1 to 0."""
        return bool(self.before & ~self.value & self._mask(name))

    def _mask(self, name: str) -> int:
        assert self.row is not None, "a register has fields"
        return int(self.row.layout.fields[name].mask)

    # ---- the queue that the access concerns ----

    @property
    def ring(self) -> Ring:
        if self._ring is None:
            self._ring = Ring(self.regs, self.name[0], self.index)
        return self._ring

    @property
    def rings(self) -> list[Ring]:
        """The rings of all enabled queues."""
        used = [
            Ring(self.regs, name[0], index)
            for name in QUEUE_CONTROL
            for index in sorted(self.history.written.get(name, ()))
        ]
        return [ring for ring in used if ring.enabled]

    def descriptors(self, ring: Ring, first: int, last: int) -> npt.NDArray[np.uint64]:
        """Descriptors from `first` up to, not including, `last`, shape (n, 2); empty when memory cannot be read."""
        pieces = [(first, last)] if first <= last else [(first, ring.slots), (0, last)]
        seen = [self.memory(ring.iova + DESCRIPTOR * at, DESCRIPTOR * (end - at)) or b"" for at, end in pieces]
        return np.frombuffer(b"".join(seen), dtype=np.uint64).reshape(-1, 2)

    # ---- what the driver did before ----

    def wrote(self, register: Accessor[Any]) -> bool:
        return self.history.of(register).written_at >= 0

    def not_written(self, registers: list[Accessor[Any]]) -> str | None:
        """A sentence that names the missing writes; None when all registers were written."""
        return unwritten([register.name for register in registers if not self.wrote(register)])

    def unconfirmed(self, register: Accessor[Any], **fields: int) -> str | None:
        """None when the fields were last written with these numbers (0 if never) and read so since; else a sentence."""
        trail = self.history.of(register)
        for name, number in fields.items():
            mask = register.row.layout.fields[name].mask
            if trail.confirmed & mask != mask or trail.written & mask != register.row.layout.fields[name].place(number):
                wanted = " and ".join(f"{name} had not been read as {number}" for name, number in fields.items())
                return f"{self.last_write(register)} and {wanted}"
        return None

    def not_read_since(self, start: Accessor[Any], register: Accessor[Any], **fields: int) -> str | None:
        """None when `register` was read with these numbers after `start` was written; else a sentence."""
        read_since = self.history.of(register).read_at > self.history.of(start).written_at
        if read_since and not self.not_read_as(register, **fields):
            return None
        wanted = " and ".join(
            f"{register.name}.{name} had not been read as {number} since" for name, number in fields.items()
        )
        return f"{self.last_write(start)} and {wanted}"

    def not_read_as(self, register: Accessor[Any], **fields: int) -> str | None:
        """None when the register's last read showed these numbers, whatever was written to it; else a sentence."""
        trail = self.history.of(register)
        value = register.row.layout(trail.value)
        if trail.read_at >= 0 and all(getattr(value, name) == number for name, number in fields.items()):
            return None
        wanted = " and ".join(f"{name}={number}" for name, number in fields.items())
        return f"{register.name} had not been read with {wanted} since the reset"

    def last_write(self, register: Accessor[Any]) -> str:
        """The last write to a register, as a sentence."""
        trail = self.history.of(register)
        if trail.written_at < 0:
            return f"{register.name} had not been written since the reset"
        return f"{register.name} was last written {show(register.row, trail.written)}"


def unwritten(names: list[str]) -> str | None:
    """A sentence that names registers which were not written; None for none."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more} had not been written since the reset" if names else None


def show(row: Row[Any], value: int) -> str:
    """A register's value as text: a decimal number for counts, else hexadecimal."""
    return str(value) if row.name in COUNTS else f"{value:#010x}"
