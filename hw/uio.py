"""An 82599 through UIO, for machines without an IOMMU: only a correct driver protects memory from its DMA."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path

from .bar import Bar, MappedDevice
from .device import DmaMapping
from .doorbell_file import DoorbellFile
from .errors import DeviceError
from .memory.physical import map_physical, physical_address
from .pci.discovery import ROOT, UIO_DRIVERS, Function, check_is_82599, look_up
from .pci.nodes import in_use, other_holders
from .pci.sysfs import lockdown_mode
from .pci.usable import why_not_uio

COMMAND = 0x04
INTX_DISABLE = 1 << 10


class UioDevice(MappedDevice):
    """The 82599 at a PCI address, bound to uio_pci_generic or igb_uio. Raises DeviceError, NoSuchFunction.

    Interrupts: one line for every cause, or igb_uio's single MSI-X vector. When the program dies, the kernel switches
    bus master off; the next program that opens the NIC resets it.
    """

    hugepages = True
    scattered = True

    def __init__(self, address: str, root: Path = ROOT) -> None:
        function = look_up(address, root)
        self.name = f"uio:{address}"
        self.max_vectors = 0  # UIO has no MSI-X
        self._closed = True
        self._enabled = False
        self._function, self._root = function, root
        check_usable(function)
        self._line = self._config = -1
        try:
            self._config = self._open(function.path / "config")
            self._lock(root)
            self._line = self._open(root / "dev" / function.uio)
            self._closed = False
            self._quiet()
            self._bar = self._map_bar(function)
            self._check_addresses()
        except BaseException:
            self._release()
            raise

    # ---- opening ----

    def _open(self, node: Path) -> int:
        try:
            return os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_SYNC)
        except OSError as error:
            if error.errno == errno.EPERM:  # the owner and the mode of a file give EACCES
                raise DeviceError(refused(self._function, self._root)) from None
            if error.errno == errno.EACCES:
                raise DeviceError(
                    f"no permission to open {node}, and UIO needs root for physical addresses. Run as root (sudo), "
                    f"or run: ixrings bind {self._function.address} --driver vfio-pci"
                ) from None
            raise DeviceError(
                f"{node} cannot be opened: {error.strerror}. Run: ixrings doctor {self._function.address}"
            ) from None

    def _lock(self, root: Path) -> None:
        """Lock the NIC against a second program, which UIO itself does not refuse. Raises DeviceError.

        The lock is on the configuration space and comes before opening /dev/uioN: uio_pci_generic switches bus master
        off at every close of /dev/uioN, also when a refused program closes it.
        """
        try:
            fcntl.flock(self._config, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = other_holders(root, root / "dev" / self._function.uio)
            raise DeviceError(in_use(self._function, who)) from None

    def _quiet(self) -> None:
        """Switch memory space on and DMA off. This is the first write that a locked-down kernel refuses."""
        try:
            self.enable_bus_master(False)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise DeviceError(refused(self._function, self._root)) from None
            raise DeviceError(
                f"the command register of {self.name} cannot be written: {error.strerror}. "
                f"Run: ixrings doctor {self._function.address}"
            ) from None

    def _map_bar(self, function: Function) -> Bar:
        node = function.path / "resource0"
        fd = self._open(node)
        try:
            return Bar(fd, os.fstat(fd).st_size)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise DeviceError(refused(function, self._root)) from None
            raise DeviceError(
                f"{node} cannot be mapped: {error.strerror}. Run: ixrings doctor {function.address}"
            ) from None
        finally:
            os.close(fd)

    def _check_addresses(self) -> None:
        """Check at opening, not at the first ring, that the kernel shows physical addresses."""
        touched = ctypes.create_string_buffer(1)
        physical_address(ctypes.addressof(touched))

    def doorbell_file(self) -> DoorbellFile:
        """BAR0 itself. The lock on the NIC goes with it: the other process might still store to a tail."""
        self._check_open()
        return DoorbellFile(
            self._open(self._function.path / "resource0"), lambda offset: offset, (os.dup(self._config),)
        )

    # ---- configuration space ----

    def config_read(self, offset: int, size: int) -> int:
        self._check_open()
        return int.from_bytes(os.pread(self._config, size, offset), "little")

    def config_write(self, offset: int, size: int, value: int) -> None:
        self._check_open()
        os.pwrite(self._config, value.to_bytes(size, "little"), offset)

    # ---- DMA: without an IOMMU there is nothing to map ----

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        self._check_open()
        return map_physical(self.name, fd, address, size)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        pass

    # ---- interrupts ----

    def enable_interrupts(self, vectors: int) -> list[int]:
        """One descriptor for the line, /dev/uioN itself, for any number of vectors."""
        self._check_open()
        self._enabled = True
        try:
            self.rearm_line()
        except OSError as error:  # EIO: the kernel found no interrupt for the device
            raise DeviceError(
                f"{self.name} has no interrupt line ({error.strerror}). "
                f"Run: ixrings bind {self._function.address} --driver vfio-pci"
            ) from None
        return [self._line]

    def disable_interrupts(self) -> None:
        if self._enabled and not self._closed:
            self._enabled = False
            self._switch_line(False)

    def rearm_line(self) -> None:
        self._check_open()
        try:
            os.read(self._line, 4)
        except BlockingIOError:
            pass
        self._switch_line(True)

    def _switch_line(self, on: bool) -> None:
        """Unmask or mask the line: igb_uio does it itself; uio_pci_generic only sets INTX_DISABLE at each interrupt."""
        if self._function.driver == "igb_uio":
            os.write(self._line, struct.pack("i", int(on)))
            return
        command = self.config_read(COMMAND, 2)
        self.config_write(COMMAND, 2, command & ~INTX_DISABLE if on else command | INTX_DISABLE)

    # ---- life ----

    def reset(self) -> None:
        self._check_open()
        try:
            (self._function.path / "reset").write_text("1")
        except OSError as error:
            raise DeviceError(
                f"{self.name} cannot be reset through {self._function.path}/reset: {error.strerror}. "
                f"Run: ixrings doctor {self._function.address}"
            ) from None
        self.enable_bus_master(False)

    def close(self) -> None:
        if self._closed:
            return
        try:
            self.enable_bus_master(False)
            self.disable_interrupts()
        except OSError:  # the device is gone, so there is nothing to stop
            pass
        finally:
            self._release()

    def _release(self) -> None:
        self._closed = True
        if hasattr(self, "_bar"):
            self._bar.close()
        for fd in (self._line, self._config):  # the lock is released last
            if fd >= 0:
                os.close(fd)
        self._config = self._line = -1

    def _release_copies(self) -> None:
        self._release()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


def refused(function: Function, root: Path) -> str:
    """For EPERM on an open file of sysfs: a lockdown of the kernel is blamed only if the kernel shows one."""
    use_vfio = f"Use vfio-pci instead. Run: ixrings bind {function.address} --driver vfio-pci"
    mode = lockdown_mode(root)
    if mode not in ("", "none"):
        return (
            f"the kernel is locked down ({mode}; Secure Boot) and does not allow UIO for {function.address}. {use_vfio}"
        )
    return (
        f"the kernel does not allow access to {function.address} through sysfs (Operation not permitted). "
        f"A container or a security module can be the reason. {use_vfio}"
    )


def check_usable(function: Function) -> None:
    """Raises DeviceError if the function cannot be opened through UIO."""
    check_is_82599(function)
    if function.is_virtual:
        raise DeviceError(
            f"{function.address} is a virtual function, which has no interrupt line, and UIO needs one (9.6). "
            f"Run: ixrings bind {function.address} --driver vfio-pci"
        )
    if function.driver not in UIO_DRIVERS or not function.uio:
        why = f"its driver is {function.driver}" if function.driver else "it has no driver"
        raise DeviceError(
            f"{function.address} is not bound to a UIO driver: {why}. "
            f"Run: ixrings bind {function.address} --driver uio_pci_generic"
        )
    trouble = why_not_uio(function)
    if trouble:
        raise DeviceError(trouble)
