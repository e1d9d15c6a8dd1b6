"""An emulated NIC that is shown: it notes the driver's accesses, and keeps hold of the memory with the rings."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.register import ALL_ONES

from ..ring_memory import REGION
from .register_log import RegisterLog


class ShownNic(Emulated82599):
    """log: of register accesses. Also a base beside another subclass of Emulated82599."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.log = RegisterLog()
        self._regions: dict[int, int] = {}  # IOVA -> copy of the fd of a region that a program mapped for the NIC
        self._lock = threading.Lock()
        super().__init__(*arguments, **options)

    # ---- what the driver does ----

    def read32(self, offset: int, /) -> int:
        value = super().read32(offset)
        self.log.note(False, offset, value, value, value)
        return value

    def write32(self, offset: int, value: int, /) -> None:
        before = self._word(offset)
        super().write32(offset, value)
        self.log.note(True, offset, value & ALL_ONES, before, self._word(offset))

    def _word(self, offset: int) -> int:
        registers = self._engine.registers
        return int(registers[offset >> 2]) if 0 <= offset >> 2 < len(registers) else 0

    def reset(self) -> None:
        self.log.remark("function reset")
        super().reset()

    # ---- the program's memory ----

    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        super().map_dma_at(iova, size, fd, offset, readable=readable, writable=writable)
        if fd is not None and os.readlink(f"/proc/self/fd/{fd}").startswith(f"/memfd:{REGION}"):
            with self._lock:
                self._regions.setdefault(iova, os.dup(fd))

    def unmap_dma_range(self, iova: int, size: int) -> None:
        super().unmap_dma_range(iova, size)
        self._forget(lambda at: iova <= at < iova + size)

    def unmap_dma_all(self) -> None:
        super().unmap_dma_all()
        self._forget(lambda _: True)

    def _forget(self, gone: Any) -> None:
        with self._lock:
            for at in [at for at in self._regions if gone(at)]:
                os.close(self._regions.pop(at))

    def regions(self) -> Iterator[tuple[int, int]]:
        """IOVA and a new copy of the fd of each region; the caller closes the copies."""
        with self._lock:
            copies = [(iova, os.dup(fd)) for iova, fd in self._regions.items()]
        return iter(copies)

    def close(self) -> None:
        super().close()
        self._forget(lambda _: True)
