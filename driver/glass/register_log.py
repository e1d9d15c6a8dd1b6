"""Accesses of a driver to registers, and changes that the NIC or a doorbell made, as lines for the page."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ixrings.hw.register import RegisterMap, Word
from ixrings.hw.registers import Registers

KEPT = 4000  # accesses that wait for a look; older ones are counted only
SHOWN = 600  # lines of one moment
FIELDS = 8  # changed fields of a line
TAILS = ("RDT", "TDT")  # stored by the program, which no access shows


@dataclass
class Noted:
    """Accesses in a row that are shown in one line."""

    who: str  # "reads", "writes", or "" for a remark
    offset: int
    value: int
    before: int
    times: int = 1
    last: int = 0  # the last offset, of an array that is accessed register by register
    text: str = ""


class RegisterLog:
    """note() and remark() are for the NIC's thread, the other methods for the thread that looks."""

    def __init__(self, table: type[RegisterMap] = Registers) -> None:
        self._table = table
        self._noted: deque[Noted] = deque()
        self._missed = 0
        self._lock = threading.Lock()
        self.known: npt.NDArray[np.uint32] | None = None  # every register as the last look left it

    def note(self, write: bool, offset: int, value: int, before: int, after: int) -> None:
        """before, after: of the register around the access."""
        who = "writes" if write else "reads"
        with self._lock:
            if self.known is not None and write:
                self.known[offset >> 2] = after
            last = self._noted[-1] if self._noted else None
            if last is not None and last.who == who and last.value == value:
                if last.offset == offset:
                    last.times += 1
                    return
                if write and offset == (last.last or last.offset) + 4 and self._same_array(last.offset, offset):
                    last.last = offset
                    last.times += 1
                    return
            self._add(Noted(who, offset, value, before))

    def remark(self, text: str) -> None:
        with self._lock:
            self._add(Noted("", 0, 0, 0, text=text))

    def _add(self, noted: Noted) -> None:
        if len(self._noted) >= KEPT:
            self._missed += self._noted.popleft().times
        self._noted.append(noted)

    def _same_array(self, one: int, other: int) -> bool:
        first, second = self._table.find(one), self._table.find(other)
        return first is not None and second is not None and first.row is second.row

    def lines(self, now: npt.NDArray[np.uint32]) -> tuple[list[dict[str, object]], int]:
        """The lines since the last look, and how many accesses and changes are not among them. now: BAR0's words."""
        with self._lock:
            noted, self._noted = list(self._noted), deque()
            missed, self._missed = self._missed, 0
            before, self.known = self.known, now.copy()
        lines = [self._line(each) for each in noted[-SHOWN:]]
        missed += sum(each.times for each in noted[:-SHOWN])
        if before is not None:
            places = np.flatnonzero(before != now)
            for word in places[:SHOWN]:
                line = self._change(int(word) * 4, int(before[word]), int(now[word]))
                if line:
                    lines.append(line)
            missed += max(0, len(places) - SHOWN)
        return lines, missed

    def _line(self, noted: Noted) -> dict[str, object]:
        if not noted.who:
            return {"who": "", "name": "", "text": noted.text, "section": "", "long": "", "times": 1, "fields": []}
        return self._facts(
            f"program {noted.who}", noted.offset, noted.before, noted.value, noted.times, noted.last or noted.offset
        )

    def _change(self, offset: int, before: int, now: int) -> dict[str, object] | None:
        place = self._table.find(offset)
        if place is None:
            return None
        who = "program stores" if place.row.name in TAILS else "NIC changes"
        return self._facts(who, offset, before, now, 1, offset)

    def _facts(self, who: str, offset: int, before: int, now: int, times: int, last: int) -> dict[str, object]:
        place = self._table.find(offset)
        if place is None:
            return {
                "who": who,
                "name": f"{offset:#07x}",
                "value": f"{now:#010x}",
                "text": "no register of the table is here",
                "section": "",
                "long": "",
                "times": times,
                "fields": [],
            }
        name = place.row.label(place.index)
        if last != offset:
            end = self._table.find(last)
            name = f"{place.row.name}[{place.index}..{end.index if end else '?'}]"
        word: Word = place.row.layout(now)
        return {
            "who": who,
            "name": name,
            "value": f"{now:#010x}",
            "text": word.describe(),
            "section": place.row.section,
            "long": place.row.long_name,
            "times": times,
            "fields": changed_fields(place.row.layout(before), word) if who != "program reads" else [],
        }


def changed_fields(before: Any, now: Word) -> list[list[object]]:
    """[name, before, now, meaning] of each field that differs."""
    found: list[list[object]] = []
    for name, field in now.fields.items():
        old, new = ((int(word) >> field.low) & field.max for word in (before, now))
        if old != new and len(found) < FIELDS:
            found.append([name, old, new, field.meaning])
    return found
