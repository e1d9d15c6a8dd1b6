"""Memory of a Device's own, for descriptor rings: windows that the device reaches, and the parts they are handed out in."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ixrings.hw.errors import DmaError

from .hugepages import PAGE, align_up, make_memfd


@dataclass(frozen=True)
class DmaMapping:
    """Host memory [address, address + size) as the device sees it: contiguous from `iova` on.

    A transport without an IOMMU cannot promise that; it then gives `pages`, one bus address for each `page_size` bytes.
    """

    address: int
    size: int
    iova: int
    pages: tuple[int, ...] = ()
    page_size: int = 0

    def bus_address(self, offset: int) -> int:
        """Where the device finds byte `offset`."""
        return self.pages[offset // self.page_size] + offset % self.page_size if self.pages else self.iova + offset


class Mapper(Protocol):
    """What a window asks of its Device."""

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping: ...
    def unmap_dma(self, mapping: DmaMapping) -> None: ...
    def forget_window(self, window: DmaWindow) -> None: ...


class DmaWindow:
    """A memfd of whole pages that the device reaches, handed out in parts; it goes with the last part.

    hugepages: True takes 2 MiB pages or fails, None takes them when there are enough, False leaves them to others.
    """

    def __init__(self, device: Mapper, size: int, hugepages: bool | None) -> None:
        self._device = device
        fd, self.page_size = make_memfd("ixrings-dma", size, hugepages)
        try:
            self.size = align_up(size, self.page_size)
            self.view = np.frombuffer(
                mmap.mmap(fd, self.size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE), dtype=np.uint8
            )
            self.address = int(self.view.ctypes.data)
            self.mapping = device.map_dma(fd, self.address, self.size)
            if self.mapping.pages and size > self.mapping.page_size:
                device.unmap_dma(self.mapping)
                raise DmaError(
                    f"{size} bytes in one piece are needed, and pages of {self.mapping.page_size} bytes are not neighbours. "
                    "Reserve hugepages early: boot with hugepages=64"
                )
        except OSError as error:
            raise DmaError(f"no memory for {size} bytes of descriptors: {error.strerror}") from None
        finally:
            os.close(fd)
        self._given = self._parts = 0

    def take(self, size: int) -> DmaMemory | None:
        """The next `size` bytes; None when they do not fit. A part is aligned to its size, so it crosses no page larger than itself."""
        offset = align_up(self._given, max(PAGE, 1 << (size - 1).bit_length()))
        if offset + size > self.size:
            return None
        self._given = offset + size
        self._parts += 1
        return DmaMemory(self, offset, size)

    def give_back(self) -> None:
        self._parts -= 1
        if not self._parts:
            self._device.forget_window(self)  # what was used is not zeroed memory any more
            self._device.unmap_dma(self.mapping)


class DmaMemory:
    """Zeroed memory, aligned to a page and to its size, contiguous for the device; for descriptor rings, never part of a netmap region.

    view: uint8, shape (size,). address: of byte 0 here, iova: as the device sees it. page_size: of the memory it lies in, bytes.
    """

    def __init__(self, window: DmaWindow, offset: int, size: int) -> None:
        self._window: DmaWindow | None = window
        self.size, self.page_size = size, window.page_size
        self.view = window.view[offset : offset + size]
        self.address = window.address + offset
        self.iova = window.mapping.bus_address(offset)

    def release(self) -> None:
        """Unmap from the device; only once the device is quiet (contract 4). The pages go with the last view. Twice is harmless."""
        if self._window is not None:
            self._window.give_back()
            self._window = None
