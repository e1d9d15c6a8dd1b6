"""Bind a NIC to a driver for programs, and give it back to its former driver.

`driver_override` names the one driver that may take a function; a write to `drivers_probe` lets that driver try
(Documentation/ABI/testing/sysfs-bus-pci). The former driver is noted in /run/ixrings. A boot clears the notes and the
bindings.
"""

from __future__ import annotations

import errno
import os
import pwd
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import BindError, DeviceError
from .discovery import (
    FOR_PROGRAMS,
    ROOT,
    UIO_DRIVERS,
    VFIO_DRIVERS,
    Function,
    check_is_82599,
    group_blockers,
    look_up,
)
from .drivers import detach, load_kernel_driver, load_module, noiommu_mode, probe
from .netdev import why_in_use
from .nodes import IOMMU, holders, in_use, nodes_of
from .notes import locked, remember, remembered, state_file
from .usable import virtual_functions_in_use, why_not_uio

NODE_S = 2.0  # the kernel creates the device file with the binding, udev may set its owner a moment later
NETDEV_S = 10.0  # ixgbe's probe resets the NIC and reads the SFP+ module first


@dataclass(frozen=True)
class Bound:
    """What bind() did.

    former: the driver before. blockers: functions of the group whose host drivers still prevent access. nodes: the
    device files that a program opens.
    """

    function: Function
    former: str
    blockers: tuple[Function, ...]
    nodes: tuple[Path, ...]


def bind(
    address: str,
    driver: str = "vfio-pci",
    *,
    force: bool = False,
    group: bool = False,
    owner: str = "",
    root: Path = ROOT,
) -> list[Bound]:
    """Bind a NIC to `driver`, with `group` also the other 82599s of its IOMMU group: all of them or none.

    force: bind it even if Linux uses it for an address or a route, or if its virtual functions are in use. owner: a
    user who may then open it without root.
    Raises BindError, DeviceError.
    """
    with locked(root):
        function = look_up(address, root)
        wanted = [function] + [each for each in group_blockers(function, root) if group and each.is_ours]
        uid = check(wanted, driver, force, owner, root)
        load_module(driver, root)
        with ExitStack() as undo:
            done = [bind_one(each, driver, root, undo) for each in wanted]
            for bound in done if owner else ():
                give_nodes(bound.nodes, owner, uid)
            undo.pop_all()
        return [replace(bound, blockers=tuple(group_blockers(bound.function, root))) for bound in done]


def check(wanted: Sequence[Function], driver: str, force: bool, owner: str, root: Path) -> int:
    """Check everything that can be checked before a change. Returns the uid of `owner`. Raises DeviceError."""
    if driver not in FOR_PROGRAMS:
        raise BindError(
            f"{driver} is not a driver for programs; use --driver vfio-pci, or uio_pci_generic if there is no IOMMU"
        )
    if owner and driver in UIO_DRIVERS:
        raise BindError(
            f"{driver} needs root for physical addresses, so a new owner of the device file does not help; "
            "use --driver vfio-pci"
        )
    for function in wanted:
        check_is_82599(function)
        who = holders(root, *nodes_of(function, root))
        if who:
            raise BindError(in_use(function, who))
        if not force and virtual_functions_in_use(function, root):
            raise BindError(virtual_functions_in_use(function, root))
        reason = "" if force else why_in_use(function.netdevs, root)
        if reason:
            raise BindError(
                f"{function.address} is in use by Linux: {reason}. To bind it anyway, "
                f"run: ixrings bind {function.address} --force"
            )
        if driver in VFIO_DRIVERS and function.iommu_group is None and not noiommu_mode(root):
            raise BindError(
                f"{function.address} has no IOMMU, and vfio-pci needs one: boot with intel_iommu=on or amd_iommu=on "
                f"(and switch VT-d or AMD-Vi on in the BIOS), or run: "
                f"ixrings bind {function.address} --driver uio_pci_generic"
            )
        if driver in UIO_DRIVERS and function.is_virtual:
            raise BindError(
                f"{function.address} is a virtual function, which has no interrupt line, and {driver} needs one; use "
                "--driver vfio-pci"
            )
        if driver in UIO_DRIVERS and why_not_uio(function):
            raise BindError(why_not_uio(function))
    try:
        return pwd.getpwnam(owner).pw_uid if owner else -1
    except KeyError:
        raise BindError(f"there is no user {owner}; give --chown a name that this lists: getent passwd") from None


def bind_one(function: Function, driver: str, root: Path, undo: ExitStack) -> Bound:
    """Bind one function to `driver`; `undo` gets the way back. Raises BindError."""
    former = function.driver
    if former != driver:
        try:
            remember(function, root, undo)
            undo.callback(give_back, function, former, root)
            hand_over(function, driver, root)
        except OSError as error:
            raise BindError(
                f"{function.address} could not be bound to {driver}: {error.strerror} ({error.filename}). "
                f"{advice(error, function.address)}"
            ) from None
    bound = look_up(function.address, root)
    return Bound(bound, former, (), wait_nodes(bound, root))


def advice(error: OSError, address: str) -> str:
    """What to do after an OSError of sysfs."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Run as root (sudo)"
    return f"The kernel's reason: sudo dmesg | grep {address}"


def give_nodes(nodes: Sequence[Path], owner: str, uid: int) -> None:
    """Change the owner of device files. Raises BindError."""
    for node in nodes:
        try:
            os.chown(node, uid, -1)
        except OSError as error:
            raise BindError(f"{node} cannot be given to {owner}: {error.strerror}. Run as root (sudo)") from None


def hand_over(function: Function, driver: str, root: Path) -> None:
    """Detach the function and let `driver` probe it. Raises BindError, OSError."""
    (function.path / "driver_override").write_text(f"{driver}\n")
    detach(function)
    probe(function, root)
    now = look_up(function.address, root).driver
    if now != driver:
        why = {
            "vfio-pci": "Is there an IOMMU, and is it on?",
            "uio_pci_generic": "Does it have an interrupt line that can be masked?",
        }.get(driver, "")
        raise BindError(
            f"{driver} did not take {function.address}. {why} The kernel's reason: sudo dmesg | grep {function.address}"
        )


def give_back(function: Function, driver: str, root: Path) -> None:
    """Undo hand_over() as far as possible: clear the override and go back to `driver`, or to none."""
    try:
        (function.path / "driver_override").write_text("\n")
        if look_up(function.address, root).driver == driver:
            return
        detach(function)
        if driver in FOR_PROGRAMS:
            (function.path / "driver_override").write_text(f"{driver}\n")
        if driver:
            probe(function, root)
    except (OSError, DeviceError):  # the caller reports the error that made this necessary
        pass


def unbind(address: str, root: Path = ROOT) -> tuple[Function, str]:
    """Give a NIC back to its former driver. Raises BindError, DeviceError.

    Returns the function and its interface, "" if none appeared within 10 s.
    """
    with locked(root):
        function = look_up(address, root)
        noted = remembered(address, root)
        former = noted.get("driver", "")
        if function.driver not in FOR_PROGRAMS and function.driver:
            raise BindError(
                f"{address} is bound to {function.driver}, which is not a driver for programs: "
                "there is nothing to give back"
            )
        who = holders(root, *nodes_of(function, root))
        if who:
            raise BindError(in_use(function, who))
        try:
            (function.path / "driver_override").write_text("\n")
            detach(function)
            load_kernel_driver(function, former, root)
            probe(function, root)
        except OSError as error:
            raise BindError(
                f"{address} could not be given back: {error.strerror} ({error.filename}). {advice(error, address)}"
            ) from None
        now = look_up(address, root)
        if former and now.driver != former:
            raise BindError(
                f"{former} did not take {address} back; its driver is {now.driver or 'none'} now. "
                f"Run: sudo modprobe {former} && echo {address} | sudo tee /sys/bus/pci/drivers_probe"
            )
        state_file(address, root).unlink(missing_ok=True)
        had_netdev = noted.get("netdev", "?")  # without a note it may have had one
        expected = now.driver and now.driver not in FOR_PROGRAMS and had_netdev
        return now, wait_netdev(now, root) if expected else ""


def wait_nodes(function: Function, root: Path) -> tuple[Path, ...]:
    """Wait for the device files that a program opens. Raises BindError after NODE_S."""
    wanted = nodes_of(function, root)
    end = time.monotonic() + NODE_S
    while True:
        there = tuple(node for node in wanted if node.exists())
        if there and all(node.parent.name == "devices" for node in there):
            there += (root / IOMMU,)  # a kernel without groups: iommufd is the only way
        if there:
            return there
        if time.monotonic() >= end:
            missing = " or ".join(map(str, wanted)) or "its device file"
            raise BindError(
                f"{function.address} is bound to {function.driver}, but {missing} "
                f"did not appear within {NODE_S:g} s. Is /dev a devtmpfs? Run: findmnt /dev"
            )
        time.sleep(0.02)


def wait_netdev(function: Function, root: Path) -> str:
    """Name of the first interface; "" if none appears within NETDEV_S."""
    end = time.monotonic() + NETDEV_S
    while True:
        netdevs = look_up(function.address, root).netdevs
        if netdevs or time.monotonic() >= end:
            return next(iter(netdevs), "")
        time.sleep(0.02)
