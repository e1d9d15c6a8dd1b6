"""What VFIO's errors mean, in sentences that end with what to type. An errno alone has sent many people searching."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from ixrings.hw.errors import DmaError
from ixrings.hw.pci.discovery import VFIO_DRIVERS, Function


def load_vfio(function: Function, node: Path) -> str:
    """ENOENT or ENODEV for a node under /dev."""
    if function.driver not in VFIO_DRIVERS:
        has = f"{function.driver} has it" if function.driver else "it has no driver"
        return f"{function.address} is not bound to vfio-pci: {has}. Run: ixrings bind {function.address}"
    if function.iommu_group is None:
        return no_iommu(function)
    return f"{node} is not there. Run: sudo modprobe vfio-pci"


def no_iommu(function: Function) -> str:
    return (
        f"{function.address} is behind no IOMMU: boot with intel_iommu=on or amd_iommu=on, and switch VT-d or AMD-Vi on in the BIOS. "
        f"Without one: ixrings bind {function.address} --driver uio_pci_generic"
    )


def no_interrupt_remapping(function: Function, module: str) -> str:
    """EPERM for a device that could forge interrupts; `module` is the one with the parameter that accepts that."""
    return (
        f"the kernel does not hand out {function.address}: this machine's IOMMU cannot remap interrupts, so a device could "
        "forge them. Switch interrupt remapping on in the BIOS, or accept the risk. "
        f"Run: echo 1 | sudo tee /sys/module/{module}/parameters/allow_unsafe_interrupts"
    )


def no_permission(function: Function, *nodes: Path, noiommu: bool = False) -> str:
    shown = " ".join(map(str, nodes))
    if noiommu:
        return (
            f"{shown} needs CAP_SYS_RAWIO, because without an IOMMU the device reaches all memory. Run as root (sudo)"
        )
    return f"{shown} is not yours to open. Run: sudo chown $USER {shown} (or bind with: sudo ixrings bind {function.address} --chown $USER)"


def map_error(function: Function, error: OSError, iova: int, size: int) -> DmaError:
    """Why [iova, iova + size) could not be mapped."""
    where = f"{size} bytes of memory for {function.address}"
    if error.errno == errno.ENOMEM:
        limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        allowed = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
        return DmaError(
            f"{where} cannot be locked: the limit on locked memory is {allowed} (ulimit -l). "
            "Run: sudo prlimit --memlock=unlimited --pid $$ (in a service: LimitMEMLOCK=infinity)"
        )
    if error.errno == errno.EEXIST:
        return DmaError(f"{where}: addresses from {iova:#x} on are mapped already")
    if error.errno == errno.ENOSPC:
        return DmaError(
            f"{where}: the kernel's table of DMA mappings is full. Run: cat /sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
        )
    if error.errno == errno.EINVAL:
        return DmaError(
            f"{where}: the IOMMU does not take {iova:#x}: not a multiple of a page, or outside what it carries"
        )
    return DmaError(f"{where} cannot be mapped: {error.strerror}")
