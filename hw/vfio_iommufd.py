"""The newer way to a device under VFIO: its own character device, bound to an address space of /dev/iommu (linux/iommufd.h)."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from . import vfio_abi as abi
from .iova import IovaSpace, Range
from .pci import Function, group_blockers, holders, in_use, not_viable
from .register import DeviceError
from .vfio_abi import Request
from .vfio_errors import load_vfio, map_error, no_permission

RANGES = 64  # room for that many at the first try


def device_node(function: Function, root: Path) -> Path:
    return root / "dev/vfio/devices" / function.vfio_cdev


def present(function: Function, root: Path) -> bool:
    """Whether the kernel has all of it for this device."""
    return bool(function.vfio_cdev) and device_node(function, root).exists() and (root / "dev/iommu").exists()


class Iommufd:
    """Owns the device's descriptor and the address space it is attached to."""

    def __init__(self, function: Function, root: Path) -> None:
        self._function, self._root = function, root
        self._node = device_node(function, root)
        self._iommu = self.device = -1
        self._ioas = 0
        try:
            self.device = self._open(self._node)
            self._iommu = self._open(root / "dev/iommu")
            self._bind()
            allocate = abi.IoasAlloc(size=ctypes.sizeof(abi.IoasAlloc))
            abi.call(self._iommu, Request.IOAS_ALLOC, allocate)
            self._ioas = allocate.out_ioas_id
            self._attach()
            self.iova: IovaSpace | None = IovaSpace(self.iova_ranges())
        except OSError as error:
            self.close()
            raise DeviceError(f"{function.address} cannot be opened through {self._node}: {error.strerror}. Run: ixrings doctor {function.address}") from None
        except BaseException:
            self.close()
            raise

    def _open(self, node: Path) -> int:
        try:
            return os.open(node, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise DeviceError(no_permission(self._function, node)) from None
            if error.errno in (errno.ENOENT, errno.ENODEV):
                raise DeviceError(load_vfio(self._function, node)) from None
            raise

    def _bind(self) -> None:
        """First of all calls on the device: until then it answers to nothing else."""
        try:
            abi.call(self.device, Request.DEVICE_BIND_IOMMUFD, abi.BindIommufd(argsz=ctypes.sizeof(abi.BindIommufd), iommufd=self._iommu))
        except OSError as error:
            blockers = group_blockers(self._function, self._root)
            if blockers:  # the kernel says EBUSY, EINVAL or EPERM for that, by version
                raise DeviceError(not_viable(self._function, blockers)) from None
            if error.errno in (errno.EBUSY, errno.EINVAL):  # EINVAL: another descriptor of the same device is bound
                group = self._root / "dev/vfio" / str(self._function.iommu_group)
                others = [who for who in holders(self._root, self._node, group) if not who.endswith(f"({os.getpid()})")]
                raise DeviceError(in_use(self._function, others)) from None
            raise

    def _attach(self) -> None:
        try:
            abi.call(self.device, Request.DEVICE_ATTACH_IOMMUFD_PT, abi.AttachIommufdPt(argsz=ctypes.sizeof(abi.AttachIommufdPt), pt_id=self._ioas))
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            raise DeviceError(
                f"the kernel will not hand out {self._function.address}: this machine's IOMMU cannot remap interrupts, so a device could forge "
                "them. Switch interrupt remapping on in the BIOS, or accept the risk: "
                "echo 1 | sudo tee /sys/module/iommufd/parameters/allow_unsafe_interrupts") from None

    def iova_ranges(self) -> list[Range]:
        count = RANGES
        while True:
            table = (abi.IovaRange * count)()
            query = abi.IoasIovaRanges(size=ctypes.sizeof(abi.IoasIovaRanges), ioas_id=self._ioas, num_iovas=count,
                                       allowed_iovas=ctypes.addressof(table))
            try:
                abi.call(self._iommu, Request.IOAS_IOVA_RANGES, query)
            except OSError as error:
                if error.errno != errno.EMSGSIZE or query.num_iovas <= count:
                    raise DeviceError(f"the kernel does not say which addresses the IOMMU carries: {error.strerror}") from None
                count = query.num_iovas
                continue
            return [Range(each.start, each.last) for each in table[: query.num_iovas]]

    def map(self, address: int, iova: int, size: int) -> None:
        flags = abi.IoasMapFlag.FIXED_IOVA | abi.IoasMapFlag.WRITEABLE | abi.IoasMapFlag.READABLE
        request = abi.IoasMap(size=ctypes.sizeof(abi.IoasMap), flags=flags, ioas_id=self._ioas, user_va=address, length=size, iova=iova)
        try:
            abi.call(self._iommu, Request.IOAS_MAP, request)
        except OSError as error:
            raise map_error(self._function, error, iova, size) from None

    def unmap(self, iova: int, size: int) -> None:
        abi.call(self._iommu, Request.IOAS_UNMAP, abi.IoasUnmap(size=ctypes.sizeof(abi.IoasUnmap), ioas_id=self._ioas, iova=iova, length=size))

    def close(self) -> None:
        """Device first: its close resets it and takes it off the address space, which goes with /dev/iommu's descriptor."""
        for fd in (self.device, self._iommu):
            if fd >= 0:
                os.close(fd)
        self.device = self._iommu = -1
