"""`ixrings doctor`: check everything that a program needs to open a NIC, and give the command that repairs it."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..memory.hugepages import free_hugepages, reserve
from .discovery import (
    FOR_PROGRAMS,
    ROOT,
    UIO_DRIVERS,
    VFIO_DRIVERS,
    Function,
    find_nics,
    group_blockers,
    look_up,
    members,
)
from .iommu import UNSAFE_INTERRUPTS, interrupts_remapped, reserved_by_firmware, unsafe_interrupts_allowed
from .nodes import IOMMU, has_iommufd, nodes_of
from .sysfs import CAP_IPC_LOCK, CAP_SYS_ADMIN, entries_of, has_capability, lockdown_mode, text_of
from .usable import not_viable, why_not

VFIO_NEEDS = ("IOMMU", "interrupt remapping", "vfio-pci", "locked memory")
UIO_NEEDS = ("hugepages", "kernel lockdown")
ENOUGH_LOCKED = 64 << 20  # bytes: a port of one queue each way needs 5 MB, sixteen with 2048 slots 140 MB


@dataclass(frozen=True)
class Check:
    """One line of the report.

    ok: nothing has to be done. text: what was found. mend: the command that helps if not ok. needed: whether programs
    fail if not ok.
    """

    name: str
    ok: bool
    text: str
    mend: str = ""
    needed: bool = True


def examine(address: str = "", root: Path = ROOT) -> list[Check]:
    """Check the machine, then the NIC at `address`, or every 82599 if there is no address. Raises NoSuchFunction."""
    functions = [look_up(address, root)] if address else [nic for nic in find_nics(root) if nic.is_ours]
    by_uio = bool(functions) and all(function.driver in UIO_DRIVERS for function in functions)
    checks = [
        replace(each, needed=each.name in UIO_NEEDS if by_uio else each.name in VFIO_NEEDS) for each in machine(root)
    ]
    if not functions:
        checks.append(Check("NIC", False, "no 82599 on the PCI bus", "lspci -nn -d 8086:"))
    for function in functions:
        checks += nic(function, root)
    return checks


def machine(root: Path) -> Iterator[Check]:
    """Checks that do not depend on a NIC."""
    yield iommu(root)
    if platform.machine() == "x86_64":
        yield interrupt_remapping(root)
    loaded = (root / "sys/bus/pci/drivers/vfio-pci").exists()
    yield Check("vfio-pci", loaded, "loaded" if loaded else "not loaded", "sudo modprobe vfio-pci")
    iommufd = (root / IOMMU).exists()
    yield Check(
        "iommufd", True, "present" if iommufd else "not in this kernel, or not loaded; VFIO groups work without it"
    )
    pages = free_hugepages(root)
    yield Check("hugepages", pages > 0, f"{pages} of 2 MiB free", reserve(root=root))
    yield memlock(root)
    yield lockdown(root)


def iommu(root: Path) -> Check:
    groups = len(entries_of(root / "sys/kernel/iommu_groups"))
    if groups:
        return Check("IOMMU", True, f"on, {groups} groups")
    asked = [word for word in text_of(root / "proc/cmdline").split() if word in ("intel_iommu=on", "amd_iommu=on")]
    if asked:
        return Check(
            "IOMMU",
            False,
            f"off in spite of {asked[0]}: switch VT-d or AMD-Vi on in the BIOS",
            "systemctl reboot --firmware-setup",
        )
    return Check(
        "IOMMU",
        False,
        "off",
        "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX intel_iommu=on iommu=pt\"' | sudo tee -a /etc/default/grub "
        "&& sudo update-grub && sudo reboot   (AMD: amd_iommu=on)",
    )


def interrupt_remapping(root: Path) -> Check:
    """VFIO hands out a device only if it cannot forge interrupts."""
    if interrupts_remapped(root):
        return Check("interrupt remapping", True, "on")
    if not entries_of(root / "sys/kernel/iommu_groups"):
        return Check("interrupt remapping", False, "off, because the IOMMU is off")
    if unsafe_interrupts_allowed("vfio_iommu_type1", root):
        return Check("interrupt remapping", True, "off, but allow_unsafe_interrupts accepts that")
    return Check(
        "interrupt remapping",
        False,
        "off, so VFIO refuses every device",
        f"echo 1 | sudo tee /{UNSAFE_INTERRUPTS.format('vfio_iommu_type1')}",
    )


def memlock(root: Path) -> Check:
    """VFIO locks DMA memory, and the limit has to allow that."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if has_capability(CAP_IPC_LOCK, root) or limit == resource.RLIM_INFINITY:
        return Check("locked memory", True, "not limited")
    return Check(
        "locked memory",
        limit >= ENOUGH_LOCKED,
        f"limited to {limit >> 10} KiB",
        "sudo prlimit --memlock=unlimited --pid $$",
    )


def lockdown(root: Path) -> Check:
    """A locked-down kernel refuses UIO and VFIO without an IOMMU."""
    mode = lockdown_mode(root)
    if mode in ("", "none"):
        return Check("kernel lockdown", True, "none")
    return Check(
        "kernel lockdown", False, f"{mode}: UIO and vfio-noiommu do not work, VFIO does", "mokutil --disable-validation"
    )


def nic(function: Function, root: Path) -> Iterator[Check]:
    reason = why_not(function, root)
    text, _, command = reason.partition(" Run: ")
    driver = f"{function.name}, {function.driver or 'no driver'}"
    yield Check(function.address, not reason, driver if not reason else text.rstrip("."), command)
    if function.iommu_group is not None and function.iommu_type != "none":
        yield group(function, root)
        reserved = reserved_by_firmware(function, root)
        if reserved:
            text, _, command = reserved.partition(" The kernel's reason: ")
            yield Check(f"{function.address} reserved memory", False, text.rstrip("."), command)
    if function.driver in FOR_PROGRAMS:
        yield permissions(function, root)


def group(function: Function, root: Path) -> Check:
    blockers = group_blockers(function, root)
    others = ", ".join(f"{each.address} ({each.driver or 'no driver'})" for each in members(function, root))
    name = f"{function.address} group {function.iommu_group}"
    if blockers:
        text, _, command = not_viable(function, blockers).partition(" Run: ")
        return Check(name, False, text.rstrip("."), command)
    return Check(name, True, f"viable, with {others}" if others else "viable, alone in it")


def permissions(function: Function, root: Path) -> Check:
    """Whether this process may open the function."""
    name = f"{function.address} permissions"
    if function.driver in UIO_DRIVERS:
        allowed = has_capability(CAP_SYS_ADMIN, root)
        return Check(
            name,
            allowed,
            "physical addresses can be read" if allowed else "UIO needs root to read physical addresses",
            "sudo -s",
        )
    nodes = [node for node in nodes_of(function, root) if node.exists()]
    mine = [node for node in nodes if os.access(node, os.R_OK | os.W_OK)]
    if has_iommufd(function, root) and not os.access(root / IOMMU, os.R_OK | os.W_OK):
        mine = [node for node in mine if node.parent.name != "devices"]
    if mine:
        return Check(name, True, f"this process may open {mine[0]}")
    return Check(
        name,
        False,
        f"this process may not open {', '.join(map(str, nodes)) or 'its device file'}",
        f"sudo ixrings bind {function.address} --driver {VFIO_DRIVERS[0]} --chown $USER",
    )
