"""A region's memory as this process sees it."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Mapping:
    """Shared memory, mapped. It is unmapped when the last view of it is dropped, so no view ever dangles."""

    memory: memoryview  # of bytes, writable
    address: int  # of byte 0, in this process

    @property
    def size(self) -> int:
        return len(self.memory)

    def array(self, dtype: np.dtype[np.void], count: int, offset: int) -> npt.NDArray[np.void]:
        """`count` structures at `offset`. Raises ValueError when they do not lie in the memory."""
        if offset < 0:
            raise ValueError(f"offset {offset} is before the memory's first byte")
        return np.frombuffer(self.memory, dtype, count, offset)

    def bytes(self, count: int, offset: int) -> npt.NDArray[np.uint8]:
        """`count` bytes at `offset`. Raises ValueError when they do not lie in the memory."""
        if offset < 0:
            raise ValueError(f"offset {offset} is before the memory's first byte")
        return np.frombuffer(self.memory, np.uint8, count, offset)


def map_shared(fd: int, size: int) -> Mapping:
    """Map `size` bytes of `fd`, shared and writable, every page present from the start. Raises OSError."""
    memory = memoryview(mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE))
    return Mapping(memory, np.frombuffer(memory, np.uint8).ctypes.data)
