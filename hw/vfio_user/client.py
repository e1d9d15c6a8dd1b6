"""`vfio-user:SOCKET`: a NIC in another process. Register accesses are messages; memory is shared by descriptors."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from contextlib import suppress

from ..bar import check_offset, check_tail, check_value
from ..device import Device, DmaMapping
from ..doorbell_file import DoorbellFile
from ..errors import DeviceError, DeviceGone, DmaError
from ..register import ALL_ONES
from ..registers import table_of
from . import protocol as p
from .connection import Connection
from .doorbells import Doorbells, PostedDoorbells, doorbell_file, map_doorbells, region_info
from .errors import CommandRefused
from .protocol import WORD, Command, Irq, IrqSet, Region

PCI_IDS = (0x10FB_8086, 0x10ED_8086)  # device, vendor: the PF, a VF
# No address of a process, and not below 4 GB, so that an address of the wrong kind causes a DMA fault.
FIRST_IOVA = 0x10_0020_0000  # neither half is 0: a driver that forgets to write one of them is found
IOVA_GAP = 0x20_0000


class VfioUserDevice(Device):
    """The NIC of a vfio-user server. Raises DeviceError if there is no server, or its device is not an 82599.

    After the server has ended, registers read all ones, as those of a removed card do. When the client ends, for any
    reason, the server resets the NIC.
    """

    def __init__(self, path: str) -> None:
        self.name = f"vfio-user:{path}"
        self._closed = True
        self._eventfds: list[int] = []
        self._next_iova = FIRST_IOVA
        self._doorbells: Doorbells | None = None
        self._connection = self._connect(path)
        self._closed = False
        try:
            self._negotiate()
            self._identify()
            self._doorbells = map_doorbells(self._connection, self._regions) or PostedDoorbells(self._connection)
        except BaseException:
            self.close()
            raise
        self.doorbells_need_ringing = isinstance(self._doorbells, PostedDoorbells)

    def _connect(self, path: str) -> Connection:
        return Connection(path)

    def _negotiate(self) -> None:
        """Negotiate the version and learn how many fds one message may carry."""
        try:
            answer = self._connection.request(
                Command.VERSION, p.VERSION.pack(p.MAJOR, p.MINOR) + p.capabilities(), least=p.VERSION.size
            )
        except CommandRefused as error:
            if error.number == errno.EBUSY:
                raise DeviceError(
                    f"{self.name} is in use by another program; end that program, or start a second NIC. "
                    "Run: ixrings emulate --socket OTHER"
                ) from None
            raise
        try:
            if (major := p.VERSION.unpack_from(answer.payload)[0]) != p.MAJOR:
                raise ValueError(f"it speaks version {major}, not {p.MAJOR}")
            theirs = p.read_capabilities(answer.payload[p.VERSION.size :])
        except ValueError as error:
            raise DeviceError(
                f"{self.name} does not answer as a vfio-user server: {error}. Run: ixrings emulate --socket OTHER"
            ) from None
        most = theirs.get("max_msg_fds", 1)
        self._fds_a_message = min(p.MAX_FDS, most) if isinstance(most, int) and most > 0 else 1

    def _identify(self) -> None:
        """Check that the device is an 82599 and learn its regions and vectors."""
        _, _, self._regions, interrupts = self._ask(Command.DEVICE_GET_INFO, p.DEVICE_INFO, 0, 0, 0)
        id = self.config_read(0, 4)
        size = region_info(self._connection, Region.BAR0).size
        self._table = table_of(id == PCI_IDS[1])
        if id not in PCI_IDS or size < self._table.SIZE or interrupts <= Irq.MSIX:
            raise DeviceError(
                f"{self.name} is {id & 0xFFFF:04x}:{id >> 16:04x} with {size} bytes of registers; an 82599 is "
                f"8086:10fb with {table_of(False).SIZE}, and a virtual function of one is 8086:10ed with "
                f"{table_of(True).SIZE}. Run: ixrings emulate --socket OTHER"
            )
        self.max_vectors = self._ask(Command.DEVICE_GET_IRQ_INFO, p.IRQ_INFO, 0, Irq.MSIX, 0)[3]

    def _ask(self, command: Command, layout: struct.Struct, *fields: int) -> tuple[int, ...]:
        """Send a question that begins with its size (argsz), and return the answer of the same layout."""
        answer = self._connection.request(command, layout.pack(layout.size, *fields), least=layout.size)
        return layout.unpack_from(answer.payload)

    # ---- BAR0 ----

    def read32(self, offset: int, /) -> int:
        self._check_open()
        check_offset(offset, self._table)
        try:
            return int(WORD.unpack(self._read(Region.BAR0, offset, WORD.size))[0])
        except DeviceGone:
            return ALL_ONES

    def _read(self, region: Region, offset: int, size: int) -> bytes:
        question = p.ACCESS.pack(offset, region, size)
        answer = self._connection.request(Command.REGION_READ, question, least=p.ACCESS.size + size)
        return answer.payload[p.ACCESS.size : p.ACCESS.size + size]

    def write32(self, offset: int, value: int, /) -> None:
        """Write a register. The write is posted, as on PCIe, if doorbells are posted too.

        With mapped doorbells it waits for the answer, because a store to a doorbell would overtake a posted write.
        """
        self._check_open()
        check_offset(offset, self._table)
        check_value(value)
        payload = p.ACCESS.pack(offset, Region.BAR0, 4) + WORD.pack(value)
        with suppress(DeviceGone):
            if self.doorbells_need_ringing:
                self._connection.post(Command.REGION_WRITE, payload)
            else:
                self._connection.request(Command.REGION_WRITE, payload)

    def doorbell(self, offset: int) -> int:
        self._check_open()
        check_tail(offset, self._table)
        assert self._doorbells is not None, "an open device has doorbells"
        return self._doorbells.address(offset)

    def ring_doorbells(self) -> None:
        if isinstance(self._doorbells, PostedDoorbells):
            with suppress(DeviceGone):
                self._doorbells.ring()

    def doorbell_file(self) -> DoorbellFile:
        """The server's doorbell region. When the connection ends, the server takes its doorbells back."""
        self._check_open()
        found = None if self.doorbells_need_ringing else doorbell_file(self._connection, self._regions)
        if found is None:
            other = "`ixrings emulate --socket PATH` without --trap-all has one"
            raise DeviceError(
                f"{self.name} cannot give a queue to another process: its server has no doorbell region, so every tail "
                f"is a message of this process. {'No virtual function has one' if self.virtual else other}"
            )
        return found

    # ---- configuration space ----

    def config_read(self, offset: int, size: int) -> int:
        self._check_open()
        try:
            return int.from_bytes(self._read(Region.CONFIG, offset, size), "little")
        except DeviceGone:
            return ALL_ONES >> (32 - 8 * size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self._check_open()
        with suppress(DeviceGone):
            self._connection.request(
                Command.REGION_WRITE, p.ACCESS.pack(offset, Region.CONFIG, size) + value.to_bytes(size, "little")
            )

    # ---- DMA ----

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        self._check_open()
        iova = self._next_iova
        both = p.DMA_READABLE | p.DMA_WRITABLE
        try:
            self._connection.request(Command.DMA_MAP, p.DMA_MAP.pack(p.DMA_MAP.size, both, 0, iova, size), [fd])
        except CommandRefused as error:
            raise DmaError(
                f"{size} bytes of memory cannot be mapped for {self.name}: {os.strerror(error.number)}"
            ) from None
        self._next_iova = -(-(iova + size + IOVA_GAP) // IOVA_GAP) * IOVA_GAP
        return DmaMapping(address, size, iova)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        if not self._closed:
            with suppress(DeviceGone):
                self._connection.request(
                    Command.DMA_UNMAP, p.DMA_UNMAP.pack(p.DMA_UNMAP.size, 0, mapping.iova, mapping.size)
                )

    # ---- interrupts ----

    def enable_interrupts(self, vectors: int) -> list[int]:
        self._check_open()
        if not 1 <= vectors <= self.max_vectors:
            raise ValueError(f"{self.name} has 1 to {self.max_vectors} MSI-X vectors, not {vectors}")
        self.disable_interrupts()
        for _ in range(vectors):
            self._eventfds.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        for start in range(0, vectors, self._fds_a_message):
            fds = self._eventfds[start : start + self._fds_a_message]
            self._set_irqs(IrqSet.EVENTFD | IrqSet.TRIGGER, start, fds)
        return list(self._eventfds)

    def _set_irqs(self, flags: IrqSet, start: int, fds: Sequence[int]) -> None:
        self._connection.request(
            Command.DEVICE_SET_IRQS, p.IRQ_SET.pack(p.IRQ_SET.size, flags, Irq.MSIX, start, len(fds)), fds
        )

    def disable_interrupts(self) -> None:
        if not self._eventfds:
            return
        try:
            with suppress(DeviceGone):
                self._set_irqs(IrqSet.NONE | IrqSet.TRIGGER, 0, ())
        finally:
            while self._eventfds:
                os.close(self._eventfds.pop())

    # ---- life ----

    def reset(self) -> None:
        self._check_open()
        with suppress(DeviceGone):
            self._connection.request(Command.DEVICE_RESET)

    def close(self) -> None:
        """Close the connection. The server then resets the NIC, disconnects its interrupts and unmaps all memory."""
        if self._closed:
            return
        self._closed = True
        self._release_copies()

    def _release_copies(self) -> None:
        while self._eventfds:
            os.close(self._eventfds.pop())
        self._connection.close()
        if self._doorbells is not None:
            self._doorbells.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()
