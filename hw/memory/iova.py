"""I/O virtual addresses (IOVA): the ranges that the IOMMU translates, and the windows in use."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import DmaError
from .hugepages import HUGEPAGE, align_up

MSI_FIRST, MSI_LAST = 0xFEE0_0000, 0xFEEF_FFFF  # a write there is an interrupt, not a memory access (x86)
LOWEST = 0x1000_0000  # far from 0: a descriptor left at zero causes a DMA fault
GAP = HUGEPAGE  # between windows, so that an access past the end of one is a DMA fault


@dataclass(frozen=True)
class Range:
    """Addresses [first, last]."""

    first: int
    last: int


def without_msi(ranges: Iterable[Range]) -> list[Range]:
    """`ranges` in order and without the MSI window. Kernels that report ranges leave it out already."""
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
    """Allocates windows, lowest address first, aligned to 2 MiB for large pages of the IOMMU. Thread-safe."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = without_msi(ranges)
        self._taken: dict[int, int] = {}
        self._lock = threading.RLock()  # reentrant: garbage collection may close a device inside take()

    def take(self, size: int) -> int:
        """First address of a free window of `size` bytes. Raises DmaError if no range has room."""
        with self._lock:
            for each in self._ranges:
                iova = self._first_fit(max(each.first, LOWEST), size)
                if iova + size - 1 <= each.last:
                    self._taken[iova] = size
                    return iova
        shown = ", ".join(f"{each.first:#x}-{each.last:#x}" for each in self._ranges)
        raise DmaError(
            f"the IOMMU has no free addresses for {size} bytes; it translates {shown or 'nothing'}. "
            "Use smaller rings, or close other ports"
        )

    def _first_fit(self, lowest: int, size: int) -> int:
        iova = align_up(lowest, HUGEPAGE)
        for start in sorted(self._taken):
            end = start + self._taken[start] + GAP
            if iova + size + GAP > start and iova < end:
                iova = align_up(end, HUGEPAGE)
        return iova

    def give_back(self, iova: int) -> None:
        """Free the window at `iova`."""
        with self._lock:
            self._taken.pop(iova, None)
