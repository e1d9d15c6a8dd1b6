"""Virtual functions: make them, count them, and go back to the former number (Documentation/PCI/pci-iov-howto.rst).

The PF's driver has to be ixgbe, which stays with Linux. Its virtual functions get no driver by themselves, so that each
can be bound to vfio-pci. The former number and the former setting are noted in /run/ixrings.
"""

from __future__ import annotations

import errno
import json
from contextlib import ExitStack, suppress
from pathlib import Path

from ..errors import BindError
from .discovery import FOR_PROGRAMS, ROOT, Function, check_is_82599, look_up
from .notes import locked, state_file
from .sysfs import text_of
from .usable import virtual_functions_in_use

FORCE = "To do it anyway, add --force"
MOST = 63  # of 64 pools one stays with the PF
NUMBER, TOTAL, AUTOPROBE = "sriov_numvfs", "sriov_totalvfs", "sriov_drivers_autoprobe"


def count_of(function: Function) -> int:
    """How many virtual functions it has now."""
    return number_in(function.path / NUMBER)


def make(address: str, count: int, *, force: bool = False, root: Path = ROOT) -> Function:
    """Give the PF at `address` `count` virtual functions. Returns it as it is then.

    force: even if virtual functions that disappear are in use. After a failure the former number is there again. Raises
    BindError, DeviceError.
    """
    with locked(root):
        function = look_up(address, root)
        check_pf(function, count)
        if count != count_of(function):
            if not force and virtual_functions_in_use(function, root):
                raise BindError(f"{virtual_functions_in_use(function, root).partition(' To remove')[0]} {FORCE}")
            note(function, root)
            change(function, count)
        return look_up(address, root)


def undo(address: str, *, force: bool = False, root: Path = ROOT) -> Function:
    """Go back to the number and the setting before the first make(). Raises BindError, DeviceError."""
    with locked(root):
        function = look_up(address, root)
        file = note_of(address, root)
        try:
            noted = json.loads(file.read_text())
            count, autoprobe = int(noted["count"]), str(noted["autoprobe"])
        except (OSError, ValueError, KeyError, TypeError):
            raise BindError(
                f"`ixrings vfs` has changed nothing of {address} since the last boot. To remove all virtual functions, "
                f"run: ixrings vfs {address} --count 0"
            ) from None
        if not force and count != count_of(function) and virtual_functions_in_use(function, root):
            raise BindError(f"{virtual_functions_in_use(function, root).partition(' To remove')[0]} {FORCE}")
        with suppress(OSError):
            if autoprobe:
                (function.path / AUTOPROBE).write_text(f"{autoprobe}\n")
        if count != count_of(function):
            change(function, count, autoprobe=autoprobe)
        file.unlink(missing_ok=True)
        return look_up(address, root)


def check_pf(function: Function, count: int) -> None:
    """Raises BindError, DeviceError."""
    if function.is_virtual:
        raise BindError(
            f"{function.address} is a virtual function. Give the address of its physical function"
            + (f": {function.physfn}" if function.physfn else ", which is on the host")
        )
    check_is_82599(function)
    total = number_in(function.path / TOTAL)
    if not total:
        raise BindError(
            f"{function.address} offers no virtual functions: SR-IOV is off in the BIOS, or the kernel has no "
            "CONFIG_PCI_IOV. Run: sudo lspci -vv -s "
            f"{function.address} | grep -A 3 SR-IOV"
        )
    if not 0 <= count <= min(total, MOST):
        raise BindError(f"{function.address} can have 0 to {min(total, MOST)} virtual functions, not {count}")
    if function.driver in FOR_PROGRAMS or not function.driver:
        raise BindError(
            f"{function.address} is bound to {function.driver or 'no driver'}, and its virtual functions need Linux's "
            f"driver. Run: ixrings unbind {function.address}"
        )


def change(function: Function, count: int, *, autoprobe: str = "0") -> None:
    """Write the new number. Raises BindError; then the former number is there again, if the kernel still allows it."""
    before = count_of(function)
    with ExitStack() as back:
        try:
            if text_of(function.path / AUTOPROBE):
                back.callback(restore, function, AUTOPROBE, text_of(function.path / AUTOPROBE))
                write(function, AUTOPROBE, autoprobe)
            if before:  # the kernel refuses any other change of the number
                back.callback(restore, function, NUMBER, str(before))
                write(function, NUMBER, "0")
            if count:
                write(function, NUMBER, str(count))
        except OSError as error:
            raise BindError(
                f"{function.address} did not get {count} virtual functions: {error.strerror}. {advice(error, function)}"
            ) from None
        back.pop_all()


def write(function: Function, name: str, text: str) -> None:
    (function.path / name).write_text(f"{text}\n")


def restore(function: Function, name: str, text: str) -> None:
    """write(), if the kernel still takes the former text: the error of the change is the one to tell."""
    with suppress(OSError):
        write(function, name, text)


def advice(error: OSError, function: Function) -> str:
    """What to do after an OSError of sysfs."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Run as root (sudo)"
    if error.errno == errno.ENOMEM:
        return (
            "The kernel has no room for their addresses or bus numbers below the bridge. Boot again. If that does not "
            "help, boot with the kernel's option pci=realloc,assign-busses"
        )
    return f"The kernel's reason: sudo dmesg | grep {function.address}"


def note_of(address: str, root: Path) -> Path:
    return state_file(f"{address}.vfs", root)


def note(function: Function, root: Path) -> None:
    """Note number and setting as they are before the first change."""
    file = note_of(function.address, root)
    if not file.exists():
        file.write_text(json.dumps({"count": count_of(function), "autoprobe": text_of(function.path / AUTOPROBE)}))


def number_in(file: Path) -> int:
    text = text_of(file)
    return int(text) if text.isdigit() else 0
