"""The software 82599ES as a Device: configuration space, BAR0 with registers that behave, DMA windows, MSI-X, wires.

The same object serves a driver in this process and, later, one behind a vfio-user socket: both see read32, write32,
configuration space, DMA by fd and eventfds.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

import numpy as np

from ixrings.hw.bar import check_offset, check_tail, check_value
from ixrings.hw.device import Device, DmaMapping
from ixrings.hw.errors import DeviceError, DmaError
from ixrings.hw.fields import SW_FW_SYNC
from ixrings.hw.register import ALL_ONES, Access, Row
from ixrings.hw.registers import BAR0_SIZE, Registers

from .blocks.block import Block
from .blocks.cage import Cage
from .blocks.clock import Clock
from .blocks.config_space import (
    COMMAND,
    DEVICE_CONTROL,
    DEVICE_CONTROL_FLR,
    STATUS,
    STATUS_INTERRUPT,
    STATUS_MASTER_ABORT,
    VECTORS,
    ConfigSpace,
)
from .blocks.control import Control, Semaphores
from .blocks.eeprom import CHECKSUM_WORD, Eeprom
from .blocks.filters import Filters
from .blocks.interrupts import Interrupts
from .blocks.link import Link
from .blocks.mdio import Mdio
from .blocks.queues import ReceiveQueues, TransmitQueues
from .blocks.sfp import SfpModule
from .blocks.tables import Tables
from .engine.library import Engine
from .engine.messages import DmaMessages
from .faults import Fault
from .injection import Faults
from .rules.findings import Policy, Violation
from .rules.inspector import Inspector
from .wires import Wire

DEFAULT_MAC = bytes([0x02, 0x82, 0x59, 0x90, 0x00, 0x01])
FIRST_IOVA = 0x10_0000_0000  # not an address of any process, and above 32 bits: mixing them up is a fault at once
ALL_IOVAS = (1 << 64) - 1  # a size, from 0 on: no window reaches the last page
IOVA_GAP = 0x20_0000  # windows do not touch: running over the end of one is a fault


class Emulated82599(Device):
    """An 82599 made of software; `wire` as in `emulated:WIRE` (hw/emulator/wires.py).

    paced: 10 Gbit/s, 67.2 ns a 64-byte frame; else flat out. link_up_s: how long link training takes.
    manual: nothing moves but in `step`. mac: what the EEPROM holds. sfp: the module in the cage, None for an empty one.
    rules: what is done about a datasheet rule that is broken (rules/README.md lists them).
    """

    def __init__(
        self,
        wire: str = "loop",
        *,
        paced: bool = False,
        link_up_s: float = 0.0,
        mac: bytes = DEFAULT_MAC,
        manual: bool = False,
        sfp: SfpModule | None = SfpModule.SR,
        rules: Policy = Policy.RECORD,
    ) -> None:
        if len(mac) != 6 or mac[0] & 1:
            raise ValueError(f"{mac.hex(':')} is no unicast MAC address of 6 bytes")
        self.name = f"emulated:{wire}"
        self.max_vectors = VECTORS
        self._process = os.getpid()
        self._closed, self._gone = True, False  # open from the moment on that there is something to close
        self._config = ConfigSpace()
        self._eventfds: dict[int, int] = {}  # of each vector that has one
        self._next_iova = FIRST_IOVA
        self._engine = Engine()
        self._eeprom = Eeprom(self, self._engine)
        self._cage = Cage(self, self._engine)
        self._semaphores = Semaphores(self, self._engine)
        self._blocks: list[Block] = [self._eeprom, self._cage, self._semaphores] + [
            block(self, self._engine)
            for block in (Control, Link, Interrupts, Filters, ReceiveQueues, TransmitQueues, Mdio, Tables, Clock)
        ]
        self._reads = {
            name[5:]: getattr(block, name) for block in self._blocks for name in dir(block) if name.startswith("read_")
        }
        self._writes = {
            name[6:]: getattr(block, name) for block in self._blocks for name in dir(block) if name.startswith("write_")
        }
        self._raw = self._eeprom.raw
        self.injected = Faults(self)
        self._inspector = Inspector(self._engine, self._raw, rules)
        self.doorbells_need_ringing = self._raises = rules is Policy.RAISE  # a broken rule is told at the next sync
        self._engine.call("nic_set_manual", manual)
        self._engine.call("nic_set_paced", paced)
        self._engine.call("nic_set_link_delay", int(link_up_s * 1e9))
        try:
            self._wire = Wire(wire, self._engine, mac)
        except BaseException:
            self._engine.destroy()
            raise
        self._closed = False
        try:
            self._wire.connect()
        except BaseException:
            self.close()
            raise
        with self._engine.frozen():
            self._load_reset_values()
            self._eeprom.load(mac)
            self._cage.insert(sfp)
            self.reset_registers()
        self._call_checked("nic_start")

    # ---- BAR0 ----

    def read32(self, offset: int, /) -> int:
        self._check_open()
        check_offset(offset)
        if self.injected:
            self.injected.count()
        if self._gone:
            return ALL_ONES
        place = Registers.find(offset)
        if place is None:
            return 0
        row, index = place.row, place.index
        with self._engine.frozen():
            self._check_open()
            self._inspector.before_read(row, index)
            value = self._read(row, index)
            self._inspector.after_read(row, index, value)
            self._raise_broken()
        return value

    def _read(self, row: Row[Any], index: int) -> int:
        hook = self._reads.get(row.name)
        if hook is not None:
            return int(hook(index)) & ALL_ONES
        if row.access is Access.RC:
            return self._read_counter(row.offset(index))
        return 0 if row.access is Access.WO else self._engine.registers[row.offset(index) >> 2]

    def write32(self, offset: int, value: int, /) -> None:
        self._check_open()
        check_offset(offset)
        check_value(value)
        if self.injected:
            self.injected.count()
        if self._gone:
            return
        place = Registers.find(offset)
        if place is None:
            with self._engine.frozen():
                self._check_open()
                self._inspector.unknown_write(offset, value)
                self._raise_broken()
            return
        row, index = place.row, place.index
        with self._engine.frozen():
            self._check_open()
            self._inspector.before_write(row, index, value)
            self._write(row, index, value)
            self._inspector.after_write(row, index, value)
            self._raise_broken()

    def _write(self, row: Row[Any], index: int, value: int) -> None:
        hook = self._writes.get(row.name)
        if hook is not None:
            hook(index, value)
        elif row.access is Access.RW:
            kept = self._engine.registers[row.offset(index) >> 2] & ~row.mask
            self._engine.registers[row.offset(index) >> 2] = kept | (value & row.mask)
        elif row.access is Access.W1C:
            self._engine.registers[row.offset(index) >> 2] &= ~value & ALL_ONES

    def _raise_broken(self) -> None:
        if self._raises:
            self._inspector.raise_broken()

    def ring_doorbells(self) -> None:
        """Nothing to pass on; where a broken rule is to be raised, this is where a sync hears of it."""
        if self._raises:
            self._check_open()
            with self._engine.frozen():
                self._inspector.raise_broken()

    def _read_counter(self, offset: int) -> int:
        """Statistics are cleared by the read; the engine's own counts are added first (8.2.3.23)."""
        self._engine.call("nic_flush_counters")
        value = self._engine.registers[offset >> 2]
        self._engine.registers[offset >> 2] = 0
        return value

    def doorbell(self, offset: int) -> int:
        self._check_open()
        check_tail(offset)
        return self._engine.register_address + offset

    # ---- reset ----

    def reset_registers(self) -> None:
        """CTRL.RST (4.2.1.6): every register to its reset value, queues gone, EEPROM read again, link trained again."""
        self._engine.call("nic_flush_counters")
        self._inspector.forget()
        self._load_reset_values()
        self._engine.call("nic_reset")
        for block in self._blocks:
            block.reset()
        self.update_bus_master()
        self._engine.call("nic_disable_line", self._config.intx_disabled)

    def _load_reset_values(self) -> None:
        ctypes.memmove(self._engine.register_address, reset_image(), BAR0_SIZE)

    def reset(self) -> None:
        self._check_open()
        with self._engine.frozen():
            self._config.reset()
            self._engine.call("nic_clear_master_abort")
            self.reset_registers()

    # ---- configuration space ----

    def config_read(self, offset: int, size: int) -> int:
        self._check_open()
        if self._gone:
            return ALL_ONES >> (32 - 8 * size)
        value = self._config.read(offset, size)
        if offset < STATUS + 2 and STATUS < offset + size:
            with self._engine.frozen():
                status = STATUS_INTERRUPT * self._engine.call(
                    "nic_line_asserted"
                ) | STATUS_MASTER_ABORT * self._engine.call("nic_master_abort")
            value |= status << 8 * STATUS >> 8 * offset
        return value & ALL_ONES >> (32 - 8 * size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self._check_open()
        if self._gone:
            return
        self._config.write(offset, size, value)
        if offset < STATUS + 2 and STATUS < offset + size and value << 8 * offset >> 8 * STATUS & STATUS_MASTER_ABORT:
            with self._engine.frozen():
                self._engine.call("nic_clear_master_abort")
        if offset < COMMAND + 2 and COMMAND < offset + size:
            with self._engine.frozen():
                self.update_bus_master()
                self._engine.call("nic_disable_line", self._config.intx_disabled)
        if (
            offset <= DEVICE_CONTROL
            and DEVICE_CONTROL + 2 <= offset + size
            and value >> 8 * (DEVICE_CONTROL - offset) & DEVICE_CONTROL_FLR
        ):
            self.reset()

    def update_bus_master(self) -> None:
        """Requests go out while the command register allows them and CTRL.GIO_DIS does not forbid them (5.2.5.3.2)."""
        allowed = self._config.bus_master and not self._raw.CTRL.read().GIO_DIS
        self._engine.call("nic_set_bus_master", allowed)

    # ---- DMA ----

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        """The engine maps the file itself, so that no mistake of a driver makes it touch memory that is gone."""
        iova = self._next_iova
        try:
            self.map_dma_at(iova, size, fd)
        except OSError as error:
            raise DmaError(f"{size} bytes of the file cannot be mapped for the device: {error.strerror}") from None
        self._next_iova = -(-(iova + size + IOVA_GAP) // IOVA_GAP) * IOVA_GAP
        return DmaMapping(address, size, iova)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        if not self._closed:
            self.unmap_dma_range(mapping.iova, mapping.size)

    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        """A window at an address of the caller's choice: a part of file `fd`, or (None) memory that only messages reach (`dma_messages`).

        All numbers are multiples of 4096. Raises OSError: EEXIST when windows would overlap, EINVAL, ENOMEM, EACCES.
        """
        self._check_open()
        with self._engine.frozen():
            access = 0 if Fault.DMA in self.injected else readable | writable << 1
            error = self._engine.call("nic_map_dma", iova, size, -1 if fd is None else fd, offset, access)
        if error:
            raise OSError(error, os.strerror(error))

    def unmap_dma_range(self, iova: int, size: int) -> None:
        """All windows in [iova, iova + size), be it none. Raises OSError (EINVAL) when the range ends inside one."""
        self._check_open()
        with self._engine.frozen():
            if not self._gone:  # nobody can tell a NIC that is gone to stop first
                self._inspector.unmap(iova, size)
            error = self._engine.call("nic_unmap_dma", iova, size)
            self._raise_broken()
        if error:
            raise OSError(error, os.strerror(error))

    def unmap_dma_all(self) -> None:
        self._check_open()
        with self._engine.frozen():
            self._engine.call("nic_unmap_dma", 0, ALL_IOVAS)

    @property
    def dma_windows(self) -> int:
        """How many there are."""
        self._check_open()
        return self._engine.call("nic_window_count")

    @property
    def dma_messages(self) -> DmaMessages:
        """What the NIC wants of memory that has no file."""
        return DmaMessages(self._engine)

    def share_doorbells(self) -> int:
        """A file with the tail registers' pages (engine.c has its layout), the NIC's own fd; -1 when there cannot be one."""
        self._check_open()
        with self._engine.frozen():
            return self._engine.call("nic_share_doorbells")

    def unshare_doorbells(self) -> None:
        """Whoever has that file rings nothing any more. Raises DeviceError when there is no memory for pages instead."""
        self._check_open()
        with self._engine.frozen():
            if not self._engine.call("nic_unshare_doorbells"):
                raise DeviceError(
                    f"{self.name} has no memory to take its doorbells back. Start a new one: ixrings emulate --socket PATH"
                )

    def guard_memory(self, on: bool) -> None:
        """While others' memory is mapped: when they take it away the access is a DMA fault, not the end of this process.

        Others' accesses come late, too, so how long they waited between two of them is not judged.
        """
        self._engine.guard(on)
        self._inspector.waits_are_seen = not on

    # ---- interrupts ----

    def enable_interrupts(self, vectors: int) -> list[int]:
        self._check_open()
        if not 1 <= vectors <= VECTORS:
            raise ValueError(f"the 82599 has 1 to {VECTORS} MSI-X vectors, not {vectors}")
        self.disable_interrupts()
        for vector in range(vectors):
            self.connect_interrupt(vector, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        return list(self._eventfds.values())

    def disable_interrupts(self) -> None:
        for vector in list(self._eventfds):
            self.connect_interrupt(vector, -1)
        with self._engine.frozen():
            self._engine.call("nic_set_line", False)

    def connect_interrupt(self, vector: int, fd: int) -> None:
        """Messages of `vector` go to eventfd `fd`, which is the NIC's from now on; -1: to nobody."""
        self._check_open()
        with self._engine.frozen():
            self._engine.call("nic_set_eventfd", vector, -1 if Fault.INTERRUPT in self.injected else fd)
        former = self._eventfds.pop(vector, -1)
        if fd >= 0:
            self._eventfds[vector] = fd
        if former >= 0:
            os.close(former)

    def connect_line(self, fd: int) -> None:
        """Vector 0 is INTx: after each signal it is masked until `mask_line(False)` (VFIO's AUTOMASKED)."""
        self.connect_interrupt(0, fd)
        with self._engine.frozen():
            self._engine.call("nic_set_line", fd >= 0)

    def mask_line(self, masked: bool) -> None:
        self._check_open()
        with self._engine.frozen():
            self._engine.call("nic_mask_line", masked)

    # ---- life ----

    def close(self) -> None:
        if self._closed or os.getpid() != self._process:  # a forked child has no engine thread to stop
            return
        self.disable_interrupts()
        self._engine.call("nic_stop")
        self._wire.close()
        self._inspector.take()
        with self._engine.frozen():  # whoever waits to get in finds it closed
            self._closed = True
            self._engine.destroy()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def link_trouble(self) -> str:
        if self._closed or self._gone:
            return ""
        return self._wire.trouble() or self._cage.trouble()

    # ---- for tests and teachers ----

    def step(self, frames: int = 64, ns: int = 0) -> int:
        """`manual` only: time goes on by `ns`, then each queue and the wire move at most `frames`. Returns frames moved."""
        self._check_open()
        return self._engine.call("nic_step", frames, ns)

    def set_link(self, up: bool) -> None:
        """Plug the cable in or pull it."""
        self._check_open()
        with self._engine.frozen():
            self._cage.plug(up)

    def insert_module(self, sfp: SfpModule | None) -> None:
        """Exchange the SFP+ module, or take it out."""
        self._check_open()
        with self._engine.frozen():
            self._cage.insert(sfp)

    def unplug(self) -> None:
        """Surprise removal: reads return all ones, writes are lost, nothing moves any more."""
        self._check_open()
        with self._engine.frozen():
            self._gone = True
            self._engine.call("nic_set_gone")

    def inject(self, fault: Fault, at: int = 0) -> None:
        """Break something (faults.py), now or with the `at`-th register access from now."""
        self._check_open()
        self.injected.add(fault, at)

    def mend(self, fault: Fault) -> None:
        """It works again, late; what was not told meanwhile is told. A NIC that was removed stays away, memory that was unmapped, too."""
        self._check_open()
        self.injected.remove(fault)

    def firmware_takes(self, *, register: bool = False, **resources: int) -> None:
        """The firmware's semaphores from now on: FWSM.FWSMBI, and SW_FW_SYNC's by name (FW_PHY_SM0=1); without any it gives all back."""
        self._check_open()
        with self._engine.frozen():
            self._semaphores.firmware_takes(register, SW_FW_SYNC(SW_FW_SYNC.compose("SW_FW_SYNC", 0, resources)))

    def spoil_eeprom(self) -> None:
        """Another checksum than the right one, or that again."""
        self._eeprom.words[CHECKSUM_WORD] ^= 1

    def reconnect_interrupts(self) -> None:
        """Each vector to its eventfd, or to none where messages get lost."""
        with self._engine.frozen():
            for vector, fd in self._eventfds.items():
                self._engine.call("nic_set_eventfd", vector, -1 if Fault.INTERRUPT in self.injected else fd)

    def break_write_back(self, *, head: bool, receive: bool) -> None:
        with self._engine.frozen():
            self._engine.call("nic_break_write_back", head, receive)

    @property
    def violations(self) -> list[Violation]:
        """Datasheet rules that were broken and DMA accesses that were stopped, so far and in that order; after close(), all."""
        with self._engine.frozen():
            if not self._closed:
                self._inspector.take()
            return self._inspector.violations

    def clear_violations(self) -> None:
        """For another driver: what it breaks is told again, though one before it broke the same."""
        self._check_open()
        with self._engine.frozen():
            self._inspector.clear()

    @property
    def faults(self) -> list[Violation]:
        """The DMA faults among them."""
        return [violation for violation in self.violations if violation.is_dma_fault]

    @property
    def frames_played(self) -> int:
        """Frames that a source or a capture gave the NIC so far."""
        self._check_open()
        return self._engine.call("wire_sequence")

    def _call_checked(self, name: str) -> None:
        error = self._engine.call(name)
        if error:
            self.close()
            raise DeviceError(f"the emulator's thread could not be started: {os.strerror(error)}")


@cache
def reset_image() -> bytes:
    """BAR0 as after a reset: the table's reset values."""
    image = np.zeros(BAR0_SIZE // 4, dtype=np.uint32)
    for row in Registers.rows():
        for index in range(row.count):
            image[row.offset(index) // 4] = row.reset_value(index)
    return image.tobytes()
