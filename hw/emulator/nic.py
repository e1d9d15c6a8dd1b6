"""The software 82599ES as a Device: BAR0, configuration space, DMA windows, interrupts, and a wire to send frames over.

A driver in this process uses this object directly; a driver in another process reaches it through hw/vfio_user. Both
see the same: read32, write32, configuration space, DMA by file descriptor, eventfds.
"""

from __future__ import annotations

import os
from typing import Any

from ..bar import check_offset, check_tail, check_value
from ..doorbell_file import DoorbellFile, in_pages
from ..errors import DeviceError
from ..fields import SW_FW_SYNC
from ..register import ALL_ONES, Row
from ..registers import BAR0_SIZE, Registers
from .blocks.block import Block
from .blocks.cage import Cage
from .blocks.clock import Clock
from .blocks.config_space import VECTORS, ConfigSpace
from .blocks.control import Control, Semaphores
from .blocks.eeprom import Eeprom
from .blocks.filters import Filters
from .blocks.interrupts import Interrupts
from .blocks.link import Link
from .blocks.mdio import Mdio
from .blocks.queues import ReceiveQueues, TransmitQueues
from .blocks.sfp import SfpModule
from .blocks.tables import Tables
from .blocks.virtual import VFS, Virtual
from .departures import RecordsDepartures
from .engine.library import Engine, FunctionEngine
from .engine.messages import DmaMessages
from .faults import Fault
from .injection import InjectedFaults
from .physical_side import PhysicalSide
from .register_access import RegisterAccess
from .rules.findings import Policy, Violation
from .rules.inspector import TAILS, Inspector
from .vectors import Vectors
from .virtual_function import VirtualFunction
from .watching import Watching
from .windows import ALL_IOVAS, FileWindows
from .wires import Wire

DEFAULT_MAC = bytes([0x02, 0x82, 0x59, 0x90, 0x00, 0x01])
FIRST_IOVA = 0x10_0000_0000  # above 32 bits, and not an address of any process: a pointer used as an IOVA is a fault


class Emulated82599(PhysicalSide, RecordsDepartures, Watching, FileWindows):
    """An 82599 made of software; `wire` as in `emulated:WIRE` (hw/emulator/wires.py).

    paced: the wire carries 10 Gbit/s, 67.2 ns per 64-byte frame; else frames follow each other without gaps.
    link_up_s: how long link training takes. mac: the address in the EEPROM. manual: frames and time move only in
    `step`. sfp: the module in the cage, None for an empty cage. rules: what happens when a driver breaks a rule of the
    datasheet (rules/README.md lists the rules). vfs: so many virtual functions are enabled (`vf` gives one), as by the
    SR-IOV capability; a reset keeps them. source_to: where the frames of a source wire go; None: to `mac`. Raises
    ValueError for an address that is not unicast, WireError, DeviceError.
    """

    bar0_size = BAR0_SIZE
    msix_bar = 4
    has_line = True
    vf_class = VirtualFunction

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
        vfs: int = 0,
        source_to: bytes | None = None,
    ) -> None:
        if len(mac) != 6 or mac[0] & 1:
            raise ValueError(f"{mac.hex(':')} is not a unicast MAC address of 6 bytes")
        if not 0 <= vfs <= VFS - 1:
            raise ValueError(f"an 82599 has 0 to {VFS - 1} virtual functions beside its physical one, not {vfs}")
        self.name = f"emulated:{wire}"
        self.max_vectors = VECTORS
        self.doorbells_need_ringing = self._raises = rules is Policy.RAISE  # a broken rule is raised at the next sync
        self.mac = mac  # in the EEPROM
        self._closed, self._gone = True, False  # closed until there is something to close
        self._next_iova = FIRST_IOVA
        self._engine = Engine()
        self._vfs: dict[int, VirtualFunction] = {}
        self._orphans: set[int] = set()
        self._create_blocks(mac, vfs)
        self._inspector = Inspector(self._engine, self._raw, rules)
        self.injected = InjectedFaults(self)
        self._vectors = Vectors(self._engine, self.injected)
        self._manual = manual
        self._engine.call("nic_set_manual", manual)
        self._engine.call("nic_set_paced", paced)
        self._engine.call("nic_set_link_delay", int(link_up_s * 1e9))
        try:
            self._wire = Wire(wire, self._engine, source_to or mac)
        except BaseException:
            self._engine.destroy()
            raise
        self._closed = False
        try:
            self._wire.connect()
        except BaseException:
            self.close()
            raise
        self._power_on(mac, sfp)

    def _create_blocks(self, mac: bytes, vfs: int) -> None:
        self._config = ConfigSpace(self, self._engine, mac, vfs)
        self._virtual = Virtual(self, self._engine)
        self._virtual.vfs = self._config.vfs
        self._eeprom = Eeprom(self, self._engine)
        self._cage = Cage(self, self._engine)
        self._semaphores = Semaphores(self, self._engine)
        self._blocks: list[Block] = [self._eeprom, self._cage, self._semaphores, self._virtual] + [
            block(self, self._engine)
            for block in (Control, Link, Interrupts, Filters, ReceiveQueues, TransmitQueues, Mdio, Tables, Clock)
        ]
        self._register_access = RegisterAccess(self._engine, self._blocks)
        self._raw: Registers = self._eeprom.raw

    def _power_on(self, mac: bytes, sfp: SfpModule | None) -> None:
        with self._engine.frozen():
            self._register_access.load_reset_values()
            self._eeprom.load(mac)
            self._cage.insert(sfp)
            self.reset_registers()
        error = self._engine.call("nic_start")
        if error:
            self.close()
            raise DeviceError(f"the emulator's thread could not be started: {os.strerror(error)}")

    def close(self) -> None:
        if self._closed:
            return
        self.disable_interrupts()
        self._engine.call("nic_stop")
        self._wire.close()
        self._end_departures()
        self._inspector.take()
        with self._engine.frozen():  # a thread that waits for the engine finds the NIC closed
            self._closed = True
            self._engine.destroy(keep_registers=bool(self._vfs))
        self._orphans = set(self._vfs)
        self._vfs.clear()  # they live as long as somebody uses them, and read all ones

    def _release_copies(self) -> None:
        """The child has no engine thread, and no other NIC there may join this one's cable."""
        self._vectors.release()
        self._wire.release()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    # ---- BAR0 ----

    def read32(self, offset: int, /) -> int:
        self._check_open()
        check_offset(offset)
        self.injected.count_access()
        if self._gone or self._config.asleep:
            self._config.refuse(read=True)
            return ALL_ONES
        place = Registers.find(offset)
        return 0 if place is None else self.read_register(place.row, place.index)

    def read_register(self, row: Row[Any], index: int, vf: int | None = None) -> int:
        """A read by a driver, of the PF or of VF `vf`."""
        with self._engine.frozen():
            self._check_open()
            self._inspector.before_read(row, index)
            value = self._register_access.read(row, index)
            self._inspector.after_read(row, index, value)
            self._raise_broken(vf)
        return value

    def write32(self, offset: int, value: int, /) -> None:
        self._check_open()
        check_offset(offset)
        check_value(value)
        self.injected.count_access()
        if self._gone or self._config.asleep:
            self._config.refuse(read=False)
            return
        place = Registers.find(offset)
        if place is not None:
            self.write_register(place.row, place.index, value)
            return
        with self._engine.frozen():
            self._check_open()
            self._inspector.unknown_write(offset, value)
            self._raise_broken()

    def write_register(self, row: Row[Any], index: int, value: int, vf: int | None = None) -> None:
        """A write by a driver, of the PF or of VF `vf`."""
        if row.name in TAILS:
            self._write_tail(row, index, value, vf)
            return
        with self._engine.frozen():
            self._check_open()
            self._inspector.before_write(row, index, value, vf=vf)
            self._register_access.write(row, index, value)
            self._inspector.after_write(row, index, value)
            self._raise_broken(vf)

    def _write_tail(self, row: Row[Any], index: int, value: int, vf: int | None) -> None:
        """The engine goes on meanwhile: a driver may write its tails as often as it likes (engine/doorbells.c)."""
        self._inspector.before_tail(row, index, value, vf=vf)
        self._engine.ring(row.offset(index), value & row.mask)
        self._inspector.after_write(row, index, value)
        self._raise_meanwhile(vf)

    def doorbell(self, offset: int) -> int:
        self._check_open()
        check_tail(offset)
        return self._engine.register_address + offset

    def ring_doorbells(self) -> None:
        """The engine reads the tails itself. With Policy.RAISE: raise RuleBroken if a rule was broken meanwhile."""
        self._raise_meanwhile()

    def _raise_meanwhile(self, vf: int | None = None) -> None:
        if self._raises:
            self._check_open()
            with self._engine.frozen():
                self._inspector.raise_broken(vf)

    def work_function(self) -> int:
        return self._engine.help_function()

    def work_ends(self) -> None:
        self._engine.help_ends()

    def doorbell_file(self) -> DoorbellFile:
        fd = self.share_doorbells()
        if fd < 0:
            raise DeviceError(
                f"{self.name} cannot give a queue to another process: there is no memory for its doorbells as a file, "
                "or the pages of this machine are not 4 KiB"
            )
        return DoorbellFile(os.dup(fd), in_pages)

    def take_doorbells_back(self) -> bool:
        if not self._closed:
            self.unshare_doorbells()
        return True

    def share_doorbells(self) -> int:
        """A file with the tail registers' pages, in the engine's layout; the NIC owns the fd. -1: no memory for it."""
        self._check_open()
        with self._engine.frozen():
            return self._engine.share_doorbells()

    def unshare_doorbells(self) -> None:
        """Stores to the shared file have no effect from now on. Raises DeviceError without memory for private pages."""
        self._check_open()
        with self._engine.frozen():
            if not self._engine.call("nic_unshare_doorbells"):
                raise DeviceError(
                    f"{self.name} has no memory to take its doorbells back. "
                    "Start a new one: ixrings emulate --socket PATH"
                )

    def _raise_broken(self, vf: int | None = None) -> None:
        if self._raises:
            self._inspector.raise_broken(vf)

    # ---- reset and configuration space ----

    def reset(self) -> None:
        self._check_open()
        with self._engine.frozen():
            self._config.reset()
            self._virtual.vfs = self._config.vfs
            self.reset_registers()

    def reset_registers(self) -> None:
        """CTRL.RST (4.2.1.6): registers to their reset values, queues off, EEPROM read again, link trained again."""
        self._engine.call("nic_flush_counters")
        self._inspector.forget()
        self._register_access.load_reset_values()
        self._engine.call("nic_reset")
        for block in self._blocks:
            block.reset()
        self._config.apply_command()

    def update_bus_master(self) -> None:
        """Requests go out while the command register allows them and CTRL.GIO_DIS does not forbid them (5.2.5.3.2)."""
        allowed = self._config.bus_master and not self._raw.CTRL.read().GIO_DIS
        self._engine.call("nic_set_bus_master", allowed)

    def config_read(self, offset: int, size: int) -> int:
        self._check_open()
        return ALL_ONES >> (32 - 8 * size) if self._gone else self._config.read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self._check_open()
        if not self._gone:
            self._config.write(offset, size, value)

    # ---- virtual functions ----

    def vf(self, number: int) -> VirtualFunction:
        """The VF as a Device; the same object until it is closed. Raises DeviceError for one that is not enabled."""
        self._check_open()
        if not 0 <= number < self._virtual.vfs:
            raise DeviceError(
                f"{self.name} has {self._virtual.vfs} virtual functions, so there is no VF {number}. "
                f"Create the NIC with vfs={max(number, 0) + 1}"
            )
        if number not in self._vfs:
            self._vfs[number] = self.vf_class(self, number, FunctionEngine(self._engine, number))
        return self._vfs[number]

    # ---- DMA ----

    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        self._check_open()
        if Fault.DMA in self.injected:
            return  # as far as the driver knows the memory is mapped; an access finds no window and is refused
        with self._engine.frozen():
            access = readable | writable << 1
            error = self._engine.call("nic_map_dma", iova, size, -1 if fd is None else fd, offset, access)
        if error:
            raise OSError(error, os.strerror(error))

    def unmap_dma_range(self, iova: int, size: int) -> None:
        self._check_open()
        with self._engine.frozen():
            if not self._gone:  # a driver cannot stop a NIC that is gone
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
        """The number of windows."""
        self._check_open()
        with self._engine.frozen():  # else the engine may be in the memory of another function
            return self._engine.call("nic_window_count")

    @property
    def dma_messages(self) -> DmaMessages:
        """The NIC's requests to memory that has no file."""
        return DmaMessages(self._engine)

    def guard_memory(self, on: bool) -> None:
        """Call it with True while memory of other processes is mapped.

        When its owner takes such memory away, an access to it is a DMA fault and does not end this process. Register
        accesses of other processes arrive late, so rules about how long a driver waited are not checked.
        """
        self._engine.guard(on)
        self._inspector.waits_are_seen = not on

    # ---- interrupts ----

    def enable_interrupts(self, vectors: int) -> list[int]:
        self._check_open()
        if not 1 <= vectors <= VECTORS:
            raise ValueError(f"the 82599 has 1 to {VECTORS} MSI-X vectors, not {vectors}")
        self.disable_interrupts()
        self._vectors.create(vectors)
        return list(self._vectors.eventfds.values())

    def disable_interrupts(self) -> None:
        self._vectors.disconnect_all()
        self._vectors.use_line(False)

    def connect_interrupt(self, vector: int, fd: int) -> None:
        """Send messages of `vector` to eventfd `fd`, which the NIC owns from now on; -1: to none."""
        self._check_open()
        self._vectors.connect(vector, fd)

    def connect_line(self, fd: int) -> None:
        """Make vector 0 INTx: after each signal it is masked until `mask_line(False)` (VFIO's AUTOMASKED)."""
        self.connect_interrupt(0, fd)
        self._vectors.use_line(fd >= 0)

    def mask_line(self, masked: bool) -> None:
        self._check_open()
        with self._engine.frozen():
            self._engine.call("nic_mask_line", masked)

    # ---- the board, the wire, time ----

    def step(self, frames: int = 64, ns: int = 0) -> int:
        """Needs `manual` or pause(). `ns` pass; each queue and the wire move at most `frames`. Returns their sum."""
        self._check_open()
        return self._engine.call("nic_step", frames, ns)

    def set_link(self, up: bool) -> None:
        """Plug the cable in, or pull it out."""
        self._check_open()
        with self._engine.frozen():
            self._cage.plug(up)

    def insert_module(self, sfp: SfpModule | None) -> None:
        """Exchange the SFP+ module, or (None) take it out."""
        self._check_open()
        with self._engine.frozen():
            self._cage.insert(sfp)

    def link_trouble(self) -> str:
        if self._closed or self._gone:
            return ""
        return self._wire.trouble() or self._cage.trouble()

    def link_lost(self) -> bool:
        return not self._closed and not self._gone and self._wire.lost

    @property
    def frames_played(self) -> int:
        """The number of frames that the wire's source or capture has sent to the NIC."""
        self._check_open()
        return self._engine.call("wire_sequence")

    @property
    def now_ns(self) -> int:
        """The NIC's clock: the machine's monotonic one without pauses, or the time that has passed in `step`."""
        self._check_open()
        return self._engine.call("nic_now")

    def firmware_takes(self, *, register: bool = False, **resources: int) -> None:
        """The firmware holds these semaphores, and no others, from now on.

        register: FWSM.FWSMBI. resources: bits of SW_FW_SYNC by name, as in FW_PHY_SM0=1.
        """
        self._check_open()
        with self._engine.frozen():
            self._semaphores.firmware_takes(register, SW_FW_SYNC(SW_FW_SYNC.compose("SW_FW_SYNC", 0, resources)))

    # ---- injected faults (FAULTS.md) ----

    def inject(self, fault: Fault, at: int = 0) -> None:
        """Break the NIC in this way, now or at the `at`-th register access from now."""
        self._check_open()
        self.injected.add(fault, at)

    def mend(self, fault: Fault) -> None:
        """End the fault and deliver what it held back. A removed NIC stays removed, unmapped memory stays unmapped."""
        self._check_open()
        self.injected.remove(fault)

    def unplug(self) -> None:
        """Surprise removal: reads return all ones, writes are lost, nothing moves any more."""
        self._check_open()
        with self._engine.frozen():
            self._gone = True
            self._engine.call("nic_set_gone")

    def flip_eeprom_checksum(self) -> None:
        self._eeprom.flip_checksum()

    def reconnect_interrupts(self) -> None:
        self._vectors.reconnect()

    def break_write_back(self, *, head: bool, receive: bool) -> None:
        with self._engine.frozen():
            self._engine.call("nic_break_write_back", head, receive)

    # ---- findings ----

    @property
    def violations(self) -> list[Violation]:
        """Broken datasheet rules and refused DMA accesses, oldest first. Still available after close()."""
        with self._engine.frozen():
            if not self._closed:
                self._inspector.take()
            return self._inspector.violations

    @property
    def faults(self) -> list[Violation]:
        """The refused DMA accesses among the violations."""
        return [violation for violation in self.violations if violation.is_dma_fault]

    def clear_violations(self) -> None:
        """For the next driver: a rule that the previous one broke is recorded again when this one breaks it."""
        self._check_open()
        with self._engine.frozen():
            self._inspector.clear()
