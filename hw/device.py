"""The one Device interface: what the driver needs of an 82599, whatever carries it.

A transport (the emulator; VFIO and UIO) implements it. It follows VFIO's shape: BAR0 accesses of 32 bits, configuration
space, DMA windows by I/O virtual address, an eventfd for each MSI-X vector, function reset, close.
"""

from __future__ import annotations

import abc
import mmap
import os
import types
from dataclasses import dataclass

import numpy as np

from .register import DeviceError

PAGE = mmap.PAGESIZE


class DmaError(DeviceError):
    """Memory could not be made reachable for the device."""


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


class DmaMemory:
    """Zeroed, page-aligned memory that the device reaches; for descriptor rings, never part of a netmap region."""

    def __init__(self, device: Device, size: int) -> None:
        self._device = device
        self.size = -(-size // PAGE) * PAGE
        fd = os.memfd_create("ixrings-dma", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, self.size)
            self.view = np.frombuffer(mmap.mmap(fd, self.size), dtype=np.uint8)
            self.address = int(self.view.ctypes.data)
            self.mapping = device.map_dma(fd, self.address, self.size)
        except OSError as error:
            raise DmaError(f"no memory for {self.size} bytes of descriptors: {error.strerror}") from None
        finally:
            os.close(fd)

    @property
    def iova(self) -> int:
        return self.mapping.iova

    def release(self) -> None:
        """Unmap from the device; only once the device is quiet (contract 4). The pages go with the last view."""
        self._device.unmap_dma(self.mapping)


class Device(abc.ABC):
    """One PCI function 8086:10fb. Not thread-safe but for `doorbell` addresses; every method raises DeviceError once closed."""

    name: str
    max_vectors: int
    owner: str = ""  # the port that drives it, so that a second opener can be told

    @abc.abstractmethod
    def read32(self, offset: int, /) -> int:
        """Exactly one 32-bit load from BAR0 + offset; 0xFFFFFFFF when the device is gone."""

    @abc.abstractmethod
    def write32(self, offset: int, value: int, /) -> None:
        """Exactly one 32-bit store to BAR0 + offset."""

    @abc.abstractmethod
    def doorbell(self, offset: int) -> int:
        """Host address of a tail register (RDT, TDT): a 32-bit store there, from C, rings it. Valid until close."""

    @abc.abstractmethod
    def config_read(self, offset: int, size: int) -> int:
        """`size` (1, 2 or 4) bytes of configuration space, little-endian."""

    @abc.abstractmethod
    def config_write(self, offset: int, size: int, value: int) -> None: ...

    @abc.abstractmethod
    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        """Let the device read and write [address, address + size), which is file `fd` mapped from its start.

        Kernel transports pin by address, vfio-user hands the fd on. The fd may be closed afterwards. Raises DmaError.
        """

    @abc.abstractmethod
    def unmap_dma(self, mapping: DmaMapping) -> None: ...

    @abc.abstractmethod
    def enable_interrupts(self, vectors: int) -> list[int]:
        """Switch MSI-X on with that many vectors; an eventfd (non-blocking, owned by the device) for each."""

    @abc.abstractmethod
    def disable_interrupts(self) -> None: ...

    @abc.abstractmethod
    def reset(self) -> None:
        """Function-level reset: registers and configuration space as after power-on; DMA mappings stay."""

    @abc.abstractmethod
    def close(self) -> None:
        """Quiet the device for good and release everything. Idempotent."""

    def link_trouble(self) -> str:
        """Why the link is down, when the transport knows more than LINKS says; else ''."""
        return ""

    def alloc_dma(self, size: int) -> DmaMemory:
        return DmaMemory(self, size)

    def enable_bus_master(self, on: bool) -> None:
        """PCI command register: memory space stays on, bus master as asked (9.3.3.3)."""
        command = self.config_read(0x04, 2)
        self.config_write(0x04, 2, command | 0x6 if on else (command | 0x2) & ~0x4)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        self.close()
