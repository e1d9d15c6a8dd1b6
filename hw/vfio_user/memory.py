"""The windows that a client mapped for DMA, and the accesses outside of them."""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from pathlib import Path

from ..memory.hugepages import PAGE
from .errors import Refused
from .regions import Function

TOP = (1 << 64) - PAGE  # end of the address space, without the last page: every end of a window fits 64 bits
MOST_WINDOWS = 32768  # half of the kernel's default limit


def most_windows(clients: int = 1) -> int:
    """How many windows each client of this process may map: together at most half of the mappings that the kernel
    allows the process.

    Near the kernel's limit (vm.max_map_count) every allocation of this process may fail.
    """
    return min(MOST_WINDOWS, int(Path("/proc/sys/vm/max_map_count").read_text()) // 2) // clients


class ClientMemory:
    """The windows of one client; they do not overlap. An access outside of them is a DMA fault, recorded by the NIC.

    clients: so many share the windows that this process may have.
    """

    def __init__(self, nic: Function, clients: int = 1) -> None:
        self._nic = nic
        self.most = most_windows(clients)

    def __len__(self) -> int:
        return self._nic.dma_windows

    def open(self) -> None:
        """Called when the version is negotiated: from now on the client may map windows."""

    def map(self, address: int, size: int, fd: int | None, offset: int, *, readable: bool, writable: bool) -> None:
        """As Emulated82599.map_dma_at(). Raises OSError."""
        self._nic.map_dma_at(address, size, fd, offset, readable=readable, writable=writable)

    def unmap(self, address: int, size: int) -> None:
        """Unmap all windows in [address, address + size). Raises OSError (EINVAL) if a window is only partly in it."""
        self._nic.unmap_dma_range(address, size)

    def unmap_all(self) -> None:
        self._nic.unmap_dma_all()


class AskedMemory(ClientMemory):
    """Accesses outside of the windows become messages to the client. A client with an IOMMU can refuse and report them.

    Windows that are accessed by messages fill the gaps. This costs a few calls for each map and unmap.
    """

    def __init__(self, nic: Function, clients: int = 1) -> None:
        super().__init__(nic, clients)
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def open(self) -> None:
        self._fill(0, TOP)

    def map(self, address: int, size: int, fd: int | None, offset: int, *, readable: bool, writable: bool) -> None:
        index = bisect_right(self._starts, address)
        low, high = self._between(index, index)
        if not size or address % PAGE or size % PAGE or address + size > TOP:
            raise Refused
        if address < low or address + size > high:
            raise Refused(errno.EEXIST)
        self._nic.unmap_dma_range(low, high - low)
        try:
            super().map(address, size, fd, offset, readable=readable, writable=writable)
        except OSError:
            self._fill(low, high)
            raise
        self._starts.insert(index, address)
        self._sizes[address] = size
        self._fill(low, address)
        self._fill(address + size, high)

    def unmap(self, address: int, size: int) -> None:
        first, last = bisect_left(self._starts, address), bisect_left(self._starts, address + size)
        if not size or self._end(first - 1) > address or self._end(last - 1) > address + size:
            raise Refused
        if first == last:
            return
        low, high = self._between(first, last)
        for start in self._starts[first:last]:
            del self._sizes[start]
        del self._starts[first:last]
        self._nic.unmap_dma_range(low, high - low)
        self._fill(low, high)

    def unmap_all(self) -> None:
        super().unmap_all()
        self._starts.clear()
        self._sizes.clear()
        self._fill(0, TOP)

    def _end(self, index: int) -> int:
        """End of the window with that index; 0 before the first."""
        return self._starts[index] + self._sizes[self._starts[index]] if index >= 0 else 0

    def _between(self, first: int, last: int) -> tuple[int, int]:
        """From the end of the window before index `first` to the start of the window at index `last`."""
        return self._end(first - 1), self._starts[last] if last < len(self._starts) else TOP

    def _fill(self, low: int, high: int) -> None:
        if low < high:
            self._nic.map_dma_at(low, high - low, None)
