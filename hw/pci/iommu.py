"""What sysfs and procfs show of the IOMMU: remapped interrupts, and memory that the firmware reserves for a device."""

from __future__ import annotations

from pathlib import Path

from .discovery import Function
from .sysfs import text_of

UNSAFE_INTERRUPTS = "sys/module/{}/parameters/allow_unsafe_interrupts"
IOMMU_WORDS = "DMAR|AMD-Vi|iommu|vfio"  # for grep -E in the kernel's log


def interrupts_remapped(root: Path) -> bool:
    """/proc/interrupts shows remapped interrupts with IR- before the name of their chip."""
    return " IR-" in text_of(root / "proc/interrupts")


def unsafe_interrupts_allowed(module: str, root: Path) -> bool:
    """Whether `module`, vfio_iommu_type1 or iommufd, accepts an IOMMU that does not remap interrupts."""
    return text_of(root / UNSAFE_INTERRUPTS.format(module)) in ("Y", "1")


def firmware_regions(function: Function, root: Path) -> list[str]:
    """Memory that the device has to reach at its physical address because its firmware says so, as `0x...-0x...`.

    The kernel calls it `direct` in the group's reserved_regions (Intel: RMRR, AMD: IVMD), and hands out no device of
    such a group. `direct-relaxable` regions do not prevent that (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
    """
    if function.iommu_group is None:
        return []
    text = text_of(root / "sys/kernel/iommu_groups" / str(function.iommu_group) / "reserved_regions")
    lines = [line.split() for line in text.splitlines()]
    return [f"{fields[0]}-{fields[1]}" for fields in lines if len(fields) == 3 and fields[2] == "direct"]


def reserved_by_firmware(function: Function, root: Path) -> str:
    """The sentence for firmware_regions(); "" if there are none."""
    regions = firmware_regions(function, root)
    if not regions:
        return ""
    return (
        f"the firmware reserves memory for group {function.iommu_group} ({', '.join(regions)}: RMRR on Intel), so the "
        f"kernel hands out none of its devices. A BIOS setting (HPE: conrep, RMRDS_Slot) or another slot may free "
        f"{function.address}. The kernel's reason: sudo dmesg | grep -E 'RMRR|1:1'"
    )
