"""Folds the loops of a register trace: `read STATUS 0x00080000 x 37`, `write PFUTA[0..127] 0x00000000`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ixrings.hw.trace.device import Access

LONGEST_LOOP = 4  # accesses
SELECTS = {"RTTDQSEL"}  # its value selects the queue for the next accesses (8.2.3.10.13)


@dataclass(frozen=True)
class Step:
    """An access that may be repeated, with the same `kind` and the same index (in an array: a higher index)."""

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

    def repeats(self, earlier: Step, stride: int) -> bool:
        return self.kind == earlier.kind and self.index == earlier.index + (stride if self.entry else 0)


@dataclass(frozen=True)
class Line:
    """A printed line of a Fold. how_often: on the last line, the number of repetitions if `name` does not show it."""

    access: Access
    name: str
    number: str
    how_often: str


@dataclass(frozen=True)
class Fold:
    """`group`, repeated `times` in a row. In each repetition the index of an array is `stride` higher."""

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
    """All accesses in order; a loop of up to LONGEST_LOOP accesses, with equal or rising indices, is one Fold."""
    waiting: list[Step] = []  # not yet part of a loop, or part of its next round
    loop: list[Step] = []
    times = stride = 0
    for access in accesses:
        waiting.append(Step.of(access))
        if loop:
            if not waiting[-1].repeats(loop[len(waiting) - 1], stride * times):
                yield folded(loop, times, stride)
                loop = []
            elif len(waiting) == len(loop):
                times += 1
                waiting = []
        if not loop:
            period, stride = find_loop(waiting)
            if period:
                yield from (folded([each]) for each in waiting[: -2 * period])
                loop, times, waiting = waiting[-2 * period : -period], 2, []
            elif len(waiting) > 2 * LONGEST_LOOP:
                yield folded([waiting.pop(0)])
    if loop:
        yield folded(loop, times, stride)
    yield from (folded([each]) for each in waiting)


def folded(steps: Sequence[Step], times: int = 1, stride: int = 0) -> Fold:
    return Fold(tuple(step.access for step in steps), times, stride)


def find_loop(steps: Sequence[Step]) -> tuple[int, int]:
    """(period, stride) if the last `period` steps repeat the steps before them, else (0, 0)."""
    for period in range(1, min(LONGEST_LOOP, len(steps) // 2) + 1):
        rounds = [(steps[-i], steps[-i - period]) for i in range(1, period + 1)]
        stride = next((step.index - earlier.index for step, earlier in rounds if step.entry), 0)
        if 0 <= stride <= period and all(step.repeats(earlier, stride) for step, earlier in rounds):
            return period, stride
    return 0, 0
