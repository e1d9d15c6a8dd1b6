"""Memory as a device without an IOMMU sees it: by physical address, page by page (Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ixrings.hw.errors import DmaError

from .dma import DmaMapping
from .hugepages import HUGEPAGE, PAGE, align_up, reserve

PAGEMAP = Path("/proc/self/pagemap")
PRESENT = 1 << 63
FRAME = (1 << 55) - 1


def map_physical(name: str, fd: int, address: int, size: int) -> DmaMapping:
    """Where [address, address + size), which is `fd` mapped from its start, lies in physical memory. Raises DmaError.

    Only hugepages: the kernel moves plain pages about, and would not tell the device.
    ASSUMPTION: hugepages stay where they are. The kernel moves them only when memory is taken offline or a CMA area is wanted.
    """
    page_size = os.fstatvfs(fd).f_bsize
    if page_size < HUGEPAGE:
        raise DmaError(
            f"{name} has no IOMMU and works with physical addresses, so its memory must be on hugepages. "
            f"Run: {reserve(align_up(size, HUGEPAGE) // HUGEPAGE)}"
        )
    if address % page_size or size % page_size:
        raise DmaError(f"{name}: {size} bytes at {address:#x} are not whole pages of {page_size}")
    pages = [physical_address(page) for page in range(address, address + size, page_size)]
    if all(later - earlier == page_size for earlier, later in zip(pages, pages[1:])):
        return DmaMapping(address, size, pages[0])
    return DmaMapping(address, size, pages[0], tuple(pages), page_size)


def physical_address(address: int, pagemap: Path = PAGEMAP) -> int:
    """Of the page at `address`, which was touched. Raises DmaError when the kernel keeps it secret."""
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
            f"{pagemap} shows no addresses: that needs CAP_SYS_ADMIN. Run as root (sudo), or use vfio-pci, which needs none"
        )
    return (entry & FRAME) * PAGE
