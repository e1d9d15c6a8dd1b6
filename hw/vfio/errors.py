"""Error sentences for VFIO: the meaning of an errno, and the command that helps."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from ..errors import DmaError
from ..pci.discovery import VFIO_DRIVERS, Function


def load_vfio(function: Function, node: Path) -> str:
    """For ENOENT or ENODEV of a device file."""
    if function.driver not in VFIO_DRIVERS:
        why = f"its driver is {function.driver}" if function.driver else "it has no driver"
        return f"{function.address} is not bound to vfio-pci: {why}. Run: ixrings bind {function.address}"
    if function.iommu_group is None:
        return no_iommu(function)
    return f"{node} does not exist. Run: sudo modprobe vfio-pci"


def no_iommu(function: Function) -> str:
    """For a function without an IOMMU group."""
    return (
        f"{function.address} has no IOMMU: boot with intel_iommu=on or amd_iommu=on, and switch VT-d or AMD-Vi on in "
        f"the BIOS. To work without an IOMMU, run: ixrings bind {function.address} --driver uio_pci_generic"
    )


def no_interrupt_remapping(function: Function, module: str) -> str:
    """For EPERM when a device is attached that could forge interrupts. A parameter of `module` accepts the risk."""
    return (
        f"the kernel does not hand out {function.address}: this machine's IOMMU cannot remap interrupts, so a device "
        "could forge them. Switch interrupt remapping on in the BIOS, or accept the risk with: echo 1 | sudo tee "
        f"/sys/module/{module}/parameters/allow_unsafe_interrupts"
    )


def no_permission(function: Function, *nodes: Path, noiommu: bool = False) -> str:
    """For EACCES or EPERM when `nodes` are opened."""
    shown = " ".join(map(str, nodes))
    if noiommu:
        return f"{shown} needs CAP_SYS_RAWIO: without an IOMMU the device can access all memory. Run as root (sudo)"
    return (
        f"no permission to open {shown}. Run: sudo chown $USER {shown} "
        f"(or bind with: sudo ixrings bind {function.address} --chown $USER)"
    )


def map_error(function: Function, error: OSError, iova: int, size: int) -> DmaError:
    """Why [iova, iova + size) could not be mapped for the function."""
    where = f"{size} bytes of memory for {function.address}"
    if error.errno == errno.ENOMEM:
        limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        allowed = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
        return DmaError(
            f"{where} cannot be locked: the limit on locked memory is {allowed} (ulimit -l). "
            "Run: sudo prlimit --memlock=unlimited --pid $$ (in a service: LimitMEMLOCK=infinity)"
        )
    if error.errno == errno.EEXIST:
        return DmaError(f"{where}: addresses from {iova:#x} on are already mapped")
    if error.errno == errno.ENOSPC:
        return DmaError(
            f"{where}: the kernel allows no more DMA mappings. "
            "The limit is in: cat /sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
        )
    if error.errno == errno.EINVAL:
        return DmaError(
            f"{where}: the IOMMU refuses address {iova:#x}: it is not a multiple of a page, or not in a range that "
            "it translates"
        )
    return DmaError(f"{where} cannot be mapped: {error.strerror}")
