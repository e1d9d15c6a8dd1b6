"""A region that another process made, as a program with one of its interfaces sees it."""

from __future__ import annotations

import os

from .errors import RegionError
from .interface import Interface
from .memory import Mapping
from .region import Region


class AttachedRegion(Region):
    """A Region that another process made: only that process can register interfaces in it.

    fd: its memfd, which close() closes. interface: one with a ring, which says where the buffers are.
    """

    def __init__(self, fd: int, mapping: Mapping, interface: Interface) -> None:
        self.fd = fd
        self.size, self.address = mapping.size, mapping.address
        self.page_size = os.fstat(fd).st_blksize
        self.buffers = interface.buffers
        self.total_buffers, self.buf_size = self.buffers.shape
        self.buffers_offset = int(self.buffers.ctypes.data) - mapping.address if self.buffers.size else mapping.size
        self._mapping: Mapping | None = mapping
        self._free, self._blocks, self._interfaces = [], {}, []

    def _open_mapping(self) -> Mapping:
        raise RegionError("this region belongs to another process, which alone can register interfaces in it")
