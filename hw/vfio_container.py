"""The older way to a device under VFIO: its IOMMU group, in a container whose address space is type 1 (linux/vfio.h)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from . import vfio_abi as abi
from .iova import IovaSpace
from .pci import Function, holders, in_use
from .register import DeviceError
from .vfio_abi import Request
from .vfio_errors import map_error
from .vfio_group import GROUPS


class Container:
    """Owns the device's descriptor, and a share in its group. `noiommu`: no address space at all, the caller works with physical addresses."""

    def __init__(self, function: Function, root: Path, *, noiommu: bool = False) -> None:
        self._function, self._root = function, root
        self.device = -1
        self._mapped: dict[int, int] = {}
        try:
            self._group = GROUPS.join(function, root, noiommu=noiommu)
            self.device = self._open_device()
        except OSError as error:
            self.close()
            raise DeviceError(f"{function.address} cannot be opened through VFIO group {function.iommu_group}: {error.strerror}. "
                              f"Run: ixrings doctor {function.address}") from None
        except BaseException:
            self.close()
            raise

    @property
    def iova(self) -> IovaSpace | None:
        """The group's: functions in one group have one address space."""
        return self._group.iova

    def _open_device(self) -> int:
        try:
            # The descriptor is the result; a bytearray, because of an immutable argument Python returns the argument.
            fd: int = fcntl.ioctl(self._group.fd, Request.GROUP_GET_DEVICE_FD, bytearray(self._function.address.encode() + b"\0"))
            return fd
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise DeviceError(in_use(self._function, holders(self._root, self._group.node))) from None
            if error.errno == errno.ENODEV:
                raise DeviceError(f"{self._function.address} is not bound to vfio-pci. Run: ixrings bind {self._function.address}") from None
            raise

    def map(self, address: int, iova: int, size: int) -> None:
        request = abi.DmaMap(argsz=ctypes.sizeof(abi.DmaMap), flags=abi.MapFlag.READ | abi.MapFlag.WRITE, vaddr=address, iova=iova, size=size)
        try:
            abi.call(self._group.container, Request.IOMMU_MAP_DMA, request)
        except OSError as error:
            raise map_error(self._function, error, iova, size) from None
        self._mapped[iova] = size

    def unmap(self, iova: int, size: int) -> None:
        abi.call(self._group.container, Request.IOMMU_UNMAP_DMA, abi.DmaUnmap(argsz=ctypes.sizeof(abi.DmaUnmap), iova=iova, size=size))
        self._mapped.pop(iova, None)

    def close(self) -> None:
        """Device first: its last reference resets it (the kernel does that) while its memory is still mapped, which the group may outlive."""
        if self.device >= 0:
            os.close(self.device)
            self.device = -1
        if hasattr(self, "_group"):
            for iova, size in list(self._mapped.items()):
                with suppress(OSError):
                    self.unmap(iova, size)
                if self.iova is not None:
                    self.iova.give_back(iova)
            GROUPS.leave(self._group, self._function)
            del self._group
