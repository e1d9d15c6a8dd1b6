"""Looking at a NIC that may be someone else's: nothing is reset, and where it is someone else's nothing is written or cleared."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ixrings.driver.names import parse_port_name
from ixrings.driver.opening import PCI, open_device, open_port
from ixrings.driver.port import Port
from ixrings.hw.bar import Bar
from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.binding import nodes_of
from ixrings.hw.pci.discovery import FOR_PROGRAMS, ROOT, Function, check_is_82599, holders, in_use, look_up
from ixrings.hw.registers import Registers

COMMAND = 0x04
MEMORY_SPACE = 0x2
LINK_S = 5.0  # for a link to come up, before it is called down


class RegistersHidden(DeviceError):
    """The kernel shows them to nobody but the driver that has the NIC."""

    def __init__(self, message: str, function: Function) -> None:
        super().__init__(message)
        self.function = function


class ReadOnly:
    """BAR0 of a NIC that a driver has, through sysfs; only root may."""

    def __init__(self, function: Function) -> None:
        try:
            with open(function.path / "config", "rb", buffering=0) as config:
                config.seek(COMMAND)
                if not config.read(2)[0] & MEMORY_SPACE:
                    raise DeviceError(
                        f"{function.address} is asleep: its registers cannot be read until a driver opens it"
                    )
            fd = os.open(function.path / "resource0", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._bar = Bar(fd, os.fstat(fd).st_size, writable=False)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise DeviceError(
                    f"the registers of {function.address} are root's to read while {function.driver} has it. Run as root (sudo)"
                ) from None
            if (
                function.driver in FOR_PROGRAMS
            ):  # IO_STRICT_DEVMEM: a BAR that a driver claimed is mapped through that driver only
                raise DeviceError(in_use(function, holders(ROOT, *nodes_of(function, ROOT)))) from None
            raise RegistersHidden(
                f"the kernel lets nobody read the registers of {function.address} while {function.driver} has it ({error.strerror}). Boot "
                f"with iomem=relaxed, or run: ethtool -d {next(iter(function.netdevs), 'INTERFACE')}",
                function,
            ) from None

    def read32(self, offset: int, /) -> int:
        return self._bar.load(offset)

    def write32(self, offset: int, value: int, /) -> None:
        raise DeviceError("this NIC is looked at only, nothing is written")

    def close(self) -> None:
        self._bar.close()


@dataclass(frozen=True)
class Peek:
    """nic: its registers. device: None when it is someone else's, and then no register may be read whose read has an effect.

    function: None for a NIC that is not on the PCI bus. holder: who has it, "" when we do. port: when it was brought up.
    """

    nic: Registers
    device: Device | None
    function: Function | None
    holder: str
    port: Port | None = None


@contextmanager
def peek(text: str, *, up: bool = False) -> Iterator[Peek]:
    """The NIC of a port's name, opened if nobody has it. Raises PortNameError, DeviceError.

    up: then as open_port() leaves it, up and running.
    """
    name = parse_port_name(text)
    function = look_up(name.target) if name.kind in PCI else None
    holder = held_by(function) if function is not None else ""
    if function is not None and holder:
        check_is_82599(function)
        view = ReadOnly(function)
        try:
            yield Peek(Registers(view), None, function, holder)
        finally:
            view.close()
        return
    if up:
        with open_port(text, link_timeout=LINK_S) as port:
            yield Peek(port.nic, port.device, function, "", port)
        return
    with open_device(name) as device:
        yield Peek(Registers(device), device, function, "")


def held_by(function: Function) -> str:
    if function.driver not in FOR_PROGRAMS:
        return function.driver
    return ", ".join(holders(ROOT, *nodes_of(function, ROOT)))
