"""The Device interface: what a driver needs of an 82599, the same for every transport.

VFIO, UIO, vfio-user and the emulator implement it. It has the shape of VFIO: BAR0 accesses of 32 bits, configuration
space, DMA windows by I/O virtual address, an eventfd for each MSI-X vector, function reset, close.
"""

from __future__ import annotations

import abc
import os
import types
from typing import TYPE_CHECKING
from weakref import WeakSet

from .doorbell_file import DoorbellFile
from .errors import DeviceError, DmaError
from .memory.dma import DmaMapping, DmaMemory, DmaWindow
from .memory.hugepages import PAGE, align_up

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PAGE", "Device", "DmaError", "DmaMapping", "DmaMemory", "DmaWindow"]


DEVICE_ID = 0x02  # in configuration space
VIRTUAL_FUNCTION = 0x10ED

DEVICES: WeakSet[Device] = WeakSet()  # of this process and, after a fork, of its parent


class Device(abc.ABC):
    """One PCI function: an 82599 (8086:10fb), or a virtual function of one (8086:10ed).

    Only stores at `doorbell` addresses are safe from any thread. After close() every method raises DeviceError.
    """

    name: str
    max_vectors: int
    owner: str = ""  # name of the port that uses the device, for the error of a second port
    hugepages: bool | None = False  # DMA memory on 2 MiB pages: True always, None if enough are free, False never
    scattered: bool = False  # True without an IOMMU: pages of one mapping may have unrelated bus addresses
    doorbells_need_ringing: bool = False  # True: ring_doorbells() has to follow stores at `doorbell` addresses
    _window: DmaWindow | None = None
    _closed: bool
    _left = False  # opened by the parent of this forked child

    def __new__(cls, *_: object, **__: object) -> Self:
        device = super().__new__(cls)
        DEVICES.add(device)
        return device

    @property
    def virtual(self) -> bool:
        """Whether it is a virtual function, by its device id: BAR0 then has the registers of 8.3.5 (VfRegisters).

        The kernel and the emulator supply this id: in silicon it reads 0xFFFF (9.6.1).
        """
        return self.config_read(DEVICE_ID, 2) == VIRTUAL_FUNCTION

    @abc.abstractmethod
    def read32(self, offset: int, /) -> int:
        """Exactly one 32-bit load from BAR0 + offset; 0xFFFFFFFF when the device is gone."""

    @abc.abstractmethod
    def write32(self, offset: int, value: int, /) -> None:
        """Exactly one 32-bit store to BAR0 + offset."""

    @abc.abstractmethod
    def doorbell(self, offset: int) -> int:
        """Host address of a tail register (RDT, TDT). A 32-bit store there writes the register. Valid until close()."""

    def ring_doorbells(self) -> None:
        """Send the device the values stored at `doorbell` addresses: after each sync, if `doorbells_need_ringing`."""
        assert not self.doorbells_need_ringing, "a transport that needs this implements it"

    def work_function(self) -> int:
        """The address of a C function that does the work of emulated hardware; 0: real hardware works by itself.

        `bool work(void *unused, uint64_t now_ns)`, with the time of CLOCK_MONOTONIC, returns whether a frame moved. A
        thread that calls it often takes the work from the device's own thread, until that thread calls work_ends().
        """
        return 0

    def work_ends(self) -> None:
        """The thread that called work_function() pauses: the device works by itself again."""
        assert not self.work_function(), "a device that has such work implements it"

    def doorbell_file(self) -> DoorbellFile:
        """The tail registers as a file, for another process of the same user. Raises DeviceError if there is none."""
        self._check_open()
        raise DeviceError(f"{self.name} cannot give a queue to another process: its tail registers are not a file")

    def take_doorbells_back(self) -> bool:
        """Whether stores of other processes have no effect from now on.

        False: the transport cannot. The caller stops the queues: a store to the tail of a queue that is off moves
        nothing (4.6.7, 4.6.8).
        """
        return False

    @abc.abstractmethod
    def config_read(self, offset: int, size: int) -> int:
        """A value of `size` (1, 2 or 4) bytes from configuration space, which is little-endian."""

    @abc.abstractmethod
    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write `size` (1, 2 or 4) bytes of configuration space."""

    @abc.abstractmethod
    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        """Let the device read and write [address, address + size), which is file `fd` mapped from its start.

        Transports of the kernel pin memory by address, vfio-user passes the fd to the server. The caller may close the
        fd afterwards. Raises DmaError.
        """

    @abc.abstractmethod
    def unmap_dma(self, mapping: DmaMapping) -> None:
        """Undo map_dma(). The device must have stopped using the memory (driver/README.md, contract 4)."""

    @abc.abstractmethod
    def enable_interrupts(self, vectors: int) -> list[int]:
        """Enable MSI-X with `vectors` vectors. Returns a file descriptor for each (non-blocking, owned by the device).

        Without MSI-X it returns a single descriptor, for INTx: one line for every cause. The descriptor is readable
        once the line was raised; the line then stays masked until rearm_line().
        """

    @abc.abstractmethod
    def disable_interrupts(self) -> None:
        """Disconnect and close the descriptors of enable_interrupts()."""

    def rearm_line(self) -> None:
        """INTx: drain the descriptor and unmask the line. Call it after the causes are cleared or masked (7.3.1.1)."""
        raise DeviceError(f"{self.name} has no interrupt line")

    @abc.abstractmethod
    def reset(self) -> None:
        """Function-level reset: registers and configuration space are as after power-on. DMA mappings stay."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop the device and release everything. Idempotent."""

    def link_trouble(self) -> str:
        """Why the link is down, if the transport knows more than LINKS shows; otherwise ""."""
        return ""

    def link_lost(self) -> bool:
        """Whether the transport knows that the link stays down until the device is opened again."""
        return False

    def alloc_dma(self, size: int) -> DmaMemory:
        """Zeroed memory of at least `size` bytes. Raises DmaError.

        On plain pages each piece of memory has a window of its own, so that an access past its end is a DMA fault. A
        window of hugepages holds several.
        """
        size = align_up(size, PAGE)
        part = self._window.take(size) if self._window is not None else None
        if part is None:
            window = DmaWindow(self, size, self.hugepages)
            self._window = window if window.page_size > PAGE else None
            part = window.take(size)
        assert part is not None, "a new window has room for the size it was made for"
        return part

    def forget_window(self, window: DmaWindow) -> None:
        """Take no more memory from this window."""
        if self._window is window:
            self._window = None

    def dma_refused(self) -> bool:
        """Whether a memory read of the NIC was refused since its reset: Received Target or Master Abort (9.3.3.4)."""
        return bool(self.config_read(0x06, 2) & 0x3000)

    def enable_bus_master(self, on: bool) -> None:
        """Set or clear bus master in the PCI command register; memory space stays enabled (9.3.3.3)."""
        command = self.config_read(0x04, 2)
        self.config_write(0x04, 2, command | 0x6 if on else (command | 0x2) & ~0x4)

    def leave(self) -> None:
        """In a forked child: the device belongs to the parent. Each use is refused, and close() does nothing."""
        if not getattr(self, "_closed", True):
            self._left = self._closed = True
            self._release_copies()

    def _release_copies(self) -> None:
        """In a forked child: close its copies of the descriptors. It takes no lock: the parent's threads may hold it.

        VFIO's descriptors stay open until the child ends: the ioctls before their close would act on the parent's
        address space, too.
        """
        assert self._left, "only leave() calls this"

    def _check_open(self) -> None:
        if self._left:
            raise DeviceError(
                f"{self.name} was opened before a fork and belongs to the parent process. Open a device in this "
                'process, or start it without fork: multiprocessing.get_context("spawn")'
            )
        if self._closed:
            raise DeviceError(f"{self.name} is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def leave_devices() -> None:
    for device in list(DEVICES):
        device.leave()


os.register_at_fork(after_in_child=leave_devices)
