"""Addresses for DMA behind an IOMMU: which the IOMMU carries, and which are taken."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ixrings.hw.errors import DmaError

from .hugepages import HUGEPAGE, align_up

MSI_FIRST, MSI_LAST = 0xFEE0_0000, 0xFEEF_FFFF  # a write there is an interrupt, never memory (x86)
LOWEST = 0x1000_0000  # far from 0: a descriptor that nobody filled in is a fault
GAP = HUGEPAGE  # between windows, so that running over the end of one is a fault


@dataclass(frozen=True)
class Range:
    """Addresses [first, last]."""

    first: int
    last: int


def without_msi(ranges: Iterable[Range]) -> list[Range]:
    """`ranges` with the MSI window cut out, as kernels do that tell their ranges; in order."""
    kept = []
    for each in sorted(ranges, key=lambda each: each.first):
        kept += [
            part
            for part in (
                Range(each.first, min(each.last, MSI_FIRST - 1)),
                Range(max(each.first, MSI_LAST + 1), each.last),
            )
            if part.first <= part.last
        ]
    return kept


class IovaSpace:
    """Hands out windows, lowest address first, aligned to 2 MiB for the IOMMU's large pages. For any thread."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = without_msi(ranges)
        self._taken: dict[int, int] = {}
        self._lock = threading.RLock()  # a collected device gives back from wherever its thread is

    def take(self, size: int) -> int:
        """Raises DmaError when no range has room."""
        with self._lock:
            for each in self._ranges:
                iova = self._first_fit(max(each.first, LOWEST), size)
                if iova + size - 1 <= each.last:
                    self._taken[iova] = size
                    return iova
        shown = ", ".join(f"{each.first:#x}-{each.last:#x}" for each in self._ranges)
        raise DmaError(
            f"the IOMMU has no room for a window of {size} bytes; it carries {shown or 'nothing'}. Use smaller rings, or close other ports"
        )

    def _first_fit(self, lowest: int, size: int) -> int:
        iova = align_up(lowest, HUGEPAGE)
        for start in sorted(self._taken):
            end = start + self._taken[start] + GAP
            if iova + size + GAP > start and iova < end:
                iova = align_up(end, HUGEPAGE)
        return iova

    def give_back(self, iova: int) -> None:
        with self._lock:
            self._taken.pop(iova, None)
