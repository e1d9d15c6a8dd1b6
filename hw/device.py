"""The one Device interface: what the driver needs of an 82599, whatever carries it.

A transport (the emulator; VFIO and UIO) implements it. It follows VFIO's shape: BAR0 accesses of 32 bits, configuration
space, DMA windows by I/O virtual address, an eventfd for each MSI-X vector, function reset, close.
"""

from __future__ import annotations

import abc
import types
from typing import TYPE_CHECKING

from .errors import DeviceError, DmaError
from .memory.dma import DmaMapping, DmaMemory, DmaWindow
from .memory.hugepages import PAGE, align_up

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PAGE", "Device", "DmaError", "DmaMapping", "DmaMemory", "DmaWindow"]


class Device(abc.ABC):
    """One PCI function 8086:10fb. Not thread-safe but for `doorbell` addresses; every method raises DeviceError once closed."""

    name: str
    max_vectors: int
    owner: str = ""  # the port that drives it, so that a second opener can be told
    hugepages: bool | None = (
        False  # DMA memory on 2 MiB pages: only so (True), when there are enough (None), not (False)
    )
    scattered: bool = False  # what map_dma maps may have pages here and there in the device's eyes: without an IOMMU
    doorbells_need_ringing: bool = False  # a store at `doorbell` is not enough: ring_doorbells() has to follow
    _window: DmaWindow | None = None
    _closed: bool

    @abc.abstractmethod
    def read32(self, offset: int, /) -> int:
        """Exactly one 32-bit load from BAR0 + offset; 0xFFFFFFFF when the device is gone."""

    @abc.abstractmethod
    def write32(self, offset: int, value: int, /) -> None:
        """Exactly one 32-bit store to BAR0 + offset."""

    @abc.abstractmethod
    def doorbell(self, offset: int) -> int:
        """Host address of a tail register (RDT, TDT): a 32-bit store there, from C, rings it. Valid until close."""

    def ring_doorbells(self) -> None:
        """Pass on what was stored at `doorbell` addresses; where `doorbells_need_ringing`, after each sync."""

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
        """Switch MSI-X on with that many vectors; a descriptor (non-blocking, owned by the device) for each.

        A device, or a transport, without MSI-X gives a single one when asked for more: one line, INTx, for every cause. It is readable
        once the line was raised; the line then stays masked until rearm_line().
        """

    @abc.abstractmethod
    def disable_interrupts(self) -> None: ...

    def rearm_line(self) -> None:
        """INTx: forget that it was raised and let it be raised again; call it when the causes are cleared or masked (7.3.1.1)."""
        raise DeviceError(f"{self.name} has no interrupt line")

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
        """Raises DmaError. Plain pages: a window for each, so that running over the end is a fault; hugepages hold several."""
        size = align_up(size, PAGE)
        part = self._window.take(size) if self._window is not None else None
        if part is None:
            window = DmaWindow(self, size, self.hugepages)
            self._window = window if window.page_size > PAGE else None
            part = window.take(size)
        assert part is not None, "a new window has room for what it was made for"
        return part

    def forget_window(self, window: DmaWindow) -> None:
        """Hand out no more parts of it."""
        if self._window is window:
            self._window = None

    def dma_refused(self) -> bool:
        """Whether a read of memory by the NIC was refused since its reset: Received Target or Master Abort (9.3.3.4)."""
        return bool(self.config_read(0x06, 2) & 0x3000)

    def enable_bus_master(self, on: bool) -> None:
        """PCI command register: memory space stays on, bus master as asked (9.3.3.3)."""
        command = self.config_read(0x04, 2)
        self.config_write(0x04, 2, command | 0x6 if on else (command | 0x2) & ~0x4)

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceError(f"{self.name} is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
