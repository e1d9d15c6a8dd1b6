"""Memory files for DMA, on pages of 2 MiB if the kernel has free ones.

A hugepage is contiguous physical memory that stays in place. It takes one entry of the IOMMU's tables and of its cache.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from ..errors import DmaError

PAGE = mmap.PAGESIZE
HUGEPAGE = 2 << 20
COUNTS = "sys/kernel/mm/hugepages/hugepages-2048kB"
AT_LEAST = 64  # pages to reserve: enough for a port or two


def align_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `value`."""
    return -(-value // step) * step


def free_hugepages(root: Path = Path("/")) -> int:
    """Number of free 2 MiB pages; 0 if the kernel does not support them."""
    return count_of(root, "free_hugepages")


def reserve(needed: int = 1, root: Path = Path("/")) -> str:
    """The command that makes `needed` pages free even if all reserved pages are in use."""
    return f"echo {max(AT_LEAST, count_of(root, 'nr_hugepages') + needed)} | sudo tee /proc/sys/vm/nr_hugepages"


def count_of(root: Path, name: str) -> int:
    try:
        return int((root / COUNTS / name).read_text())
    except (OSError, ValueError):
        return 0


def make_memfd(name: str, size: int, hugepages: bool | None) -> tuple[int, int]:
    """A memory file of `size` bytes, rounded up to whole pages and allocated in full. Returns its fd and its page size.

    hugepages: True takes 2 MiB pages or fails, None takes them if enough are free, False never. Raises DmaError.
    """
    if hugepages is not False:
        try:
            return create(name, align_up(size, HUGEPAGE), os.MFD_HUGETLB | os.MFD_HUGE_2MB), HUGEPAGE
        except OSError as error:
            if hugepages:
                needed = align_up(size, HUGEPAGE) // HUGEPAGE
                raise DmaError(
                    f"{needed} hugepages of 2 MiB are needed and {free_hugepages()} are free ({error.strerror}). "
                    f"Run: {reserve(needed)}"
                ) from None
    try:
        return create(name, align_up(size, PAGE), 0), PAGE
    except OSError as error:
        hint = "See: ulimit -f" if error.errno == errno.EFBIG else "Use smaller rings, or see: free -h"
        raise DmaError(f"no memory for {size} bytes of DMA memory: {error.strerror}. {hint}") from None


def create(name: str, size: int, flags: int) -> int:
    """A memory file of `size` bytes, allocated in full. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    try:
        os.ftruncate(fd, size)  # not every kernel enlarges a file of hugepages by posix_fallocate
        os.posix_fallocate(fd, 0, size)
    except BaseException:  # Ctrl-C too: allocating much memory takes long
        os.close(fd)
        raise
    return fd
