"""Reads register traces of a TracedDevice (hw/trace/device.py) and of a vfio-user server (`ixrings emulate --trace`),
and plain listings of a driver's steps.

    for access in TraceFile("port.trace"): ...

Each line is recognised by itself, so one file may have lines of several kinds. A .gz file is decompressed.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ..register import ALL_ONES, RegisterMap, Row
from ..registers import Registers, VfRegisters
from .device import Access

LONGEST_LINE = 1 << 16
PATIENCE = 1000  # a file that begins with this number of unknown lines is not a trace
LONGEST_LOOP = 4096
BAR_SIZE = 1 << 19  # registers and flash (9.3.6.1)

# 0.004211 write RXDCTL[0] 0x02000000 ENABLE=1  # driver/queues.py:enable_receive_queue
OURS = re.compile(r" *(\d+\.\d+) (read|write) +(\S+) 0x((?:[0-9a-f]{2}){1,4})\b(?: (?! #).*?)?(?:  # (.+))?")
CONFIG_NAME = re.compile(r"CONFIG\+(0x[0-9a-f]+)")
REGISTER_NAME = re.compile(r"(?:.*@)?(0x[0-9a-f]+)|(\w+?)(?:\[(\d+)\])?")

# 0.16400 R BAR0 0x06018 4 00000005; the time, the 0x, and `posted` or `sync` after a write are optional
MESSAGE = re.compile(
    r" *(?:(\d+\.\d+) +)?([RW]) (BAR0|CFG|CONFIG) (?:0x)?([0-9a-f]+) (\d+) ([0-9a-f]+)(?: posted| sync)?"
)

# A listing of steps: whole registers (R, W), bits that are set, cleared or tested, fields, and waits for 0 or 1
STEP = re.compile(
    r"(R|W|SET|CLR|TEST|POLL0|POLL1|FIELD) +([0-9a-f]+) +\S+(?: +\(alias [^)]*\))? +"
    r"(?:mask )?([0-9a-f]{8})(?: = ([0-9a-f]+))?"
)
LOOP = re.compile(r"loop x(\d+): (.+?) +\.\.\. last \S+")
CONFIG_STEP = re.compile(r"PCI-([RW]) ([0-9a-f]{2})(?: ([0-9a-f]{8}))?")

# Lines without an access to a register: comments, headings, pauses, other messages, refused accesses
BESIDE = re.compile(
    r"#.*|---.*|SLEEP .*|(?:\d+\.\d+ +)?(?:#.*|[A-Z]+_[A-Z_]+\b.*|VERSION\b.*|command \d+.*|"
    r"[RW] (?!BAR0 |CFG |CONFIG )(?:[A-Z]\w*|region \d+) (?:0x)?[0-9a-f]+ \d+ [0-9a-f]*(?: posted| sync)?|"
    r".* errno \d+)|"
)


class TraceError(ValueError):
    """The file is not a register trace."""


class TraceFile:
    """The accesses in a file, in its order. Iterate over it once. Unknown lines are left out and counted.

    Raises OSError, and TraceError if the file has no known line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lines = self.accesses = self.not_understood = 0
        self._first = self._damage = ""

    def __iter__(self) -> Iterator[Access]:
        for line in self._read_lines():
            # A line without an end may lack digits.
            found = parse_line(line) if line.endswith("\n") else None
            if found is not None:
                self.accesses += len(found)
                yield from found
                continue
            self._first = self._first or f"line {self.lines}: {line[:60].rstrip()!r}"
            self.not_understood += 1
            if self.not_understood >= PATIENCE and not self.accesses:
                break
        if not self.accesses and (self.not_understood or not self.lines):
            what = f"{self._first} is not an access" if self._first else self._damage or "it is empty"
            raise TraceError(
                f"{self.path} is not a register trace: {what}. A trace is written by open_port(..., trace=FILE), "
                "an example with --trace FILE, or ixrings emulate --trace FILE"
            )

    def complaint(self) -> str:
        """A sentence about the lines that could not be used; "" if there are none."""
        parts = [self._damage] if self._damage else []
        if self.not_understood:
            verb = "is" if self.not_understood == 1 else "are"
            parts.append(
                f"{self.not_understood} of {self.lines} lines {verb} not understood and left out, first {self._first}"
            )
        return f"{self.path}: {'; '.join(parts)}" if parts else ""

    def _read_lines(self) -> Iterator[str]:
        with open(self.path, "rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
            try:
                while line := stream.readline(LONGEST_LINE):
                    self.lines += 1
                    yield line.decode("ascii", "replace")
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self._damage = f"it is compressed, and truncated or damaged after line {self.lines} ({error})"


def parse_line(line: str) -> list[Access] | None:
    """The accesses in a line: [] for a line of another kind, None if the line is not understood."""
    text = line.strip()
    try:
        if match := OURS.fullmatch(text):
            return [parse_ours(match)]
        if match := MESSAGE.fullmatch(text):
            return parse_message(match)
        if match := STEP.fullmatch(text):
            return [parse_step(match)]
        if match := LOOP.fullmatch(text):
            return parse_loop(match)
        if match := CONFIG_STEP.fullmatch(text):
            letter, offset, value = match.groups()
            return [
                Access(
                    None, letter == "W", int(offset, 16), int(value or "0", 16), ALL_ONES if value else 0, config=True
                )
            ]
    except (LookupError, ValueError):
        return None
    return [] if BESIDE.fullmatch(text) else None


def register_offset(name: str) -> int:
    """The BAR0 offset of a name that place_name() has made. Raises LookupError, ValueError."""
    match = REGISTER_NAME.fullmatch(name)
    if match is None:
        raise LookupError(name)
    offset, register, index = match.groups()
    if offset:
        return checked_offset(int(offset, 16))
    row = getattr(table_with(register), register, None)
    if not isinstance(row, Row):
        raise LookupError(name)
    return int(row.offset(int(index or 0)))


def table_with(register: str) -> type[RegisterMap]:
    """The table with a register of this name: a VF's names differ from the PF's."""
    return VfRegisters if isinstance(getattr(VfRegisters, register, None), Row) else Registers


def checked_offset(offset: int) -> int:
    if offset % 4 or offset >= BAR_SIZE:
        raise ValueError(f"{offset:#x} cannot be the offset of a register")
    return offset


def parse_ours(match: re.Match[str]) -> Access:
    time, verb, name, digits, caller = match.groups()
    config = CONFIG_NAME.fullmatch(name)
    if not config and len(digits) != 8:
        raise ValueError(digits)
    offset = int(config[1], 16) if config else register_offset(name)
    return Access(
        float(time),
        verb == "write",
        offset,
        int(digits, 16),
        size=len(digits) // 2,
        config=bool(config),
        caller=caller or "",
        table=table_with(name.partition("[")[0]),
    )


def parse_message(match: re.Match[str]) -> list[Access]:
    """One access; none if a larger block of configuration space is read or written in one message."""
    time, letter, region, digits, size_text, value = match.groups()
    offset, size, config = int(digits, 16), int(size_text), region != "BAR0"
    if config and size not in (1, 2, 4):
        return []
    if len(value) != 2 * size or (not config and size != 4):
        raise ValueError(value)
    return [
        Access(
            float(time) if time else None,
            letter == "W",
            offset if config else checked_offset(offset),
            int(value, 16),
            size=size,
            config=config,
        )
    ]


def parse_step(match: re.Match[str]) -> Access:
    kind, offset_text, digits, new = match.groups()
    offset, bits = checked_offset(int(offset_text, 16)), int(digits, 16)
    if kind in "RW":
        return Access(None, kind == "W", offset, bits)
    if kind == "FIELD":
        return Access(None, True, offset, int(new, 16) << ((bits & -bits).bit_length() - 1) & bits, bits)
    if kind in ("SET", "CLR"):
        return Access(None, True, offset, bits if kind == "SET" else 0, bits)
    # A wait ends with known bits; a listing does not record the result of a test.
    known = bits if kind.startswith("POLL") else 0
    return Access(None, False, offset, bits if kind == "POLL1" else 0, known)


def parse_loop(match: re.Match[str]) -> list[Access]:
    """Steps that are repeated for each register of an array."""
    count, body = int(match[1]), [step for step in match[2].split("; ") if not step.startswith("SLEEP")]
    steps = [STEP.fullmatch(step) for step in body]
    if count > LONGEST_LOOP or None in steps:
        raise ValueError(match[0])
    first = [parse_step(step) for step in steps if step]
    return [
        Access(None, each.write, entry_offset(each, i), each.value, each.mask) for i in range(count) for each in first
    ]


def entry_offset(access: Access, further: int) -> int:
    """The offset of the register that is `further` indices after the accessed one in its array."""
    if access.place is None:
        raise LookupError(access.name)
    return int(access.place.row.offset(access.place.index + further))
