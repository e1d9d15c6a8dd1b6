"""Answers of a simulated kernel to the ioctls of VFIO, for the machine of sysfs_tree."""

from __future__ import annotations

import os

from ixrings.hw.vfio import abi
from ixrings.hw.vfio.abi import Request


class Kernel:
    """Answers ioctls of VFIO. fails: name of the request to the errno with which it fails."""

    def __init__(self, **fails: int) -> None:
        self.fails = fails
        self.viable = True

    def ioctl(self, fd: int, request: int, argument: object = 0, mutate: bool = True) -> int:
        name = Request(request).name
        if name in self.fails:
            raise OSError(self.fails[name], os.strerror(self.fails[name]))
        if request == Request.GROUP_GET_STATUS:
            assert isinstance(argument, abi.GroupStatus)
            argument.flags = int(self.viable)
        return {Request.GET_API_VERSION: 0, Request.CHECK_EXTENSION: 1}.get(Request(request), 0)
