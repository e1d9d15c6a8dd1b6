"""A device opened by its IOMMU group, in a container with a type 1 IOMMU: VFIO's older interface (linux/vfio.h)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
from pathlib import Path

from ..errors import DeviceError
from ..pci.discovery import Function
from ..pci.nodes import group_node, holders, in_use
from . import abi
from .abi import Request
from .errors import map_error, wrong_token
from .group import GROUPS, Group
from .space import DeviceSpace


class Container(DeviceSpace[Group]):
    """A device in its group. Raises DeviceError.

    noiommu: no address space; the caller uses physical addresses. vf_token: as of VfioDevice.
    """

    def __init__(self, function: Function, root: Path, *, noiommu: bool = False, vf_token: str = "") -> None:
        self._vf_token = vf_token
        super().__init__(
            function,
            root,
            GROUPS,
            group_node(function, root, noiommu=noiommu),
            lambda: Group(function, root, noiommu=noiommu),
            through=f"VFIO group {function.iommu_group}",
        )

    def _open_device(self) -> None:
        name = self._function.address + (f" vf_token={self._vf_token}" if self._vf_token else "")
        try:
            # The result is the descriptor. With an immutable argument, ioctl() would return the argument.
            self.device = fcntl.ioctl(self._space.fd, Request.GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise DeviceError(in_use(self._function, holders(self._root, self._space.node))) from None
            if error.errno == errno.ENODEV:
                raise DeviceError(
                    f"{self._function.address} is not bound to vfio-pci. Run: ixrings bind {self._function.address}"
                ) from None
            if wrong_token(self._function, error, self._vf_token, self._root):
                raise DeviceError(wrong_token(self._function, error, self._vf_token, self._root)) from None
            raise

    def _map(self, address: int, iova: int, size: int) -> None:
        request = abi.DmaMap(
            argsz=ctypes.sizeof(abi.DmaMap),
            flags=abi.MapFlag.READ | abi.MapFlag.WRITE,
            vaddr=address,
            iova=iova,
            size=size,
        )
        try:
            abi.call(self._space.container, Request.IOMMU_MAP_DMA, request)
        except OSError as error:
            raise map_error(self._function, error, iova, size, self._root) from None

    def _unmap(self, iova: int, size: int) -> None:
        abi.call(
            self._space.container,
            Request.IOMMU_UNMAP_DMA,
            abi.DmaUnmap(argsz=ctypes.sizeof(abi.DmaUnmap), iova=iova, size=size),
        )
