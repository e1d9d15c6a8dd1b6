"""A region's memory: how it is made, and how this process sees it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import RegionError
from .layout import align_up

Memory = Callable[[int], "tuple[int, int] | None"]
"""Makes special memory for a region, such as hugepages. It takes a number of bytes and returns a memfd of that size or
more, made with MFD_ALLOW_SEALING, and the size of its pages in bytes; or None, and the region takes plain pages."""

PAGE = mmap.PAGESIZE
SMALLER = "Use fewer or smaller rings (tx_slots, rx_slots), or smaller buffers (buf_size)."


@dataclass(frozen=True)
class Mapping:
    """Mapped shared memory. It is unmapped when its last view is dropped, so every view stays usable."""

    memory: memoryview  # of bytes, writable
    address: int  # of byte 0, in this process

    @property
    def size(self) -> int:
        return len(self.memory)

    def array(self, dtype: np.dtype[np.void], count: int, offset: int) -> npt.NDArray[np.void]:
        """`count` structures at `offset`. Raises ValueError when they are not inside the memory."""
        self._check(offset, count * dtype.itemsize)
        return np.frombuffer(self.memory, dtype, count, offset)

    def bytes(self, count: int, offset: int) -> npt.NDArray[np.uint8]:
        """`count` bytes at `offset`. Raises ValueError when they are not inside the memory."""
        self._check(offset, count)
        return np.frombuffer(self.memory, np.uint8, count, offset)

    def _check(self, offset: int, size: int) -> None:
        """Offsets of another program may be any 64-bit number, and numpy takes a negative count for "all"."""
        if not 0 <= offset <= self.size - size or size < 0:
            raise ValueError(f"{size} bytes at offset {offset} are not inside the memory's {self.size}")


@dataclass
class Attached:
    """A region of another process, as queues of this process need it. The names are those of Region."""

    address: int
    size: int
    buf_size: int
    total_buffers: int
    buffers_offset: int


def map_shared(fd: int, size: int) -> Mapping:
    """Map `size` bytes of `fd`: shared, writable, and with every page present from the start. Raises OSError."""
    memory = memoryview(mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE))
    return Mapping(memory, np.frombuffer(memory, np.uint8).ctypes.data)


def make_memory(size: int, special: Memory | None) -> tuple[int, int]:
    """A sealed memfd of at least `size` bytes in whole pages, and the size of its pages. Raises RegionError.

    Sealed: a process that gets the fd cannot make the memory shorter. It can still punch holes, because no seal forbids
    only that. Program and NIC then use different pages, and without an IOMMU the kernel may give the NIC's pages to
    another program.
    """
    fd, page_size = (special(size) if special else None) or (plain_memory(size), PAGE)
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd, page_size


def plain_memory(size: int) -> int:
    """A memfd of at least `size` bytes in plain pages, all allocated, so that a shortage is not a SIGBUS later.

    Raises RegionError.
    """
    available = available_memory()
    if size > available:
        raise RegionError(f"The region needs {mb(size)}, but only {mb(available)} of memory are available. {SMALLER}")
    fd = os.memfd_create("netmap-region", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, align_up(size, PAGE))
        os.posix_fallocate(fd, 0, align_up(size, PAGE))
    except OSError as error:
        os.close(fd)
        limit = " (see ulimit -f)" if error.errno == errno.EFBIG else ""
        raise RegionError(f"The region's {mb(size)} cannot be allocated: {error.strerror}{limit}. {SMALLER}") from error
    except BaseException:  # Ctrl-C, for example: a large region takes a while
        os.close(fd)
        raise
    return fd


def available_memory() -> int:
    """Bytes that the kernel can give now. It would promise more and then kill a process, so ask first."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 63  # unknown: posix_fallocate will find out


def mb(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
