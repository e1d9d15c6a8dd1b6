"""VFIO without a NIC: structures against the kernel's header, addresses, which way is chosen, and every error's sentence.

The real calls are made in a QEMU guest (tests/qemu).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ixrings.hw.errors import DeviceError, DmaError
from ixrings.hw.memory.iova import MSI_FIRST, MSI_LAST, IovaSpace, Range, without_msi
from ixrings.hw.pci.discovery import look_up
from ixrings.hw.vfio import abi
from ixrings.hw.vfio.abi import Request
from ixrings.hw.vfio.device import VfioDevice, Way, choose
from ixrings.hw.vfio.errors import map_error
from ixrings.hw.vfio.group import WHOLE, parse_ranges
from ixrings.hw.vfio.iommufd import Iommufd
from tests.support.sysfs_tree import Machine, machine

__all__ = ["machine"]
A, B = "0000:03:00.0", "0000:03:00.1"

STRUCTURES = {
    abi.GroupStatus: "vfio_group_status",
    abi.DeviceInfo: "vfio_device_info",
    abi.RegionInfo: "vfio_region_info",
    abi.IrqInfo: "vfio_irq_info",
    abi.IrqSet: "vfio_irq_set",
    abi.Type1Info: "vfio_iommu_type1_info",
    abi.CapHeader: "vfio_info_cap_header",
    abi.CapIovaRange: "vfio_iommu_type1_info_cap_iova_range",
    abi.IovaRange: "vfio_iova_range",
    abi.DmaMap: "vfio_iommu_type1_dma_map",
    abi.DmaUnmap: "vfio_iommu_type1_dma_unmap",
}
NAMED_OTHERWISE = {"last": "end", "reserved": None}
REQUESTS = {
    "VFIO_GET_API_VERSION": Request.GET_API_VERSION,
    "VFIO_CHECK_EXTENSION": Request.CHECK_EXTENSION,
    "VFIO_SET_IOMMU": Request.SET_IOMMU,
    "VFIO_GROUP_GET_STATUS": Request.GROUP_GET_STATUS,
    "VFIO_GROUP_SET_CONTAINER": Request.GROUP_SET_CONTAINER,
    "VFIO_GROUP_UNSET_CONTAINER": Request.GROUP_UNSET_CONTAINER,
    "VFIO_GROUP_GET_DEVICE_FD": Request.GROUP_GET_DEVICE_FD,
    "VFIO_DEVICE_GET_INFO": Request.DEVICE_GET_INFO,
    "VFIO_DEVICE_GET_REGION_INFO": Request.DEVICE_GET_REGION_INFO,
    "VFIO_DEVICE_GET_IRQ_INFO": Request.DEVICE_GET_IRQ_INFO,
    "VFIO_DEVICE_SET_IRQS": Request.DEVICE_SET_IRQS,
    "VFIO_DEVICE_RESET": Request.DEVICE_RESET,
    "VFIO_IOMMU_GET_INFO": Request.IOMMU_GET_INFO,
    "VFIO_IOMMU_MAP_DMA": Request.IOMMU_MAP_DMA,
    "VFIO_IOMMU_UNMAP_DMA": Request.IOMMU_UNMAP_DMA,
}
CONSTANTS = {
    "VFIO_API_VERSION": abi.API_VERSION,
    "VFIO_TYPE1v2_IOMMU": abi.TYPE1V2_IOMMU,
    "VFIO_NOIOMMU_IOMMU": abi.NOIOMMU_IOMMU,
    "VFIO_GROUP_FLAGS_VIABLE": abi.GroupFlag.VIABLE,
    "VFIO_GROUP_FLAGS_CONTAINER_SET": abi.GroupFlag.CONTAINER_SET,
    "VFIO_DEVICE_FLAGS_PCI": abi.DeviceFlag.PCI,
    "VFIO_DEVICE_FLAGS_RESET": abi.DeviceFlag.RESET,
    "VFIO_REGION_INFO_FLAG_MMAP": abi.RegionFlag.MMAP,
    "VFIO_PCI_BAR0_REGION_INDEX": abi.Region.BAR0,
    "VFIO_PCI_CONFIG_REGION_INDEX": abi.Region.CONFIG,
    "VFIO_PCI_INTX_IRQ_INDEX": abi.Irq.INTX,
    "VFIO_PCI_MSIX_IRQ_INDEX": abi.Irq.MSIX,
    "VFIO_IRQ_SET_DATA_NONE": abi.IrqFlag.DATA_NONE,
    "VFIO_IRQ_SET_DATA_EVENTFD": abi.IrqFlag.DATA_EVENTFD,
    "VFIO_IRQ_SET_ACTION_UNMASK": abi.IrqFlag.UNMASK,
    "VFIO_IRQ_SET_ACTION_TRIGGER": abi.IrqFlag.TRIGGER,
    "VFIO_IOMMU_INFO_CAPS": abi.INFO_CAPS,
    "VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE": abi.CAP_IOVA_RANGE,
    "VFIO_DMA_MAP_FLAG_READ": abi.MapFlag.READ,
    "VFIO_DMA_MAP_FLAG_WRITE": abi.MapFlag.WRITE,
}


def test_structures_and_numbers_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    if not shutil.which("cc") or not Path("/usr/include/linux/vfio.h").exists():
        pytest.skip("needs cc and <linux/vfio.h>: apt install gcc linux-libc-dev")
    asserts = [
        f'_Static_assert({name} == {int(value)}, "{name}");' for name, value in {**REQUESTS, **CONSTANTS}.items()
    ]
    for mirror, name in STRUCTURES.items():
        size = ctypes.sizeof(mirror)
        asserts.append(
            f'_Static_assert(sizeof(struct {name}) >= {size}, "{name}");'
        )  # newer headers add fields at the end
        for field, *_ in mirror._fields_:
            theirs = NAMED_OTHERWISE.get(field, field)
            if theirs:
                asserts.append(
                    f'_Static_assert(offsetof(struct {name}, {theirs}) == {getattr(mirror, field).offset}, "{name}.{theirs}");'
                )
                asserts.append(
                    f'_Static_assert(sizeof(((struct {name} *)0)->{theirs}) == {getattr(mirror, field).size}, "{name}.{theirs}");'
                )
    source = tmp_path / "layout.c"
    source.write_text("#include <stddef.h>\n#include <linux/vfio.h>\n" + "\n".join(asserts) + "\n")
    result = subprocess.run(["cc", "-std=c11", "-fsyntax-only", str(source)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_iommufd_structures_have_the_published_sizes_and_offsets() -> None:
    sizes = {
        abi.IommuDestroy: 8,
        abi.IoasAlloc: 12,
        abi.IoasIovaRanges: 32,
        abi.IoasMap: 40,
        abi.IoasUnmap: 24,
        abi.BindIommufd: 16,
        abi.AttachIommufdPt: 12,
        abi.DetachIommufdPt: 8,
    }
    assert {each: ctypes.sizeof(each) for each in sizes} == sizes

    def offset(structure: type[ctypes.Structure], field: str) -> int:
        return int(getattr(structure, field).offset)

    assert [offset(abi.IoasMap, field) for field in ("user_va", "length", "iova")] == [16, 24, 32]
    assert [offset(abi.IoasUnmap, field) for field in ("iova", "length")] == [8, 16]
    assert [offset(abi.IoasIovaRanges, field) for field in ("num_iovas", "allowed_iovas", "out_iova_alignment")] == [
        8,
        16,
        24,
    ]


# ---- addresses ----


def test_windows_never_touch_each_other_nor_the_msi_window() -> None:
    space = IovaSpace([Range(0, (1 << 39) - 1)])
    taken: list[int] = []
    for _ in range(40):
        iova, size = space.take(100 << 20), 100 << 20
        assert iova % (2 << 20) == 0 and iova > 0
        assert iova + size <= MSI_FIRST or iova > MSI_LAST
        assert all(iova >= other + size + 4096 or other >= iova + size + 4096 for other in taken)
        taken.append(iova)
    assert max(taken) > MSI_LAST  # past 4 GB, so the window was really in the way


def test_a_window_that_was_given_back_is_used_again() -> None:
    space = IovaSpace([Range(0, 0x2FFF_FFFF)])
    first = space.take(64 << 20)
    second = space.take(64 << 20)
    space.give_back(first)
    assert space.take(64 << 20) == first
    assert space.take(64 << 20) > second


def test_addresses_stay_in_what_the_iommu_carries() -> None:
    space = IovaSpace([Range(0x2000_0000, 0x203F_FFFF), Range(0x5000_0000, 0x50FF_FFFF)])
    assert space.take(4 << 20) == 0x2000_0000
    assert space.take(4 << 20) == 0x5000_0000
    with pytest.raises(DmaError, match="it carries 0x20000000-0x203fffff, 0x50000000-0x50ffffff"):
        space.take(64 << 20)


def test_the_msi_window_is_cut_out_of_ranges_of_kernels_that_left_it_in() -> None:
    assert without_msi([Range(0, 0xFFFF_FFFF)]) == [Range(0, MSI_FIRST - 1), Range(MSI_LAST + 1, 0xFFFF_FFFF)]
    assert without_msi([Range(MSI_FIRST, MSI_LAST)]) == []


def test_ranges_are_found_in_the_chain_of_capabilities() -> None:
    other = struct.pack("<HHI", 3, 1, 40) + bytes(8)
    ranges = struct.pack("<HHIII4Q", 1, 1, 0, 2, 0, 0, 0xFEDF_FFFF, 0xFEF0_0000, 0x7F_FFFF_FFFF)
    info = bytes(24) + other + ranges
    assert parse_ranges(info, 24) == [Range(0, 0xFEDF_FFFF), Range(0xFEF0_0000, 0x7F_FFFF_FFFF)]
    assert parse_ranges(bytes(24) + struct.pack("<HHI", 3, 1, 24), 24) == [WHOLE]  # a chain that bites its tail
    assert parse_ranges(bytes(24), 0) == [WHOLE]


# ---- which way, and what is said when it is barred ----


def test_iommufd_is_taken_where_the_kernel_has_it_and_lets_us_in(machine: Machine) -> None:
    path = machine.add(A, driver="vfio-pci")
    assert choose(look_up(A, machine.root), machine.root) is Way.GROUP
    (path / "vfio-dev/vfio0").mkdir(parents=True)
    (machine.root / "dev/vfio/devices").mkdir()
    (machine.root / "dev/vfio/devices/vfio0").touch()
    assert choose(look_up(A, machine.root), machine.root) is Way.GROUP
    (machine.root / "dev/iommu").touch()
    assert choose(look_up(A, machine.root), machine.root) is Way.CDEV


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"not bound to vfio-pci: ixgbe has it\. Run: ixrings bind 0000:03:00\.0"),
        ({"driver": ""}, r"not bound to vfio-pci: it has no driver\. Run: ixrings bind"),
        ({"device": 0x1572}, r"is a NIC, but no 82599: it is 8086:1572"),
        ({"class_code": 0x0C0330, "device": 0x1E31}, r"is no NIC, and no 82599"),
    ],
)
def test_a_device_that_is_not_for_us_is_refused_unopened(
    machine: Machine, options: dict[str, object], says: str
) -> None:
    machine.add(A, **options)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, root=machine.root)


class Kernel:
    """Answers VFIO's ioctls on the made-up machine; `fails` says which and with what."""

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


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ({"SET_IOMMU": errno.EPERM}, r"cannot remap interrupts.*allow_unsafe_interrupts"),
        ({"GROUP_GET_DEVICE_FD": errno.EBUSY}, r"in use by another program; one program at a time"),
        ({"GROUP_GET_DEVICE_FD": errno.ENODEV}, r"not bound to vfio-pci\. Run: ixrings bind"),
        (
            {"GROUP_SET_CONTAINER": errno.EINVAL},
            r"cannot be opened through VFIO group 12: Invalid argument\. Run: ixrings doctor",
        ),
    ],
)
def test_each_error_of_the_group_path_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, fails: dict[str, int], says: str
) -> None:
    machine.add(A, driver="vfio-pci")
    monkeypatch.setattr(fcntl, "ioctl", Kernel(**fails).ioctl)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, Way.GROUP, root=machine.root)


def test_a_group_that_is_not_viable_names_who_is_in_the_way(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add(A, driver="vfio-pci")
    machine.add(B)
    kernel = Kernel()
    kernel.viable = False
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    with pytest.raises(DeviceError) as error:
        VfioDevice(A, root=machine.root)
    assert str(error.value) == f"Group 12 is not viable: {B} is bound to ixgbe. Run: ixrings bind {B}"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOENT, r"/12 is not there\. Run: sudo modprobe vfio-pci"),
        (errno.EACCES, r"is not yours to open.*--chown \$USER"),
        (errno.EBUSY, r"\(group 12\) is in use by another program"),
    ],
)
def test_each_error_of_opening_the_group_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    machine.add(A, driver="vfio-pci")
    really = os.open

    def refuse(path: str, flags: int, *more: int) -> int:
        if str(path).endswith("dev/vfio/12"):
            raise OSError(number, os.strerror(number))
        return really(path, flags, *more)

    monkeypatch.setattr(fcntl, "ioctl", Kernel().ioctl)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, root=machine.root)


def add_cdev(machine: Machine) -> None:
    (machine.add(A, driver="vfio-pci") / "vfio-dev/vfio0").mkdir(parents=True)
    (machine.root / "dev/vfio/devices").mkdir()
    (machine.root / "dev/vfio/devices/vfio0").touch()
    (machine.root / "dev/iommu").touch()


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ({"DEVICE_BIND_IOMMUFD": errno.EINVAL}, r"in use by another program"),
        (
            {"DEVICE_ATTACH_IOMMUFD_PT": errno.EPERM},
            r"cannot remap interrupts.*iommufd/parameters/allow_unsafe_interrupts",
        ),
        ({"IOAS_ALLOC": errno.ENOMEM}, r"cannot be opened through .*vfio0: Cannot allocate memory"),
    ],
)
def test_each_error_of_the_iommufd_path_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, fails: dict[str, int], says: str
) -> None:
    add_cdev(machine)
    monkeypatch.setattr(fcntl, "ioctl", Kernel(**fails).ioctl)
    with pytest.raises(DeviceError, match=says):
        VfioDevice(A, root=machine.root)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOMEM, r"limit on locked memory is .*prlimit --memlock=unlimited"),
        (errno.EEXIST, "mapped already"),
        (errno.ENOSPC, "dma_entry_limit"),
        (errno.EINVAL, "outside what it carries"),
    ],
)
def test_each_error_of_mapping_has_its_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    add_cdev(machine)
    monkeypatch.setattr(fcntl, "ioctl", Kernel(IOAS_MAP=number).ioctl)
    space = Iommufd(look_up(A, machine.root), machine.root)
    try:
        with pytest.raises(DmaError, match=says):
            space.map(0x1000, 0x1000_0000, 4096)
    finally:
        space.close()


def test_the_memlock_error_shows_the_limit_of_this_process(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 << 10, limits[1]))
    try:
        machine.add(A)
        assert "is 64 KiB (ulimit -l)" in str(map_error(look_up(A, machine.root), OSError(errno.ENOMEM, ""), 0, 4096))
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)


def test_no_iommu_is_never_used_unless_it_is_asked_for_by_name(machine: Machine) -> None:
    machine.add(A, driver="vfio-pci", kind="")
    (machine.root / "dev/vfio/12").rename(machine.root / "dev/vfio/noiommu-12")
    with pytest.raises(DeviceError, match=r"has no IOMMU to keep it in its place.*vfio-noiommu:0000:03:00\.0"):
        VfioDevice(A, root=machine.root)
    (machine.root / "dev/vfio/noiommu-12").unlink()
    with pytest.raises(DeviceError, match="enable_unsafe_noiommu_mode"):
        VfioDevice(A, Way.NOIOMMU, root=machine.root)


def test_no_iommu_is_warned_about_in_words(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add(A, driver="vfio-pci", kind="")
    (machine.root / "dev/vfio/12").rename(machine.root / "dev/vfio/noiommu-12")
    monkeypatch.setattr(fcntl, "ioctl", Kernel(GROUP_GET_DEVICE_FD=errno.EPERM).ioctl)
    with pytest.warns(RuntimeWarning, match="overwrite any memory of this machine"), pytest.raises(DeviceError):
        VfioDevice(A, Way.NOIOMMU, root=machine.root)
