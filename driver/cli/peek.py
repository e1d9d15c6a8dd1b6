"""Look at a NIC. If another program or driver owns it, nothing is written, cleared or reset."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ixrings.hw.bar import Bar
from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.discovery import FOR_PROGRAMS, ROOT, Function, check_is_82599, look_up
from ixrings.hw.pci.nodes import holders, in_use, nodes_of
from ixrings.hw.register import RegisterMap
from ixrings.hw.registers import Registers, VfRegisters, table_of

from ..names import parse_port_name
from ..opening import PCI, open_device, open_port
from ..port import Port

COMMAND = 0x04
MEMORY_SPACE = 0x2
LINK_S = 5.0  # time for a link to come up before it is reported as down


class RegistersHidden(DeviceError):
    """The kernel lets only the NIC's driver read the registers."""

    def __init__(self, message: str, function: Function) -> None:
        super().__init__(message)
        self.function = function


class ReadOnly:
    """BAR0 of a NIC that a driver has, through sysfs. Needs root. Raises DeviceError, RegistersHidden."""

    def __init__(self, function: Function) -> None:
        try:
            with open(function.path / "config", "rb", buffering=0) as config:
                config.seek(COMMAND)
                asleep = not config.read(2)[0] & MEMORY_SPACE
                if asleep and not function.is_virtual:  # the PF has this bit for its virtual functions (9.6.1)
                    raise DeviceError(
                        f"{function.address} is asleep: its registers cannot be read until a driver opens it"
                    )
            fd = os.open(function.path / "resource0", os.O_RDONLY | os.O_CLOEXEC)
            try:
                table = table_of(function.is_virtual)
                self._bar = Bar(fd, os.fstat(fd).st_size, writable=False, table=table)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise DeviceError(
                    f"only root may read the registers of {function.address} while {function.driver} has it. Run as "
                    "root (sudo)"
                ) from None
            # IO_STRICT_DEVMEM: a BAR that a driver has claimed can be mapped only through that driver.
            if function.driver in FOR_PROGRAMS:
                raise DeviceError(in_use(function, holders(ROOT, *nodes_of(function, ROOT)))) from None
            raise RegistersHidden(
                f"the kernel does not let programs read the registers of {function.address} while {function.driver} "
                f"has it ({error.strerror}). Boot with iomem=relaxed, or run: ethtool -d "
                f"{next(iter(function.netdevs), 'INTERFACE')}",
                function,
            ) from None

    def read32(self, offset: int, /) -> int:
        return self._bar.load(offset)

    def write32(self, offset: int, value: int, /) -> None:
        raise DeviceError("another program or driver owns this NIC, so it is only read: nothing is written to it")

    def close(self) -> None:
        self._bar.close()


@dataclass(frozen=True)
class Peek:
    """A NIC that is looked at.

    registers: of a physical or a virtual function. device: None if another program or driver owns it; then registers
    that change when they are read must not be read. function: None for a NIC that is not on the PCI bus. holder: the
    owner, "" for this program. port: set if the NIC was brought up.
    """

    registers: RegisterMap
    device: Device | None
    function: Function | None
    holder: str
    port: Port | None = None

    @property
    def nic(self) -> Registers:
        """The registers of a physical function. Raises DeviceError."""
        if isinstance(self.registers, Registers):
            return self.registers
        raise DeviceError("a virtual function does not have these registers. Look at its physical function")

    @property
    def vf(self) -> VfRegisters | None:
        """The registers of a virtual function."""
        return self.registers if isinstance(self.registers, VfRegisters) else None

    def wait(self, seconds: float) -> None:
        """Let time pass. Frames that arrive at `port` are received and discarded: nobody else receives them."""
        if self.port is None:
            time.sleep(seconds)
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.port.poll(left):
                for ring in self.port.rx_rings:
                    ring.advance(ring.space)


@contextmanager
def peek(text: str, *, up: bool = False) -> Iterator[Peek]:
    """The NIC of a port name, opened if no program or driver has it. Raises PortNameError, DeviceError.

    up: a NIC that is opened is also brought up, as by open_port().
    """
    name = parse_port_name(text)
    function = look_up(name.target) if name.kind in PCI else None
    holder = held_by(function) if function is not None else ""
    if function is not None and holder:
        check_is_82599(function)
        view = ReadOnly(function)
        try:
            yield Peek(table_of(function.is_virtual)(view), None, function, holder)
        finally:
            view.close()
        return
    if up:
        with open_port(text, link_timeout=LINK_S) as port:
            yield Peek(port.vf.nic if port.device.virtual else port.nic, port.device, function, "", port)
        return
    with open_device(name) as device:
        yield Peek(table_of(device.virtual)(device), device, function, "")


def held_by(function: Function) -> str:
    """The kernel driver, or the programs, that own the NIC; "" if it is free."""
    if function.driver not in FOR_PROGRAMS:
        return function.driver
    return ", ".join(holders(ROOT, *nodes_of(function, ROOT)))
