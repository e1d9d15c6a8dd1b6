"""Error sentences for VFIO: the meaning of an errno, and the command that helps."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from ..errors import DmaError
from ..pci.discovery import VFIO_DRIVERS, Function
from ..pci.iommu import (
    IOMMU_WORDS,
    UNSAFE_INTERRUPTS,
    interrupts_remapped,
    reserved_by_firmware,
    unsafe_interrupts_allowed,
)
from ..pci.sysfs import CAP_IPC_LOCK, CAP_SYS_RAWIO, has_capability, target_of


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


def not_attached(function: Function, error: OSError, module: str, root: Path) -> str:
    """For an error when the function is attached to the IOMMU. One errno has several causes: look for each.

    module: the kernel's IOMMU driver, vfio_iommu_type1 or iommufd; one of its parameters allows forged interrupts.
    """
    refused = f"the kernel does not hand out {function.address} ({error.strerror})"
    reserved = reserved_by_firmware(function, root)
    if reserved:
        return f"{refused}: {reserved}"
    if error.errno == errno.EPERM and not interrupts_remapped(root) and not unsafe_interrupts_allowed(module, root):
        return (
            f"{refused}: this machine's IOMMU does not remap interrupts, so a device could forge them. "
            "Switch interrupt remapping on in the BIOS, or accept the risk with: echo 1 | sudo tee "
            f"/{UNSAFE_INTERRUPTS.format(module)}"
        )
    return f"{refused}. The kernel's reason: sudo dmesg | grep -E '{function.address}|{IOMMU_WORDS}'"


def wrong_token(function: Function, error: OSError, token: str, root: Path) -> str:
    """For an error when a function is opened, with a VF token or without. "" if the token is not the reason.

    A token is asked for when the PF is bound to vfio-pci, and refused otherwise (drivers/vfio/pci/vfio_pci_core.c).
    """
    address, pf = function.address, function.physfn or "its physical function"
    if error.errno == errno.EACCES and token:
        return (
            f"{address} has another VF token than {token}. Write the one that the program which has {pf} open has set: "
            f"vfio:{address}@vf_token=UUID"
        )
    if error.errno == errno.EACCES:
        return (
            f"{address} needs a VF token, because {pf} is bound to vfio-pci. Write the one that the program which has "
            f"{pf} open has set: vfio:{address}@vf_token=UUID"
        )
    if error.errno != errno.EINVAL or not token:
        return ""
    if target_of(root / "sys/bus/pci/devices" / pf / "driver") in VFIO_DRIVERS:
        return f"{address}: this kernel takes no VF token through iommufd, and asks for none. Write vfio:{address}"
    return f"{address} takes no VF token, because {pf} is not bound to vfio-pci. Write vfio:{address}"


def not_bound(function: Function, error: OSError) -> str:
    """For an error of DEVICE_BIND_IOMMUFD when no process was seen that has the device open."""
    return (
        f"the kernel does not bind {function.address} to /dev/iommu ({error.strerror}). "
        f"If another program has it open, root sees it: sudo ixrings doctor {function.address}. "
        f"The kernel's reason: sudo dmesg | grep -E '{function.address}|{IOMMU_WORDS}'"
    )


def no_permission(function: Function, error: OSError, *nodes: Path, root: Path, noiommu: bool = False) -> str:
    """For EACCES or EPERM when `nodes` are opened: the file's owner, a missing capability, or a container's rules."""
    shown = " ".join(map(str, nodes))
    if noiommu and not has_capability(CAP_SYS_RAWIO, root):
        return f"{shown} needs CAP_SYS_RAWIO: without an IOMMU the device can access all memory. Run as root (sudo)"
    if error.errno == errno.EPERM:  # the owner and the mode of a file give EACCES
        return (
            f"the kernel refuses to open {shown} ({error.strerror}), and not because of the file's owner. In a "
            f"container, give it the device: docker run --device {' --device '.join(map(str, nodes))}"
        )
    return (
        f"no permission to open {shown}. Run: sudo chown $USER {shown} "
        f"(or bind with: sudo ixrings bind {function.address} --chown $USER)"
    )


def map_error(function: Function, error: OSError, iova: int, size: int, root: Path) -> DmaError:
    """Why [iova, iova + size) could not be mapped for the function."""
    where = f"{size} bytes of memory for {function.address}"
    if error.errno == errno.ENOMEM:
        limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        if limit == resource.RLIM_INFINITY or has_capability(CAP_IPC_LOCK, root):
            return DmaError(
                f"{where} cannot be mapped: the kernel has not enough memory, and locked memory is not limited. "
                "Run: free -h"
            )
        return DmaError(
            f"{where} cannot be locked: the limit on locked memory is {limit >> 10} KiB (ulimit -l). "
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
