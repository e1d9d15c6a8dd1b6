"""The kernel's VFIO and iommufd interfaces: numbers and structures of <linux/vfio.h> and <linux/iommufd.h>.

The kernel reads and writes each structure. `argsz` (iommufd: `size`) is the size that this program knows; a newer
kernel writes no more bytes than that. The request numbers contain no size: all are _IO(';', n).
"""

from __future__ import annotations

import ctypes
import fcntl
from ctypes import c_int32, c_uint32, c_uint64
from enum import IntEnum, IntFlag


class Request(IntEnum):
    """ioctl numbers, grouped by kind of descriptor. 0x3B70 to 0x3B72 have another meaning on other descriptors."""

    GET_API_VERSION = 0x3B64  # container
    CHECK_EXTENSION = 0x3B65
    SET_IOMMU = 0x3B66
    GROUP_GET_STATUS = 0x3B67  # group
    GROUP_SET_CONTAINER = 0x3B68
    GROUP_UNSET_CONTAINER = 0x3B69
    GROUP_GET_DEVICE_FD = 0x3B6A
    DEVICE_GET_INFO = 0x3B6B  # device
    DEVICE_GET_REGION_INFO = 0x3B6C
    DEVICE_GET_IRQ_INFO = 0x3B6D
    DEVICE_SET_IRQS = 0x3B6E
    DEVICE_RESET = 0x3B6F
    DEVICE_BIND_IOMMUFD = 0x3B76
    DEVICE_ATTACH_IOMMUFD_PT = 0x3B77
    DEVICE_DETACH_IOMMUFD_PT = 0x3B78
    IOMMU_GET_INFO = 0x3B70  # container again
    IOMMU_MAP_DMA = 0x3B71
    IOMMU_UNMAP_DMA = 0x3B72
    IOMMUFD_DESTROY = 0x3B80  # /dev/iommu
    IOAS_ALLOC = 0x3B81
    IOAS_IOVA_RANGES = 0x3B84
    IOAS_MAP = 0x3B85
    IOAS_UNMAP = 0x3B86


API_VERSION = 0
TYPE1_IOMMU, TYPE1V2_IOMMU, NOIOMMU_IOMMU = 1, 3, 8  # extensions, and arguments of SET_IOMMU


class Region(IntEnum):
    """Indices of a PCI device's regions."""

    BAR0 = 0
    CONFIG = 7


class Irq(IntEnum):
    """Indices of a PCI device's interrupts."""

    INTX = 0
    MSI = 1
    MSIX = 2


class GroupFlag(IntFlag):
    VIABLE = 1
    CONTAINER_SET = 2


class DeviceFlag(IntFlag):
    RESET = 1
    PCI = 2


class RegionFlag(IntFlag):
    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


class IrqFlag(IntFlag):
    """irq_set.flags: one kind of data, one action."""

    DATA_NONE = 0x01
    DATA_EVENTFD = 0x04
    MASK = 0x08
    UNMASK = 0x10
    TRIGGER = 0x20


class MapFlag(IntFlag):
    """dma_map.flags."""

    READ = 1
    WRITE = 2


class IoasMapFlag(IntFlag):
    FIXED_IOVA = 1
    WRITEABLE = 2
    READABLE = 4


INFO_CAPS = 2  # iommu_type1_info.flags: cap_offset is valid
CAP_IOVA_RANGE = 1


class GroupStatus(ctypes.Structure):
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32)]
    flags: int


class DeviceInfo(ctypes.Structure):
    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("num_regions", c_uint32),
        ("num_irqs", c_uint32),
        ("cap_offset", c_uint32),
    ]
    flags: int
    num_regions: int
    num_irqs: int


class RegionInfo(ctypes.Structure):
    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("index", c_uint32),
        ("cap_offset", c_uint32),
        ("size", c_uint64),
        ("offset", c_uint64),
    ]
    flags: int
    index: int
    size: int
    offset: int


class IrqInfo(ctypes.Structure):
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("index", c_uint32), ("count", c_uint32)]
    flags: int
    index: int
    count: int


class IrqSet(ctypes.Structure):
    """Followed by `count` eventfds if the flags contain DATA_EVENTFD."""

    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("index", c_uint32), ("start", c_uint32), ("count", c_uint32)]


class Type1Info(ctypes.Structure):
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("iova_pgsizes", c_uint64), ("cap_offset", c_uint32)]
    argsz: int
    flags: int
    iova_pgsizes: int
    cap_offset: int


class CapHeader(ctypes.Structure):
    """Header of a capability in a chain; `next` is an offset from the start of the info structure."""

    _fields_ = [("id", ctypes.c_uint16), ("version", ctypes.c_uint16), ("next", c_uint32)]
    id: int
    next: int


class CapIovaRange(ctypes.Structure):
    """Followed by `nr_iovas` IovaRange."""

    _fields_ = [("header", CapHeader), ("nr_iovas", c_uint32), ("reserved", c_uint32)]
    nr_iovas: int


class IovaRange(ctypes.Structure):
    """First and last address."""

    _fields_ = [("start", c_uint64), ("last", c_uint64)]
    start: int
    last: int


class DmaMap(ctypes.Structure):
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("vaddr", c_uint64), ("iova", c_uint64), ("size", c_uint64)]


class DmaUnmap(ctypes.Structure):
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("iova", c_uint64), ("size", c_uint64)]


BIND_TOKEN = 1  # vfio_device_bind_iommufd.flags: there is a token


class BindIommufd(ctypes.Structure):
    """token_uuid_ptr: address of the 16 bytes of a VF token. Linux has it since 2025."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("iommufd", c_int32),
        ("out_devid", c_uint32),
        ("token_uuid_ptr", c_uint64),
    ]
    flags: int
    token_uuid_ptr: int


class AttachIommufdPt(ctypes.Structure):
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("pt_id", c_uint32)]


class DetachIommufdPt(ctypes.Structure):
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32)]


class IommuDestroy(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("id", c_uint32)]


class IoasAlloc(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("flags", c_uint32), ("out_ioas_id", c_uint32)]
    out_ioas_id: int


class IoasIovaRanges(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32),
        ("ioas_id", c_uint32),
        ("num_iovas", c_uint32),
        ("reserved", c_uint32),
        ("allowed_iovas", c_uint64),
        ("out_iova_alignment", c_uint64),
    ]
    num_iovas: int
    out_iova_alignment: int


class IoasMap(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("ioas_id", c_uint32),
        ("reserved", c_uint32),
        ("user_va", c_uint64),
        ("length", c_uint64),
        ("iova", c_uint64),
    ]


class IoasUnmap(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("ioas_id", c_uint32), ("iova", c_uint64), ("length", c_uint64)]


def call(fd: int, request: Request, structure: ctypes.Structure) -> int:
    """The ioctl; the kernel's answer is in `structure`. Raises OSError."""
    result: int = fcntl.ioctl(fd, request, structure)
    return result
