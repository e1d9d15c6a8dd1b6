"""DMA windows of an emulated function: the driver's map_dma(), for the NIC and for its VFs."""

from __future__ import annotations

from abc import abstractmethod

from ..device import Device, DmaMapping
from ..errors import DmaError

ALL_IOVAS = (1 << 64) - 1  # the size of all IOVAs from 0 on; no window reaches the last page
IOVA_GAP = 0x20_0000  # between windows, so that an access beyond the end of one is a fault


class FileWindows(Device):
    """A Device whose engine maps the driver's files itself, so a driver's mistake never makes it touch memory that is
    gone. A subclass sets `_next_iova` to its first IOVA."""

    _next_iova: int
    _closed: bool

    @abstractmethod
    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        """Map [iova, iova + size) to file `fd` from `offset` on; fd None: to memory reached only by `dma_messages`.

        All numbers are multiples of 4096. Raises OSError: EEXIST when windows would overlap, EINVAL, ENOMEM, EACCES.
        """

    @abstractmethod
    def unmap_dma_range(self, iova: int, size: int) -> None:
        """Unmap the windows in [iova, iova + size), if any. Raises OSError (EINVAL) when the range ends inside one."""

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        iova = self._next_iova
        try:
            self.map_dma_at(iova, size, fd)
        except OSError as error:
            raise DmaError(f"{size} bytes of the file cannot be mapped for the device: {error.strerror}") from None
        self._next_iova = -(-(iova + size + IOVA_GAP) // IOVA_GAP) * IOVA_GAP
        return DmaMapping(address, size, iova)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        if not self._closed:
            self.unmap_dma_range(mapping.iova, mapping.size)
