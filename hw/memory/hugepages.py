"""Memory for DMA: files in memory whose pages are 2 MiB when the kernel has such pages to give.

A hugepage is one piece of physical memory that stays where it is, and one entry of the IOMMU's tables and of its cache.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from ixrings.hw.errors import DmaError

PAGE = mmap.PAGESIZE
HUGEPAGE = 2 << 20
COUNTS = "sys/kernel/mm/hugepages/hugepages-2048kB"
AT_LEAST = 64  # pages to reserve: enough for a port or two


def align_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `value`."""
    return -(-value // step) * step


def free_hugepages(root: Path = Path("/")) -> int:
    """2 MiB pages that nobody has yet; 0 where the kernel has none at all."""
    return _count(root, "free_hugepages")


def reserve(needed: int = 1, root: Path = Path("/")) -> str:
    """The command after which `needed` pages are free, whoever has those that are reserved now."""
    return f"echo {max(AT_LEAST, _count(root, 'nr_hugepages') + needed)} | sudo tee /proc/sys/vm/nr_hugepages"


def _count(root: Path, name: str) -> int:
    try:
        return int((root / COUNTS / name).read_text())
    except (OSError, ValueError):
        return 0


def make_memfd(name: str, size: int, hugepages: bool | None) -> tuple[int, int]:
    """A file in memory of `size` bytes or, rounded up, whole pages, all of it in hand; and the size of its pages.

    hugepages: True takes 2 MiB pages or fails, None takes them when there are enough, False never. Raises DmaError.
    """
    if hugepages is not False:
        try:
            return _make(name, align_up(size, HUGEPAGE), os.MFD_HUGETLB | os.MFD_HUGE_2MB), HUGEPAGE
        except OSError as error:
            if hugepages:
                needed = align_up(size, HUGEPAGE) // HUGEPAGE
                raise DmaError(
                    f"{needed} hugepages of 2 MiB are needed and {free_hugepages()} are free ({error.strerror}). Run: {reserve(needed)}"
                ) from None
    try:
        return _make(name, align_up(size, PAGE), 0), PAGE
    except OSError as error:
        limit = " (see ulimit -f)" if error.errno == errno.EFBIG else ""
        raise DmaError(f"no memory for {size} bytes that the device reaches: {error.strerror}{limit}") from None


def _make(name: str, size: int, flags: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | flags)
    try:
        os.ftruncate(fd, size)  # posix_fallocate on hugepages does not enlarge the file on every kernel
        os.posix_fallocate(fd, 0, size)
    except BaseException:  # Ctrl-C too: this takes long for much memory
        os.close(fd)
        raise
    return fd
