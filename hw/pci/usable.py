"""Why a program cannot open a NIC in its present state: sentences that end with the command that helps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import NoSuchFunction
from .discovery import ROOT, SFP_PLUS, UIO_DRIVERS, VFIO_DRIVERS, Function, group_blockers, look_up
from .netdev import why_in_use
from .nodes import holders, nodes_of
from .sysfs import text_of

INTERFACE_UP = 1  # IFF_UP, in the flags of an interface


def why_not(function: Function, root: Path = ROOT) -> str:
    """Why a program cannot open this NIC now; "" if it can. Ends with a command, if one helps."""
    if not function.is_ours:
        return "not an 82599"
    if function.is_82599 and function.device not in SFP_PLUS:
        return "an 82599 without SFP+: this driver supports SFP+ links only"
    if function.driver in VFIO_DRIVERS:
        if function.iommu_group is None:
            return "vfio-pci without an IOMMU: boot with intel_iommu=on or amd_iommu=on"
        if function.iommu_type == "none":
            return f"no IOMMU: it can be opened only as vfio-noiommu:{function.address}, which can crash this machine"
        blockers = group_blockers(function, root)
        return not_viable(function, blockers) if blockers else why_pf_is_down(function, root)
    if function.driver in UIO_DRIVERS and function.is_virtual:
        return (
            "a virtual function has no interrupt line, which UIO needs. "
            f"Run: ixrings bind {function.address} --driver vfio-pci"
        )
    if function.driver in UIO_DRIVERS:
        return why_not_uio(function)
    if not function.driver:
        return f"no driver. Run: ixrings bind {function.address}"
    return f"its driver is {function.driver}. Run: ixrings bind {function.address}"


def why_pf_is_down(function: Function, root: Path = ROOT) -> str:
    """Why the PF does not serve this virtual function: its interface is down. "" if it is up, or unknown."""
    try:
        netdevs = look_up(function.physfn, root).netdevs if function.physfn else ()
    except NoSuchFunction:
        return ""
    for netdev in netdevs:
        flags = text_of(root / "sys/class/net" / netdev / "flags")
        if flags and not int(flags, 16) & INTERFACE_UP:
            return f"its physical function's interface {netdev} is down. Run: sudo ip link set {netdev} up"
    return ""


def virtual_functions_in_use(function: Function, root: Path = ROOT) -> str:
    """Error sentence for a physical function with virtual functions that have drivers; "" if it has none.

    When a physical function loses its driver, the kernel removes its virtual functions.
    """
    used = []
    for address in function.virtfns:
        try:
            virtual = look_up(address, root)
        except NoSuchFunction:  # removed since the links were read
            continue
        uses = [why_in_use(virtual.netdevs, root) or ", ".join(virtual.netdevs)]
        uses += [f"open in {who}" for who in holders(root, *nodes_of(virtual, root))]
        if virtual.driver:
            used.append(f"{address} ({', '.join([virtual.driver, *filter(None, uses)])})")
    if not used:
        return ""
    return (
        f"{function.address} has virtual functions in use: {'; '.join(used)}. They would disappear. "
        f"To remove them first, run: ixrings vfs {function.address} --count 0 --force. "
        f"To bind it anyway, run: ixrings bind {function.address} --force"
    )


def why_not_uio(function: Function) -> str:
    """Why UIO cannot work: the IOMMU translates addresses. "" if it does not."""
    if function.iommu_group is None or function.iommu_type in ("identity", "none"):
        return ""
    kind = f", type {function.iommu_type}" if function.iommu_type else ""
    return (
        f"the IOMMU translates for {function.address} (group {function.iommu_group}{kind}), but UIO "
        f"works with physical addresses. Run: ixrings bind {function.address} --driver vfio-pci (or boot with iommu=pt)"
    )


def not_viable(function: Function, blockers: Iterable[Function]) -> str:
    """Error sentence for a group that has functions with host drivers."""
    blockers = list(blockers)
    if function.physfn and any(each.address == function.physfn for each in blockers):
        return (
            f"Group {function.iommu_group} is not viable: it also holds {function.physfn}, the physical function, "
            f"because a bridge above them has no ACS. Put the card into another slot, or take the whole card. Run: "
            f"ixrings bind {function.physfn}"
        )
    who = ", ".join(f"{each.address} is bound to {each.driver}" for each in blockers)
    how = "; ".join(
        f"ixrings bind {each.address}"
        if each.is_ours
        else f"echo {each.address} | sudo tee /sys/bus/pci/devices/{each.address}/driver/unbind"
        for each in blockers
    )
    return (
        f"Group {function.iommu_group} is not viable: {who or 'another device in it has a host driver'}. "
        f"Run: {how or 'ixrings doctor'}"
    )
