"""Helpers of driver tests: a port's emulated NIC, this process's resources, a Device that fails on demand."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

from ixrings import Port
from ixrings.hw.device import Device, DmaMapping
from ixrings.hw.emulator import Emulated82599


def emulated(port: Port) -> Emulated82599:
    """The emulated NIC of a port that was opened by name."""
    assert isinstance(port.device, Emulated82599)
    return port.device


def held() -> tuple[int, int, int]:
    """The numbers of open fds, shared mappings (memfds) and threads of this process, C threads included."""
    gc.collect()
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        shared = sum("memfd:" in line for line in maps)
    return len(os.listdir("/proc/self/fd")), shared, len(os.listdir("/proc/self/task"))


class Watched(Device):
    """A Device that records what is done to it and calls `trouble` at the `at`-th register access."""

    def __init__(self, inner: Emulated82599, *, at: int = -1, trouble: Callable[[], None] | None = None) -> None:
        self.inner = inner
        self.name, self.max_vectors = inner.name, inner.max_vectors
        self.accesses = 0
        self.events: list[tuple[str, int, int]] = []
        self.mapped = 0
        self.unmapped_while_master: list[int] = []
        self._at, self._trouble = at, trouble

    def arm(self, at: int, trouble: Callable[[], None]) -> None:
        """Call `trouble` at the `at`-th access from now."""
        self._at, self._trouble = self.accesses + at, trouble

    def _count(self) -> None:
        self.accesses += 1
        if self.accesses == self._at and self._trouble is not None:
            self._trouble()

    def read32(self, offset: int, /) -> int:
        self._count()
        return self.inner.read32(offset)

    def write32(self, offset: int, value: int, /) -> None:
        self._count()
        self.events.append(("write", offset, value))
        self.inner.write32(offset, value)

    def doorbell(self, offset: int) -> int:
        return self.inner.doorbell(offset)

    def config_read(self, offset: int, size: int) -> int:
        return self.inner.config_read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self.events.append(("config", offset, value))
        self.inner.config_write(offset, size, value)

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        self.mapped += 1
        return self.inner.map_dma(fd, address, size)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        self.events.append(("unmap", mapping.iova, mapping.size))
        self.mapped -= 1
        command = self.inner.config_read(0x04, 2)
        if command & 0x4 and command != 0xFFFF:
            self.unmapped_while_master.append(mapping.iova)
        self.inner.unmap_dma(mapping)

    def enable_interrupts(self, vectors: int) -> list[int]:
        return self.inner.enable_interrupts(vectors)

    def disable_interrupts(self) -> None:
        self.events.append(("vectors off", 0, 0))
        self.inner.disable_interrupts()

    def reset(self) -> None:
        self.events.append(("function reset", 0, 0))
        self.inner.reset()

    def close(self) -> None:
        self.inner.close()

    def link_trouble(self) -> str:
        return self.inner.link_trouble()
