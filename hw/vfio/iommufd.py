"""A device opened by its own character device and /dev/iommu: VFIO's newer interface (linux/iommufd.h)."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from ..errors import DeviceError
from ..memory.iova import IovaSpace, Range
from ..pci.discovery import Function, group_blockers
from ..pci.nodes import IOMMU, device_node, group_node, in_use, other_holders
from ..pci.usable import not_viable
from . import abi
from .abi import Request
from .errors import map_error, not_attached, not_bound, wrong_token
from .nodes import open_node
from .space import DeviceSpace, Spaces

RANGES = 64  # the first query has room for this number


class Ioas:
    """Owns a descriptor of /dev/iommu and an address space in it, which the functions of a group share."""

    def __init__(self, function: Function, root: Path) -> None:
        self.node = group_node(function, root)
        self.members: set[str] = set()
        self.iova: IovaSpace | None = None  # the kernel knows the ranges only after a device is attached
        self.fd = open_node(function, root / IOMMU, device_node(function, root), root / IOMMU, root=root)
        try:
            allocate = abi.IoasAlloc(size=ctypes.sizeof(abi.IoasAlloc))
            abi.call(self.fd, Request.IOAS_ALLOC, allocate)
            self.id = allocate.out_ioas_id
        except BaseException:
            self.close()
            raise

    def iova_ranges(self) -> list[Range]:
        """The addresses that the IOMMU translates for the attached devices."""
        count = RANGES
        while True:
            table = (abi.IovaRange * count)()
            query = abi.IoasIovaRanges(
                size=ctypes.sizeof(abi.IoasIovaRanges),
                ioas_id=self.id,
                num_iovas=count,
                allowed_iovas=ctypes.addressof(table),
            )
            try:
                abi.call(self.fd, Request.IOAS_IOVA_RANGES, query)
            except OSError as error:
                if error.errno != errno.EMSGSIZE or query.num_iovas <= count:
                    raise DeviceError(
                        f"the kernel does not report which addresses the IOMMU translates: {error.strerror}. "
                        "Run: ixrings doctor"
                    ) from None
                count = query.num_iovas
                continue
            return [Range(each.start, each.last) for each in table[: query.num_iovas]]

    def close(self) -> None:
        """Close the descriptor, and with it the address space. Call it after the last device is closed."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


SPACES: Spaces[Ioas] = Spaces()  # one table per process, because only one descriptor of /dev/iommu can own a group


class Iommufd(DeviceSpace[Ioas]):
    """Opens the character device and attaches it to the address space of its group. Raises DeviceError."""

    def __init__(self, function: Function, root: Path, vf_token: str = "") -> None:
        self._vf_token = vf_token
        self._node = device_node(function, root)
        super().__init__(
            function, root, SPACES, group_node(function, root), lambda: Ioas(function, root), through=str(self._node)
        )

    def _open_device(self) -> None:
        self.device = open_node(self._function, self._node, self._node, self._root / IOMMU, root=self._root)
        self._bind()
        self._attach()
        if self._space.iova is None:
            self._space.iova = IovaSpace(self._space.iova_ranges())

    def _bind(self) -> None:
        """Bind the device to /dev/iommu. The kernel refuses all other calls on the device before this one."""
        request = abi.BindIommufd(argsz=ctypes.sizeof(abi.BindIommufd), iommufd=self._space.fd)
        token = ctypes.create_string_buffer(bytes.fromhex(self._vf_token.replace("-", "")), 16)
        if self._vf_token:
            request.flags, request.token_uuid_ptr = abi.BIND_TOKEN, ctypes.addressof(token)
        try:
            abi.call(self.device, Request.DEVICE_BIND_IOMMUFD, request)
        except OSError as error:
            blockers = group_blockers(self._function, self._root)
            if blockers:  # the errno for this depends on the kernel's version: EBUSY, EINVAL or EPERM
                raise DeviceError(not_viable(self._function, blockers)) from None
            others = other_holders(self._root, self._node, self._space.node)
            if others or error.errno == errno.EBUSY:
                raise DeviceError(in_use(self._function, others)) from None
            if wrong_token(self._function, error, self._vf_token, self._root):
                raise DeviceError(wrong_token(self._function, error, self._vf_token, self._root)) from None
            raise DeviceError(not_bound(self._function, error)) from None

    def _attach(self) -> None:
        request = abi.AttachIommufdPt(argsz=ctypes.sizeof(abi.AttachIommufdPt), pt_id=self._space.id)
        try:
            abi.call(self.device, Request.DEVICE_ATTACH_IOMMUFD_PT, request)
        except OSError as error:
            raise DeviceError(not_attached(self._function, error, "iommufd", self._root)) from None

    def _map(self, address: int, iova: int, size: int) -> None:
        flags = abi.IoasMapFlag.FIXED_IOVA | abi.IoasMapFlag.WRITEABLE | abi.IoasMapFlag.READABLE
        request = abi.IoasMap(
            size=ctypes.sizeof(abi.IoasMap),
            flags=flags,
            ioas_id=self._space.id,
            user_va=address,
            length=size,
            iova=iova,
        )
        try:
            abi.call(self._space.fd, Request.IOAS_MAP, request)
        except OSError as error:
            raise map_error(self._function, error, iova, size, self._root) from None

    def _unmap(self, iova: int, size: int) -> None:
        request = abi.IoasUnmap(size=ctypes.sizeof(abi.IoasUnmap), ioas_id=self._space.id, iova=iova, length=size)
        abi.call(self._space.fd, Request.IOAS_UNMAP, request)
