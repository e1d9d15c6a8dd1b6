"""Where the pages of a region are on the bus, when no IOMMU makes them contiguous."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from .memory import Attached
from .region import Region


class PageTable:
    """The addresses of a region's pages on the bus, for a NIC without an IOMMU.

    pages: the bus address of each `page_size` bytes, from the region's byte 0 on. Raises ValueError when page_size is
    not a power of two.
    """

    def __init__(self, pages: Sequence[int], page_size: int) -> None:
        if page_size <= 0 or page_size & (page_size - 1):
            raise ValueError(f"page_size must be a power of two, not {page_size}")
        self.page_size = page_size
        self._pages = (ctypes.c_uint64 * len(pages))(*pages)
        self.address = ctypes.addressof(self._pages)

    @property
    def pages(self) -> Sequence[int]:
        """The bus address of each page."""
        return tuple(self._pages)

    def check(self, region: Region | Attached) -> None:
        """Raises ValueError when the region is larger than the table, or when one of its buffers is in two pages."""
        if len(self._pages) * self.page_size < region.size:
            raise ValueError(
                f"{len(self._pages)} pages of {self.page_size} bytes do not cover the region's {region.size}"
            )
        if self.page_size % region.buf_size or region.buffers_offset % region.buf_size:
            raise ValueError(
                f"without an IOMMU a buffer must be in one page, and pages of {self.page_size} bytes are not a "
                f"multiple of {region.buf_size} bytes. Open the port with buf_size=2048"
            )
