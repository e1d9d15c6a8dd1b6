"""An IOMMU group in its container. Its functions share one address space, and the kernel opens a group only once."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path

from ..errors import DeviceError
from ..memory.iova import IovaSpace, Range
from ..pci.discovery import Function, group_blockers
from ..pci.nodes import group_node, holders, in_use
from ..pci.usable import not_viable
from . import abi
from .abi import Request
from .errors import not_attached
from .nodes import open_node
from .space import Spaces

WHOLE = Range(0, (1 << 39) - 1)  # for a kernel that does not report ranges: VT-d translates at least 39 bits


class Group:
    """Owns the descriptors of container and group."""

    def __init__(self, function: Function, root: Path, *, noiommu: bool = False) -> None:
        self._function, self._root, self._noiommu = function, root, noiommu
        self.node = group_node(function, root, noiommu=noiommu)
        self.container = self.fd = -1
        self.members: set[str] = set()
        try:
            self.container = self._open(root / "dev/vfio/vfio")
            self._check_api()
            self.fd = self._open(self.node)
            self._check_viable()
            fcntl.ioctl(self.fd, Request.GROUP_SET_CONTAINER, struct.pack("i", self.container))
            self._set_iommu()
            self.iova = None if noiommu else IovaSpace(self.iova_ranges())
        except BaseException:
            self.close()
            raise

    def _open(self, node: Path) -> int:
        try:
            return open_node(self._function, node, root=self._root, noiommu=self._noiommu)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise DeviceError(in_use(self._function, holders(self._root, self.node))) from None
            raise

    def _check_api(self) -> None:
        version = fcntl.ioctl(self.container, Request.GET_API_VERSION)
        if version != abi.API_VERSION:
            raise DeviceError(
                f"this kernel has version {version} of the VFIO interface; this driver supports version "
                f"{abi.API_VERSION} only"
            )
        wanted = abi.NOIOMMU_IOMMU if self._noiommu else abi.TYPE1V2_IOMMU
        if fcntl.ioctl(self.container, Request.CHECK_EXTENSION, wanted) <= 0:
            how = (
                "Run: echo Y | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
                if self._noiommu
                else "Run: sudo modprobe vfio_iommu_type1"
            )
            raise DeviceError(
                f"VFIO of this kernel has no {'no-IOMMU mode' if self._noiommu else 'type 1 IOMMU driver'}. {how}"
            )

    def _check_viable(self) -> None:
        status = abi.GroupStatus(argsz=ctypes.sizeof(abi.GroupStatus))
        abi.call(self.fd, Request.GROUP_GET_STATUS, status)
        if not status.flags & abi.GroupFlag.VIABLE:
            raise DeviceError(not_viable(self._function, group_blockers(self._function, self._root)))
        if status.flags & abi.GroupFlag.CONTAINER_SET:
            raise DeviceError(in_use(self._function, holders(self._root, self.node)))

    def _set_iommu(self) -> None:
        try:
            fcntl.ioctl(self.container, Request.SET_IOMMU, abi.NOIOMMU_IOMMU if self._noiommu else abi.TYPE1V2_IOMMU)
        except OSError as error:
            raise DeviceError(not_attached(self._function, error, "vfio_iommu_type1", self._root)) from None

    def iova_ranges(self) -> list[Range]:
        """The addresses that the IOMMU translates, from the capabilities in the info structure."""
        info = abi.Type1Info(argsz=ctypes.sizeof(abi.Type1Info))
        abi.call(self.container, Request.IOMMU_GET_INFO, info)
        buffer = bytearray(max(info.argsz, ctypes.sizeof(abi.Type1Info)))
        struct.pack_into("I", buffer, 0, len(buffer))
        fcntl.ioctl(self.container, Request.IOMMU_GET_INFO, buffer)
        info = abi.Type1Info.from_buffer_copy(buffer)
        return parse_ranges(buffer, info.cap_offset) if info.flags & abi.INFO_CAPS else [WHOLE]

    def close(self) -> None:
        """Close both descriptors. Call it after the last device of the group is closed."""
        if self.fd >= 0:
            try:
                fcntl.ioctl(self.fd, Request.GROUP_UNSET_CONTAINER)
            except OSError:  # it was not set, or the close below unsets it
                pass
            os.close(self.fd)
        if self.container >= 0:
            os.close(self.container)
        self.container = self.fd = -1


# One table per process: a process can open a group only once, so a second function has to find the open group.
GROUPS: Spaces[Group] = Spaces()


def parse_ranges(info: bytes | bytearray, offset: int) -> list[Range]:
    """The IOVA_RANGE capability of the chain that starts at `offset`; WHOLE if there is none.

    The loop is bounded: each offset has to be larger than the one before.
    """
    while 0 < offset <= len(info) - ctypes.sizeof(abi.CapHeader):
        header = abi.CapHeader.from_buffer_copy(info, offset)
        if header.id == abi.CAP_IOVA_RANGE:
            first = offset + ctypes.sizeof(abi.CapIovaRange)
            count = abi.CapIovaRange.from_buffer_copy(info, offset).nr_iovas
            found = [
                abi.IovaRange.from_buffer_copy(info, first + i * ctypes.sizeof(abi.IovaRange)) for i in range(count)
            ]
            return [Range(each.start, each.last) for each in found]
        if header.next <= offset:
            break
        offset = header.next
    return [WHOLE]
