"""Device files through which a program opens a NIC, and the processes that have them open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .discovery import UIO_DRIVERS, VFIO_DRIVERS, Function
from .sysfs import entries_of, link_of, text_of

IOMMU = "dev/iommu"


def device_node(function: Function, root: Path) -> Path:
    return root / "dev/vfio/devices" / function.vfio_cdev


def group_node(function: Function, root: Path, *, noiommu: bool = False) -> Path:
    return root / "dev/vfio" / f"{'noiommu-' if noiommu else ''}{function.iommu_group}"


def has_iommufd(function: Function, root: Path) -> bool:
    """Whether the kernel offers this device through iommufd: its character device and /dev/iommu exist."""
    return bool(function.vfio_cdev) and device_node(function, root).exists() and (root / IOMMU).exists()


def nodes_of(function: Function, root: Path) -> tuple[Path, ...]:
    """Device files that a program opens for this function only. (All functions share /dev/vfio/vfio and /dev/iommu.)"""
    if function.driver in UIO_DRIVERS and function.uio:
        return (root / "dev" / function.uio,)
    if function.driver not in VFIO_DRIVERS:
        return ()
    group = group_node(function, root, noiommu=function.iommu_type == "none")
    return (group, device_node(function, root)) if function.vfio_cdev else (group,)


def holding(root: Path, *nodes: Path) -> list[int]:
    """The numbers of the processes that have one of `nodes` open. Only root sees those of other users."""
    wanted = {str(node) for node in nodes}
    return [
        int(process)
        for process in entries_of(root / "proc")
        if process.isdigit()
        and any(
            link_of(root / "proc" / process / "fd" / fd) in wanted for fd in entries_of(root / "proc" / process / "fd")
        )
    ]


def holders(root: Path, *nodes: Path) -> list[str]:
    """As holding(), in words: `python3 (1234)`."""
    return [
        f"{text_of(root / 'proc' / str(process) / 'comm') or 'a process'} ({process})"
        for process in holding(root, *nodes)
    ]


def other_holders(root: Path, *nodes: Path) -> list[str]:
    """holders() without this process, which may have opened a node itself."""
    return [each for each in holders(root, *nodes) if not each.endswith(f"({os.getpid()})")]


def in_use(function: Function, who: Iterable[str]) -> str:
    """Error sentence for a device that another program has open."""
    group = f" (group {function.iommu_group})" if function.iommu_group is not None else ""
    return (
        f"{function.address}{group} is in use by {', '.join(who) or 'another program'}; only one program at a time can "
        "have it open. End that program first"
    )
