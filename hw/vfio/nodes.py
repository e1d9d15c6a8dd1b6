"""Open a device file of VFIO, with a sentence for each error."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import DeviceError
from ..pci.discovery import Function
from .errors import load_vfio, no_permission


def open_node(function: Function, node: Path, *needed: Path, root: Path, noiommu: bool = False) -> int:
    """Open `node` and return its descriptor. Raises DeviceError, OSError.

    needed: further files that a program opens. An error of permissions names the files that this process may not open.
    """
    try:
        return os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            raise DeviceError(load_vfio(function, node)) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            refused = [each for each in needed or (node,) if each == node or not os.access(each, os.R_OK | os.W_OK)]
            raise DeviceError(no_permission(function, error, *refused, root=root, noiommu=noiommu)) from None
        raise
