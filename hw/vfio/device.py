"""An 82599 through the kernel's VFIO: the IOMMU keeps its DMA inside what was mapped, interrupts come as eventfds, and the kernel resets
it when the program ends, however it ends."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import warnings
from enum import Enum
from pathlib import Path

from ixrings.hw.bar import Bar, MappedDevice
from ixrings.hw.device import DmaMapping
from ixrings.hw.errors import DeviceError, DmaError
from ixrings.hw.memory.physical import map_physical
from ixrings.hw.pci.discovery import ROOT, VFIO_DRIVERS, Function, check_is_82599, look_up
from ixrings.hw.pci.nodes import IOMMU, device_node, group_node, has_iommufd
from ixrings.hw.register import ALL_ONES

from . import abi
from .abi import Irq, IrqFlag, Region, RegionFlag, Request
from .container import Container
from .errors import load_vfio, no_iommu
from .iommufd import Iommufd

NOIOMMU_WARNING = (
    "{0} is opened without an IOMMU: a wrong descriptor lets it overwrite any memory of this machine, the kernel's too. "
    "Only for machines that you may crash; with an IOMMU, use vfio:{0}"
)


class Way(Enum):
    """Which of the kernel's interfaces leads to the device."""

    GROUP = "IOMMU group"
    CDEV = "iommufd"
    NOIOMMU = "no IOMMU"


class VfioDevice(MappedDevice):
    """The 82599 at a PCI address, bound to vfio-pci. `way`: None takes iommufd where the kernel and the permissions have it, else the group.

    Raises DeviceError, NoSuchFunction. Opening and closing it resets it.
    """

    hugepages = None

    def __init__(self, address: str, way: Way | None = None, root: Path = ROOT) -> None:
        function = look_up(address, root)
        check_is_82599(function)  # before it is opened, which resets it
        self.way = choose(function, root) if way is None else way
        self.name = f"vfio-noiommu:{address}" if self.way is Way.NOIOMMU else f"vfio:{address}"
        self.scattered = self.way is Way.NOIOMMU
        self.max_vectors = 0
        self._process = os.getpid()
        self._closed = True
        self._fds: list[int] = []
        self._irq = Irq.MSIX
        self._windows: dict[int, int] = {}
        self._space = open_space(function, self.way, root)
        self._closed = False
        try:
            self._fd = self._space.device
            self._check_device(function)
            self._config = self._region(Region.CONFIG)
            self._bar = self._map_bar()
            self.enable_bus_master(False)  # memory on, or an access to the BAR is a SIGBUS; DMA off
            if self.config_read(0, 4) == ALL_ONES:
                raise DeviceError(
                    f"{address} does not answer. Run: echo 1 | sudo tee {function.path}/remove /sys/bus/pci/rescan"
                )
            self.max_vectors = self._irq_count(Irq.MSIX)
            self._iova = self._space.iova
        except OSError as error:
            self.close()
            raise DeviceError(
                f"{self.name} cannot be set up: {error.strerror}. Run: ixrings doctor {address}"
            ) from None
        except BaseException:
            self.close()
            raise

    # ---- what the kernel says about it ----

    def _check_device(self, function: Function) -> None:
        info = abi.DeviceInfo(argsz=ctypes.sizeof(abi.DeviceInfo))
        abi.call(self._fd, Request.DEVICE_GET_INFO, info)
        if not info.flags & abi.DeviceFlag.PCI or info.num_regions <= Region.CONFIG or info.num_irqs <= Irq.MSIX:
            raise DeviceError(f"{function.address} is no PCI device in VFIO's eyes")

    def _region(self, index: Region) -> abi.RegionInfo:
        info = abi.RegionInfo(argsz=ctypes.sizeof(abi.RegionInfo), index=index)
        abi.call(self._fd, Request.DEVICE_GET_REGION_INFO, info)
        return info

    def _irq_count(self, index: Irq) -> int:
        info = abi.IrqInfo(argsz=ctypes.sizeof(abi.IrqInfo), index=index)
        abi.call(self._fd, Request.DEVICE_GET_IRQ_INFO, info)
        return info.count

    def _map_bar(self) -> Bar:
        info = self._region(Region.BAR0)
        if not info.flags & RegionFlag.MMAP:
            raise DeviceError(f"{self.name}: the kernel does not let BAR0 be mapped. Is this an 82599?")
        return Bar(self._fd, info.size, info.offset)

    # ---- configuration space ----

    def config_read(self, offset: int, size: int) -> int:
        self._check_open()
        data = os.pread(self._fd, size, self._config.offset + offset)
        return int.from_bytes(data, "little")

    def config_write(self, offset: int, size: int, value: int) -> None:
        self._check_open()
        os.pwrite(self._fd, value.to_bytes(size, "little"), self._config.offset + offset)

    # ---- DMA ----

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        self._check_open()
        if self._iova is None:
            return map_physical(self.name, fd, address, size)
        iova = self._iova.take(size)
        try:
            self._space.map(address, iova, size)
        except BaseException:
            self._iova.give_back(iova)
            raise
        self._windows[iova] = size
        return DmaMapping(address, size, iova)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        if self._closed or self._iova is None or self._windows.pop(mapping.iova, None) is None:
            return
        try:
            self._space.unmap(mapping.iova, mapping.size)
        except OSError as error:
            raise DmaError(
                f"{self.name}: {mapping.size} bytes at {mapping.iova:#x} cannot be unmapped: {error.strerror}"
            ) from None
        self._iova.give_back(mapping.iova)

    # ---- interrupts ----

    def enable_interrupts(self, vectors: int) -> list[int]:
        self._check_open()
        self.disable_interrupts()
        if 0 < vectors <= self.max_vectors and self._trigger(Irq.MSIX, vectors):
            return list(self._fds)
        if self._irq_count(Irq.INTX) and self._trigger(Irq.INTX, 1):
            return list(self._fds)
        raise DeviceError(
            f"{self.name} has {self.max_vectors} interrupt vectors, {vectors} were asked for, and it has no interrupt line to fall "
            "back on. Open it with fewer queues"
        )

    def _trigger(self, irq: Irq, count: int) -> bool:
        """An eventfd for each of `count` vectors; False, and none left, when the kernel does not have that many."""
        self._irq = irq
        try:
            for _ in range(count):
                self._fds.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            missing = self._set_irqs(
                IrqFlag.DATA_EVENTFD | IrqFlag.TRIGGER, count, struct.pack(f"{count}i", *self._fds)
            )
        except OSError as error:
            self._close_eventfds()
            if error.errno == errno.EMFILE:
                raise DeviceError(
                    f"{self.name}: {count} interrupt vectors need as many descriptors. Run: ulimit -n 4096"
                ) from None
            return False
        if missing:  # positive: how many there are instead; none was switched on
            self._close_eventfds()
        return not missing

    def disable_interrupts(self) -> None:
        if not self._fds:
            return
        try:
            self._set_irqs(IrqFlag.DATA_NONE | IrqFlag.TRIGGER, 0)
        except OSError:  # the device went; with its descriptor they go off
            pass
        finally:
            self._close_eventfds()

    def rearm_line(self) -> None:
        if self._irq is not Irq.INTX or not self._fds:
            raise DeviceError(f"{self.name} has no interrupt line in use")
        try:
            os.eventfd_read(self._fds[0])
        except BlockingIOError:
            pass
        self._set_irqs(IrqFlag.DATA_NONE | IrqFlag.UNMASK, 1)  # the kernel masked it as it came

    def _set_irqs(self, flags: IrqFlag, count: int, data: bytes = b"") -> int:
        header = abi.IrqSet(
            argsz=ctypes.sizeof(abi.IrqSet) + len(data), flags=flags, index=self._irq, start=0, count=count
        )
        result: int = fcntl.ioctl(self._fd, Request.DEVICE_SET_IRQS, bytearray(bytes(header) + data))
        return result

    def _close_eventfds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    # ---- life ----

    def reset(self) -> None:
        """The kernel keeps what it knows of configuration space over it; mappings stay."""
        self._check_open()
        try:
            fcntl.ioctl(self._fd, Request.DEVICE_RESET)
        except OSError as error:
            why = "it has no function reset" if error.errno in (errno.EINVAL, errno.ENOTTY) else error.strerror
            raise DeviceError(
                f"{self.name} cannot be reset: {why}. End the program and run: echo 1 | sudo tee "
                f"/sys/bus/pci/devices/{self.name.partition(':')[2]}/reset"
            ) from None

    def close(self) -> None:
        """Bus master off first, then interrupts; the kernel resets the device with its last descriptor, and only then memory goes."""
        if self._closed or os.getpid() != self._process:  # a forked child must not stop its parent's device
            return
        try:
            if hasattr(self, "_config"):
                self.enable_bus_master(False)
            self.disable_interrupts()
        except OSError:  # it is gone; there is nothing to stop
            pass
        finally:
            self._closed = True
            if hasattr(self, "_bar"):
                self._bar.close()  # holds a duplicate of the device's descriptor
            self._space.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


def choose(function: Function, root: Path) -> Way:
    """iommufd if the kernel has it for this device and we may open it, or if we may not open the group either; else the group."""
    if not has_iommufd(function, root):
        return Way.GROUP
    nodes = (device_node(function, root), root / IOMMU)
    group = group_node(function, root)
    allowed = all(os.access(node, os.R_OK | os.W_OK) for node in nodes)
    return Way.CDEV if allowed or not os.access(group, os.R_OK | os.W_OK) else Way.GROUP


def open_space(function: Function, way: Way, root: Path) -> Container | Iommufd:
    """Raises DeviceError."""
    if function.driver not in VFIO_DRIVERS:
        raise DeviceError(load_vfio(function, root / "dev/vfio"))
    if way is Way.CDEV:
        return Iommufd(function, root)
    if function.iommu_group is None:
        raise DeviceError(no_iommu(function))
    if way is Way.NOIOMMU:
        if not group_node(function, root, noiommu=True).exists():
            raise DeviceError(
                f"{function.address} has an IOMMU or VFIO's no-IOMMU mode is off: use vfio:{function.address}, or run: echo Y | sudo tee "
                f"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and: ixrings bind {function.address}"
            )
        warnings.warn(NOIOMMU_WARNING.format(function.address), RuntimeWarning, stacklevel=4)
        return Container(function, root, noiommu=True)
    if group_node(function, root, noiommu=True).exists():
        raise DeviceError(
            f"{function.address} has no IOMMU to keep it in its place. If you may crash this machine, say so by the port's name: "
            f"vfio-noiommu:{function.address}"
        )
    return Container(function, root)
