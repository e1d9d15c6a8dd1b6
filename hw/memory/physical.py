"""DMA without an IOMMU: the physical address of each page (Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ..errors import DmaError
from .dma import DmaMapping
from .hugepages import HUGEPAGE, PAGE, align_up, reserve

PAGEMAP = Path("/proc/self/pagemap")
PRESENT = 1 << 63
FRAME = (1 << 55) - 1


def map_physical(name: str, fd: int, address: int, size: int) -> DmaMapping:
    """Physical addresses of [address, address + size), which is `fd` mapped from its start. Raises DmaError.

    The memory has to be on hugepages: the kernel may move plain pages at any time without notice.
    ASSUMPTION (kernel documentation silent): hugepages stay in place. The kernel moves them only when memory is taken
    offline or a CMA area is allocated.
    """
    page_size = os.fstatvfs(fd).f_bsize
    if page_size < HUGEPAGE:
        raise DmaError(
            f"{name} has no IOMMU and uses physical addresses, so its memory must be on hugepages. "
            f"Run: {reserve(align_up(size, HUGEPAGE) // HUGEPAGE)}"
        )
    if address % page_size or size % page_size:
        raise DmaError(f"{name}: {size} bytes at {address:#x} are not whole pages of {page_size}")
    pages = [physical_address(page) for page in range(address, address + size, page_size)]
    if all(page == pages[0] + i * page_size for i, page in enumerate(pages)):
        return DmaMapping(address, size, pages[0])
    return DmaMapping(address, size, pages[0], tuple(pages), page_size)


def physical_address(address: int, pagemap: Path = PAGEMAP) -> int:
    """Physical address of the page at `address`, which must be in memory. Raises DmaError if the kernel hides it."""
    try:
        with open(pagemap, "rb", buffering=0) as entries:
            entries.seek(address // PAGE * 8)
            data = entries.read(8)
        entry = int(struct.unpack("<Q", data)[0])
    except (OSError, struct.error) as error:
        raise DmaError(
            f"{pagemap} cannot be read ({error}), so physical addresses are unknown. Run as root (sudo)"
        ) from None
    if not entry & PRESENT:
        raise DmaError(f"the page at {address:#x} is not in memory")
    if not entry & FRAME:
        raise DmaError(
            f"{pagemap} hides physical addresses: reading them needs CAP_SYS_ADMIN. Run as root (sudo), or use "
            "vfio-pci, which does not need them"
        )
    return (entry & FRAME) * PAGE
