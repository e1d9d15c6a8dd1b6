"""Memory for descriptor rings: windows that a device can access, and the parts of a window that rings use."""

from __future__ import annotations

import fcntl
import mmap
import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import DmaError
from .hugepages import PAGE, align_up, make_memfd


@dataclass(frozen=True)
class DmaMapping:
    """Host memory [address, address + size), contiguous for the device from `iova` on.

    Without an IOMMU the memory may not be contiguous; `pages` then has a bus address for each `page_size` bytes.
    """

    address: int
    size: int
    iova: int
    pages: tuple[int, ...] = ()
    page_size: int = 0

    def bus_address(self, offset: int) -> int:
        """Address of byte `offset` for the device."""
        return self.pages[offset // self.page_size] + offset % self.page_size if self.pages else self.iova + offset


class Mapper(Protocol):
    """What a window needs of its Device."""

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping: ...
    def unmap_dma(self, mapping: DmaMapping) -> None: ...
    def forget_window(self, window: DmaWindow) -> None: ...


class DmaWindow:
    """A memfd of whole pages that the device can access, handed out in parts. Releasing the last part unmaps it.

    hugepages: True takes 2 MiB pages or fails, None takes them if enough are free, False never. Raises DmaError.
    """

    def __init__(self, device: Mapper, size: int, hugepages: bool | None) -> None:
        self._device = device
        fd, self.page_size = make_memfd("ixrings-dma", size, hugepages)
        try:
            # A NIC in another process gets the fd, and must not make the memory shorter.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self.size = align_up(size, self.page_size)
            self.view = np.frombuffer(
                mmap.mmap(fd, self.size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE), dtype=np.uint8
            )
            self.address = int(self.view.ctypes.data)
            self.mapping = device.map_dma(fd, self.address, self.size)
            self._file = os.fstat(fd)
            if self.mapping.pages and size > self.mapping.page_size:
                device.unmap_dma(self.mapping)
                raise DmaError(
                    f"{size} bytes must be contiguous, but the pages of {self.mapping.page_size} bytes that the "
                    "kernel gave are not neighbours. Reserve hugepages early: boot with hugepages=64"
                )
        except OSError as error:
            raise DmaError(
                f"no memory for descriptor rings of {size} bytes: {error.strerror}. Use smaller rings, or see: free -h"
            ) from None
        finally:
            os.close(fd)
        self._given = self._parts = 0

    def take(self, size: int) -> DmaMemory | None:
        """The next `size` bytes; None if they do not fit. Aligned to the size, so that they cross no larger page."""
        offset = align_up(self._given, max(PAGE, 1 << (size - 1).bit_length()))
        if offset + size > self.size:
            return None
        self._given = offset + size
        self._parts += 1
        return DmaMemory(self, offset, size)

    def file(self) -> int:
        """A new descriptor of the memory's file, for another process. The caller closes it.

        The window keeps none of its own, because a port may have hundreds of windows. But Python's mmap keeps a
        duplicate as long as the memory is mapped, and this finds it. Raises DmaError.
        """
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.path.samestat(os.fstat(int(name)), self._file):
                    return os.dup(int(name))
            except OSError:  # the descriptor that lists the directory, or one that another thread closed
                continue
        raise DmaError("the file of the DMA memory is not open any more. Close the port and open it again")

    def give_back(self) -> None:
        """Take back one part. The last one unmaps the window."""
        self._parts -= 1
        if not self._parts:
            self._device.forget_window(self)  # its memory was used, so it is no longer zeroed
            self._device.unmap_dma(self.mapping)


class DmaMemory:
    """Zeroed memory, aligned to a page and to its size, contiguous for the device. Never part of a netmap region.

    view: uint8, shape (size,). address: of byte 0 in this process; iova: of byte 0 for the device. page_size: bytes of
    one page of this memory.
    """

    def __init__(self, window: DmaWindow, offset: int, size: int) -> None:
        self._window: DmaWindow | None = window
        self.size, self.page_size = size, window.page_size
        self.view = window.view[offset : offset + size]
        self.address = window.address + offset
        self.iova = window.mapping.bus_address(offset)

    def file(self) -> tuple[int, int, int]:
        """For another process: a new descriptor of the memory's file, the file's size, and where this memory starts."""
        if self._window is None:
            raise DmaError("the DMA memory is released")
        return self._window.file(), self._window.size, self.address - self._window.address

    def release(self) -> None:
        """Unmap from the device, which must be quiet by then (driver/README.md, contract 4). Idempotent.

        The pages are freed with the last view.
        """
        if self._window is not None:
            self._window.give_back()
            self._window = None
