"""Structures and numbers of hw/vfio/abi.py against the kernel's header."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from ixrings.hw.vfio import abi
from ixrings.hw.vfio.abi import Request

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
OTHER_NAMES = {"last": "end", "reserved": None}
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


def test_structures_and_numbers_agree_with_the_kernels_header(tmp_path: Path) -> None:
    if not shutil.which("cc") or not Path("/usr/include/linux/vfio.h").exists():
        pytest.skip("needs cc and <linux/vfio.h>: apt install gcc linux-libc-dev")
    asserts = [
        f'_Static_assert({name} == {int(value)}, "{name}");' for name, value in {**REQUESTS, **CONSTANTS}.items()
    ]
    for mirror, name in STRUCTURES.items():
        size = ctypes.sizeof(mirror)
        # Newer headers add fields at the end.
        asserts.append(f'_Static_assert(sizeof(struct {name}) >= {size}, "{name}");')
        for field, *_ in mirror._fields_:
            theirs = OTHER_NAMES.get(field, field)
            if theirs:
                offset, size = getattr(mirror, field).offset, getattr(mirror, field).size
                asserts += [
                    f'_Static_assert(offsetof(struct {name}, {theirs}) == {offset}, "{name}.{theirs}");',
                    f'_Static_assert(sizeof(((struct {name} *)0)->{theirs}) == {size}, "{name}.{theirs}");',
                ]
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
        abi.BindIommufd: 24,
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
