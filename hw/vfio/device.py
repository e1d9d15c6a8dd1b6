"""An 82599 through the kernel's VFIO.

The IOMMU limits DMA to mapped memory, interrupts arrive on eventfds, and the kernel resets the NIC when the program
ends, also when it is killed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import warnings
from enum import Enum
from pathlib import Path

from ..bar import Bar, MappedDevice
from ..device import DmaMapping
from ..doorbell_file import DoorbellFile
from ..errors import DeviceError, DmaError
from ..memory.physical import map_physical
from ..pci.discovery import ROOT, VFIO_DRIVERS, Function, check_is_82599, look_up
from ..pci.nodes import IOMMU, device_node, group_node, has_iommufd
from ..register import ALL_ONES
from ..registers import table_of
from . import abi
from .abi import Irq, IrqFlag, Region, RegionFlag, Request
from .container import Container
from .errors import load_vfio, no_iommu
from .iommufd import Iommufd

NOIOMMU_WARNING = (
    "{0} is opened without an IOMMU: one wrong descriptor and the NIC overwrites any memory of this machine, the "
    "kernel's too. Use it only on machines that you may crash; with an IOMMU, use vfio:{0}"
)


class Way(Enum):
    """The kernel interface through which the device is opened."""

    GROUP = "IOMMU group"
    CDEV = "iommufd"
    NOIOMMU = "no IOMMU"


class VfioDevice(MappedDevice):
    """The 82599 at a PCI address, bound to vfio-pci. Opening and closing it resets the NIC.

    way: None chooses iommufd if the kernel offers it and permissions allow it, else the group. vf_token: of a virtual
    function whose PF is bound to vfio-pci, the UUID that the program with the PF has set; of that PF, the UUID to set.
    Raises DeviceError, NoSuchFunction.
    """

    hugepages = None

    def __init__(self, address: str, way: Way | None = None, root: Path = ROOT, vf_token: str = "") -> None:
        function = look_up(address, root)
        check_is_82599(function)  # before opening the device, which resets it
        self.way = choose(function, root, vf_token) if way is None else way
        self.name = f"vfio-noiommu:{address}" if self.way is Way.NOIOMMU else f"vfio:{address}"
        self.scattered = self.way is Way.NOIOMMU
        self.max_vectors = 0
        self._closed = True
        self._fds: list[int] = []
        self._irq = Irq.MSIX
        self._windows: dict[int, int] = {}
        self._space = open_space(function, self.way, root, vf_token)
        self._closed = False
        try:
            self._fd = self._space.device
            self._check_device(function)
            self._config = self._region(Region.CONFIG)
            self._bar = self._map_bar()
            self.enable_bus_master(False)  # DMA off, memory space on: without it an access to the BAR is a SIGBUS
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

    # ---- what the kernel reports ----

    def _check_device(self, function: Function) -> None:
        info = abi.DeviceInfo(argsz=ctypes.sizeof(abi.DeviceInfo))
        abi.call(self._fd, Request.DEVICE_GET_INFO, info)
        if not info.flags & abi.DeviceFlag.PCI or info.num_regions <= Region.CONFIG or info.num_irqs <= Irq.MSIX:
            raise DeviceError(
                f"VFIO does not treat {function.address} as a PCI device. Run: ixrings doctor {function.address}"
            )

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
            raise DeviceError(
                f"{self.name}: the kernel does not allow BAR0 to be mapped. Is this an 82599? Run: ixrings list"
            )
        return Bar(self._fd, info.size, info.offset, table=table_of(self.virtual))

    def doorbell_file(self) -> DoorbellFile:
        """The device. While another process has it, the kernel does not reset the NIC and nobody else can open it."""
        self._check_open()
        start = self._region(Region.BAR0).offset
        return DoorbellFile(os.dup(self._fd), lambda offset: start + offset)

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
                f"{self.name}: {mapping.size} bytes at {mapping.iova:#x} cannot be unmapped: {error.strerror}. "
                "Close the port to release them"
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
            f"{self.name} has {self.max_vectors} interrupt vectors and no interrupt line, but {vectors} vectors were "
            "requested. Open it with fewer queues"
        )

    def _trigger(self, irq: Irq, count: int) -> bool:
        """Connect an eventfd to each of `count` vectors. False, without eventfds, if the device has fewer vectors."""
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
                    f"{self.name}: {count} interrupt vectors need {count} file descriptors, and the limit of this "
                    "process is reached. Run: ulimit -n 4096"
                ) from None
            return False
        if missing:  # positive: the device has only this number of vectors, and none was enabled
            self._close_eventfds()
        return not missing

    def disable_interrupts(self) -> None:
        if not self._fds:
            return
        try:
            self._set_irqs(IrqFlag.DATA_NONE | IrqFlag.TRIGGER, 0)
        except OSError:  # the device is gone; closing its descriptor disables them
            pass
        finally:
            self._close_eventfds()

    def rearm_line(self) -> None:
        if self._irq is not Irq.INTX or not self._fds:
            raise DeviceError(f"{self.name} does not use an interrupt line")
        try:
            os.eventfd_read(self._fds[0])
        except BlockingIOError:
            pass
        self._set_irqs(IrqFlag.DATA_NONE | IrqFlag.UNMASK, 1)  # the kernel masked the line when it was raised

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
        """Reset the function. The kernel saves and restores configuration space; DMA mappings stay."""
        self._check_open()
        try:
            fcntl.ioctl(self._fd, Request.DEVICE_RESET)
        except OSError as error:
            why = "it has no function-level reset" if error.errno in (errno.EINVAL, errno.ENOTTY) else error.strerror
            raise DeviceError(
                f"{self.name} cannot be reset: {why}. End the program and run: echo 1 | sudo tee "
                f"/sys/bus/pci/devices/{self.name.partition(':')[2]}/reset"
            ) from None

    def close(self) -> None:
        """Disable bus master, then interrupts; close the device, so that the kernel resets it; then unmap memory."""
        if self._closed:
            return
        try:
            if hasattr(self, "_config"):
                self.enable_bus_master(False)
            self.disable_interrupts()
        except OSError:  # the device is gone, so there is nothing to stop
            pass
        finally:
            self._closed = True
            if hasattr(self, "_bar"):
                self._bar.close()  # it holds a duplicate of the device's descriptor
            self._space.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


def choose(function: Function, root: Path, vf_token: str = "") -> Way:
    """iommufd if the kernel offers it, unless this process has permission only for the group; otherwise the group.

    With a token the group, if there are groups: older kernels take a token only there.
    """
    group = group_node(function, root)
    if not has_iommufd(function, root) or (vf_token and group.exists()):
        return Way.GROUP
    nodes = (device_node(function, root), root / IOMMU)
    allowed = all(os.access(node, os.R_OK | os.W_OK) for node in nodes)
    return Way.CDEV if allowed or not os.access(group, os.R_OK | os.W_OK) else Way.GROUP


def open_space(function: Function, way: Way, root: Path, vf_token: str = "") -> Container | Iommufd:
    """Open the device through `way`. Raises DeviceError."""
    if function.driver not in VFIO_DRIVERS:
        raise DeviceError(load_vfio(function, root / "dev/vfio"))
    if way is Way.CDEV:
        return Iommufd(function, root, vf_token)
    if function.iommu_group is None:
        raise DeviceError(no_iommu(function))
    if way is Way.NOIOMMU:
        if not group_node(function, root, noiommu=True).exists():
            raise DeviceError(
                f"{function.address} has an IOMMU, or VFIO's no-IOMMU mode is off: use vfio:{function.address}, or "
                "run: echo Y | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode && ixrings bind "
                f"{function.address}"
            )
        warnings.warn(NOIOMMU_WARNING.format(function.address), RuntimeWarning, stacklevel=4)
        return Container(function, root, noiommu=True, vf_token=vf_token)
    if group_node(function, root, noiommu=True).exists():
        raise DeviceError(
            f"{function.address} has no IOMMU, so it can overwrite all memory. If you may crash this machine, open it "
            f"as vfio-noiommu:{function.address}"
        )
    return Container(function, root, vf_token=vf_token)
