"""Loops in a register trace: `read STATUS 0x00080000 x 37`, `write PFUTA[0..127] 0x00000000`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ixrings.hw.trace.device import Access

LONGEST_LOOP = 4  # accesses
SELECTS = {"RTTDQSEL"}  # its value is an index: which queue the registers after it are about (8.2.3.10.13)


@dataclass(frozen=True)
class Step:
    """An access, as what may come again: the same `kind`, and where that is an `entry` of an array, perhaps some entries on."""

    access: Access
    kind: tuple[object, ...]
    entry: bool
    index: int

    @classmethod
    def of(cls, access: Access) -> Step:
        place, value = access.place, access.value
        if place is None:
            return cls(access, (access.write, access.config, access.offset, value, access.mask, access.size), False, 0)
        alias = access.offset != place.row.offset(place.index)
        if place.row.name in SELECTS:
            return cls(access, (access.write, place.row.name, alias, access.mask), True, value)
        return cls(access, (access.write, place.row.name, alias, value, access.mask), place.row.count > 1, place.index)

    def is_again(self, earlier: Step, further: int) -> bool:
        return self.kind == earlier.kind and self.index == earlier.index + (further if self.entry else 0)


@dataclass(frozen=True)
class Line:
    """An access of a Fold: the registers' names, their value, and on the last one how often (where the name does not say it)."""

    access: Access
    name: str
    number: str
    how_often: str


@dataclass(frozen=True)
class Fold:
    """`group`, `times` in a row, each time `stride` entries on in the arrays it is about."""

    group: tuple[Access, ...]
    times: int = 1
    stride: int = 0

    def lines(self) -> Iterator[Line]:
        entries = f"x {self.times}" if not self.stride and self.times > 1 else ""
        together = f"these {len(self.group)} x {self.times}" if self.times > 1 else ""
        for number, access in enumerate(self.group, 1):
            name, value = self._entries(access)
            yield Line(
                access, name, value, "" if number < len(self.group) else together if len(self.group) > 1 else entries
            )

    def _entries(self, access: Access) -> tuple[str, str]:
        place, further = access.place, self.stride * (self.times - 1)
        if not further or place is None:
            return access.name, access.number
        if place.row.name in SELECTS:
            return access.name, f"{access.number}..{access.value + further:#x}"
        then = f",{place.index + self.stride}" if self.stride > 1 else ""
        return access.name.replace(f"[{place.index}]", f"[{place.index}{then}..{place.index + further}]"), access.number


def fold(accesses: Iterable[Access]) -> Iterator[Fold]:
    """The same accesses; up to LONGEST_LOOP of them that come again and again, or for one entry of an array after the other, are one Fold."""
    waiting: list[Step] = []  # not part of a loop so far, or of its next round
    loop: list[Step] = []
    times = stride = 0
    for access in accesses:
        waiting.append(Step.of(access))
        if loop:
            if not waiting[-1].is_again(loop[len(waiting) - 1], stride * times):
                yield _folded(loop, times, stride)
                loop = []
            elif len(waiting) == len(loop):
                times += 1
                waiting = []
        if not loop:
            period, stride = _repeats(waiting)
            if period:
                yield from (_folded([each]) for each in waiting[: -2 * period])
                loop, times, waiting = waiting[-2 * period : -period], 2, []
            elif len(waiting) > 2 * LONGEST_LOOP:
                yield _folded([waiting.pop(0)])
    if loop:
        yield _folded(loop, times, stride)
    yield from (_folded([each]) for each in waiting)


def _folded(steps: Sequence[Step], times: int = 1, stride: int = 0) -> Fold:
    return Fold(tuple(step.access for step in steps), times, stride)


def _repeats(steps: Sequence[Step]) -> tuple[int, int]:
    """How many steps at the end are those before them again, and how many entries further on; (0, 0) if they are not."""
    for period in range(1, min(LONGEST_LOOP, len(steps) // 2) + 1):
        rounds = [(steps[-i], steps[-i - period]) for i in range(1, period + 1)]
        stride = next((step.index - earlier.index for step, earlier in rounds if step.entry), 0)
        if 0 <= stride <= period and all(step.is_again(earlier, stride) for step, earlier in rounds):
            return period, stride
    return 0, 0
