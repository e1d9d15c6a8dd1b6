"""PCI configuration space of an 82599ES (82599 9.3): header and capabilities, at the offsets that drivers rely on."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ...register import ALL_ONES
from ..engine.library import Engine
from .block import Chip

SIZE = 4096
COMMAND = 0x04
COMMAND_MEMORY, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE = 0x2, 0x4, 0x400
STATUS = 0x06
# Bits that the engine keeps: INTx is asserted; a read request was refused (Received Master Abort, write 1 to clear).
STATUS_INTERRUPT, STATUS_MASTER_ABORT = 0x8, 0x2000
POWER = 0x44
POWER_STATE, D0, D3HOT = 0x3, 0, 3
MSIX_CONTROL = 0x72
DEVICE_CONTROL, DEVICE_STATUS = 0xA8, 0xAA
DEVICE_CONTROL_FLR = 0x8000
CORRECTABLE, NOT_FATAL, UNSUPPORTED_REQUEST = 0x1, 0x2, 0x8  # in device status
AER, SERIAL_NUMBER, ARI, SRIOV = 0x100, 0x140, 0x150, 0x160
# SR-IOV (PCIe 9.3.3): the NIC has VFs while VF Enable is set
SRIOV_CONTROL, NUM_VFS, VF_OFFSET = SRIOV + 0x08, SRIOV + 0x10, SRIOV + 0x14
SRIOV_ENABLE, SRIOV_MEMORY, SRIOV_ARI = 0x1, 0x8, 0x10
FIRST_VF, FIRST_VF_WITHOUT_ARI = 128, 384  # routing ids after the PF's
# Advanced error reporting (PCIe 7.8.4): registers with one bit for each error, and the bits that there are.
UNCORRECTABLE_STATUS, UNCORRECTABLE_MASK, SEVERITY = AER + 0x04, AER + 0x08, AER + 0x0C
CORRECTABLE_STATUS, CORRECTABLE_MASK, AER_CONTROL, AER_END = AER + 0x10, AER + 0x14, AER + 0x18, AER + 0x2C
UNCORRECTABLE_ERRORS, CORRECTABLE_ERRORS = 0x001F_F030, 0x31C1
AER_UNSUPPORTED_REQUEST, AER_ADVISORY = 1 << 20, 1 << 13
VECTORS = 64


def extended(kind: int, following: int) -> bytes:
    """The header of an extended capability, version 1 (PCIe 7.8.1)."""
    return struct.pack("<I", kind | 1 << 16 | following << 20)


# offset: bytes. The capability chain is 40 power management, 50 MSI, 70 MSI-X, A0 PCIe.
IMAGE = {
    0x00: struct.pack("<HHHH", 0x8086, 0x10FB, 0x0000, 0x0010),
    0x08: bytes([0x01, 0x00, 0x00, 0x02, 0x10, 0x00, 0x80, 0x00]),  # revision 1, Ethernet, multi-function
    0x10: struct.pack("<IIIIII", 0xC, 0, 0x1, 0, 0xC, 0),  # BAR0 64-bit prefetchable, BAR2 I/O, BAR4 MSI-X
    0x2C: struct.pack("<HH", 0x8086, 0x0003),
    0x34: bytes([0x40]),
    0x3C: bytes([0xFF, 0x01]),  # INTA
    0x40: struct.pack("<BBHHH", 0x01, 0x50, 0x4823, 0x2000, 0),
    0x50: struct.pack("<BBH", 0x05, 0x70, 0x0180),
    0x70: struct.pack("<BBHII", 0x11, 0xA0, VECTORS - 1, 0x0000_0004, 0x0000_2004),
    0xA0: struct.pack("<BBHIHHIHH", 0x10, 0x00, 0x0002, 0x1000_8CC2, 0x2810, 0x0000, 0x0002_3482, 0x0000, 0x1082),
    AER: extended(0x0001, SERIAL_NUMBER),
    SEVERITY: struct.pack("<I", 0x0006_2030),
    CORRECTABLE_MASK: struct.pack("<I", AER_ADVISORY),
    AER_CONTROL: struct.pack("<I", 0x0000_00A0),  # it can generate and check ECRC
    SERIAL_NUMBER: extended(0x0003, ARI),
    ARI: extended(0x000E, SRIOV),
    SRIOV: extended(0x0010, 0),
    SRIOV + 0x0C: struct.pack("<HHHHHHHHII", 64, 64, 0, 0, FIRST_VF_WITHOUT_ARI, 2, 0, 0x10ED, 0x553, 0x1),
    SRIOV + 0x24: struct.pack("<IIIIII", 0xC, 0, 0, 0xC, 0, 0),  # VF BAR0 and BAR3: 64-bit, prefetchable
}
# offset: mask of the bits that software can write
WRITABLE = {
    COMMAND: struct.pack("<H", 0x0547),
    0x0C: bytes([0xFF]),
    0x10: struct.pack("<IIIIII", 0xFFFE_0000, 0xFFFF_FFFF, 0xFFFF_FFE0, 0, 0xFFFF_C000, 0xFFFF_FFFF),
    0x3C: bytes([0xFF]),
    POWER: struct.pack("<H", 0x0103),
    0x52: struct.pack("<H", 0x0001),
    MSIX_CONTROL: struct.pack("<H", 0xC000),
    DEVICE_CONTROL: struct.pack("<H", 0xFFFF & ~DEVICE_CONTROL_FLR),
    0xC8: struct.pack("<H", 0x001F),
    UNCORRECTABLE_MASK: struct.pack("<I", UNCORRECTABLE_ERRORS),
    SEVERITY: struct.pack("<I", UNCORRECTABLE_ERRORS),
    CORRECTABLE_MASK: struct.pack("<I", CORRECTABLE_ERRORS),
    AER_CONTROL: struct.pack("<I", 0x0000_0140),
    SRIOV_CONTROL: struct.pack("<H", SRIOV_ENABLE | SRIOV_MEMORY | SRIOV_ARI),
    NUM_VFS: struct.pack("<H", 0xFFFF),
    SRIOV + 0x20: struct.pack("<I", 0x553),
    SRIOV + 0x24: struct.pack("<IIIIII", 0xFFFF_C000, 0xFFFF_FFFF, 0, 0xFFFF_C000, 0xFFFF_FFFF, 0),
}
# offset: mask of the bits that a 1 clears
CLEARED_BY_1 = {
    DEVICE_STATUS: struct.pack("<H", 0x000F),
    UNCORRECTABLE_STATUS: struct.pack("<I", UNCORRECTABLE_ERRORS),
    CORRECTABLE_STATUS: struct.pack("<I", CORRECTABLE_ERRORS),
}


class ConfigSpace:
    """4096 bytes, little-endian. Not a Block: CTRL.RST leaves it as it is."""

    def __init__(self, nic: Chip, engine: Engine, mac: bytes, vfs: int = 0) -> None:
        self._nic = nic
        self._engine = engine
        self._writable, self._cleared_by_1 = laid_out(WRITABLE), laid_out(CLEARED_BY_1)
        serial_number = mac[:3] + b"\xff\xff" + mac[3:]
        image = IMAGE | {SERIAL_NUMBER + 4: serial_number[::-1]}
        if vfs:
            control = SRIOV_ENABLE | SRIOV_MEMORY | SRIOV_ARI
            image |= {SRIOV_CONTROL: struct.pack("<H", control), NUM_VFS: struct.pack("<HHH", vfs, 0, FIRST_VF)}
        self._image = laid_out(image)
        self._bytes = bytearray(self._image)

    def reset(self) -> None:
        """A function-level reset, which keeps what was reported about errors (PCIe 6.6.2). The engine is frozen."""
        errors = self._bytes[UNCORRECTABLE_STATUS:AER_END]
        self._bytes = bytearray(self._image)
        self._bytes[UNCORRECTABLE_STATUS:AER_END] = errors
        self._engine.call("nic_clear_master_abort")

    def read(self, offset: int, size: int) -> int:
        """`size` (1, 2 or 4) bytes. Raises ValueError for an access that is not aligned or outside."""
        value = self._stored(offset, size)
        if overlaps(offset, size, STATUS):
            value |= self._live_status() << 8 * STATUS >> 8 * offset
        return value & ALL_ONES >> (32 - 8 * size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Store the bits that software can write, then do what they ask for. Raises ValueError like `read`."""
        check_access(offset, size)
        asleep = self.asleep
        self._store(offset, value.to_bytes(size, "little"))
        if overlaps(offset, size, STATUS) and value << 8 * offset >> 8 * STATUS & STATUS_MASTER_ABORT:
            with self._engine.frozen():
                self._engine.call("nic_clear_master_abort")
        if overlaps(offset, size, COMMAND):
            with self._engine.frozen():
                self.apply_command()
        if overlaps(offset, size, SRIOV_CONTROL) or overlaps(offset, size, NUM_VFS):
            self._apply_sriov()
        if overlaps(offset, size, POWER):
            self._power_changed(asleep)
        if overlaps(offset, size, DEVICE_CONTROL) and value << 8 * offset >> 8 * DEVICE_CONTROL & DEVICE_CONTROL_FLR:
            self._nic.reset()

    def _store(self, offset: int, data: bytes) -> None:
        state = self._bytes[POWER] & POWER_STATE
        vfs_kept = self._bytes[SRIOV_CONTROL] & SRIOV_ENABLE  # then NumVFs stays (PCIe 9.3.3.7)
        for at, byte in enumerate(data, offset):
            mask = 0 if vfs_kept and at in (NUM_VFS, NUM_VFS + 1) else self._writable[at]
            self._bytes[at] = ((self._bytes[at] & ~mask) | (byte & mask)) & ~(byte & self._cleared_by_1[at])
        if self._bytes[POWER] & POWER_STATE not in (D0, D3HOT):  # there is no D1 and no D2: the state stays (PM 3.2.4)
            self._bytes[POWER] = self._bytes[POWER] & ~POWER_STATE | state

    def _apply_sriov(self) -> None:
        """ARI moves the first VF to this bus; VF Enable makes NumVFs of them."""
        first = FIRST_VF if self._stored(SRIOV_CONTROL, 2) & SRIOV_ARI else FIRST_VF_WITHOUT_ARI
        self._bytes[VF_OFFSET : VF_OFFSET + 2] = struct.pack("<H", first)
        self._nic.enable_vfs(self.vfs)

    @property
    def vfs(self) -> int:
        """The number of enabled VFs."""
        enabled = self._stored(SRIOV_CONTROL, 2) & SRIOV_ENABLE
        return min(self._stored(NUM_VFS, 2), self._stored(SRIOV + 0x0E, 2)) if enabled else 0

    def _power_changed(self, was_asleep: bool) -> None:
        """D3hot keeps only configuration space; the way back to D0 resets the function: No_Soft_Reset is 0 (PM 5.4)."""
        if was_asleep and not self.asleep:
            self._nic.reset()
        else:
            with self._engine.frozen():
                self.apply_command()

    @property
    def asleep(self) -> bool:
        """D3hot: the NIC answers no access to its BARs and sends no request."""
        return self._bytes[POWER] & POWER_STATE == D3HOT

    def refuse(self, *, read: bool) -> None:
        """Report an access to BAR0 that found the NIC asleep: an unsupported request (PCIe 6.2.3.2.4)."""
        self._report(DEVICE_STATUS, UNSUPPORTED_REQUEST | (CORRECTABLE if read else NOT_FATAL))
        self._report(UNCORRECTABLE_STATUS, AER_UNSUPPORTED_REQUEST)
        if read:
            self._report(CORRECTABLE_STATUS, AER_ADVISORY)

    def _report(self, register: int, errors: int) -> None:
        for at in range(4):
            self._bytes[register + at] |= errors >> 8 * at & 0xFF

    def apply_command(self) -> None:
        """Tell the engine what the command register allows. The engine is frozen."""
        self._nic.update_bus_master()
        self._engine.call("nic_disable_line", bool(self._stored(COMMAND, 2) & COMMAND_INTX_DISABLE))

    @property
    def bus_master(self) -> bool:
        return bool(self._stored(COMMAND, 2) & COMMAND_BUS_MASTER) and not self.asleep

    def _stored(self, offset: int, size: int) -> int:
        check_access(offset, size)
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def _live_status(self) -> int:
        with self._engine.frozen():
            asserted = self._engine.call("nic_line_asserted")
            aborted = self._engine.call("nic_master_abort")
        return STATUS_INTERRUPT * asserted | STATUS_MASTER_ABORT * aborted


def laid_out(parts: Mapping[int, bytes]) -> bytearray:
    """Configuration space with these bytes at these offsets, and 0 elsewhere."""
    space = bytearray(SIZE)
    for offset, value in parts.items():
        space[offset : offset + len(value)] = value
    return space


def overlaps(offset: int, size: int, register: int) -> bool:
    """Whether an access touches the 16-bit register at offset `register`."""
    return offset < register + 2 and register < offset + size


def check_access(offset: int, size: int) -> None:
    if size not in (1, 2, 4) or offset % size or not 0 <= offset <= SIZE - size:
        raise ValueError(f"configuration space has no {size}-byte word at {offset:#x}")
