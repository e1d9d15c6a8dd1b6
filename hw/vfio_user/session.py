"""One client of a vfio-user server: answers to its commands, and the NIC's DMA by messages."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..emulator.engine.messages import LONGEST, DmaRequest
from ..errors import DeviceError
from . import protocol as p
from .errors import Refused
from .interrupts import SessionInterrupts
from .memory import ClientMemory
from .patience import ServerChannel
from .posted import PostedTails
from .protocol import Command, IrqFlag, Message, ProtocolError, Region, RegionFlag
from .regions import Bar0, ConfigRegion, Function, MessageRegion, MsixBar, access_line

REQUESTS_A_TURN = 512
TURN_S = 0.05  # time for a client's messages, and one more message, before the server looks at everything else
DMA_ANSWER_S = 5.0  # a DMA request that is not answered in this time counts as refused
VFIO_REGIONS = range(Region.DOORBELLS)  # those without content have size 0
IRQS = {
    p.Irq.INTX: (1, IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED),
    p.Irq.MSI: (1, IrqFlag.EVENTFD),
    p.Irq.MSIX: (0, IrqFlag.EVENTFD),
    p.Irq.ERR: (0, IrqFlag(0)),
    p.Irq.REQ: (0, IrqFlag(0)),
}


@dataclass
class Answer:
    """The payload of an answer, and fds to send with it, which stay open here."""

    payload: bytes = b""
    fds: Sequence[int] = ()


@dataclass
class PendingRequest:
    """A DMA request that was sent to the client, and the time until which it may answer."""

    request: DmaRequest
    until: float


class Session:
    """One connection. `receive` answers the client's messages, `carry` sends the NIC's DMA requests to the client."""

    def __init__(
        self,
        nic: Function,
        channel: ServerChannel,
        memory: ClientMemory,
        *,
        trap_all: bool,
        each_tail: bool,
        trace: Callable[[str], None] | None,
    ) -> None:
        self._memory = memory
        self._nic, self.channel, self._trap_all, self._trace = nic, channel, trap_all, trace
        self._negotiated = False
        self._interrupts = SessionInterrupts(nic)
        self._table = MsixBar(nic.max_vectors)
        self._regions: dict[int, MessageRegion] = {
            Region.BAR0: Bar0(nic),
            nic.msix_bar: self._table,
            Region.CONFIG: ConfigRegion(nic),
        }
        self._tails = PostedTails(nic, trace, each_tail=each_tail)
        self._pending: dict[int, PendingRequest] = {}
        self._next_id = 0
        self._commands: dict[int, Callable[[Message], Answer]] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self._region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.REGION_WRITE_MULTI: self._region_write_multi,
            Command.DEVICE_RESET: self._device_reset,
        }

    # ---- messages in, answers out ----

    def receive(self) -> bool:
        """Answer messages for TURN_S at most. False if the client is gone or has to be disconnected.

        Stops earlier when an answer does not fit into the socket. Messages that are left are for the next call.
        """
        until = time.monotonic() + TURN_S
        try:
            if not self.channel.has_message and not self.channel.fill():
                return False
            while not self.channel.is_stuffed and (message := self._next_message()) is not None:
                try:
                    self._handle(message)
                finally:
                    message.close_fds()
                if time.monotonic() > until:
                    break
            return True
        except ProtocolError as error:
            with suppress(OSError):
                self.channel.send(error.id, error.command, p.REPLY | p.ERROR, error=errno.EINVAL)
            return False
        except BlockingIOError:  # nothing has arrived
            return True
        except OSError:
            return False
        finally:
            self._tails.end_turn()

    def _next_message(self) -> Message | None:
        """The next message after posted writes of tails, which are taken together."""
        if self._negotiated:
            self._tails.take(self.channel)
        return self.channel.take()

    def _handle(self, message: Message) -> None:
        if message.is_reply:
            self._take_dma_reply(message)
            return
        number, answer = 0, Answer()
        try:
            answer = self._answer(message)
        except (struct.error, ValueError):
            number = errno.EINVAL
        except OSError as error:
            number = error.errno or errno.EIO
        except DeviceError:
            number = errno.EIO
        except MemoryError:
            number = errno.ENOMEM
        if self._trace:
            self._trace(describe(message, answer, number))
        if message.flags & p.NO_REPLY:
            return
        if number:
            self.channel.send(message.id, message.command, p.REPLY | p.ERROR, error=number)
        else:
            self.channel.send(message.id, message.command, p.REPLY, answer.payload, answer.fds)

    def _answer(self, message: Message) -> Answer:
        if message.flags & p.TYPE or message.truncated or self._negotiated == (message.command == Command.VERSION):
            raise Refused
        command = self._commands.get(message.command)
        if command is None:
            raise Refused(errno.EOPNOTSUPP)
        if message.fds and message.command not in (Command.DMA_MAP, Command.DEVICE_SET_IRQS):
            raise Refused
        if message.command not in (Command.REGION_WRITE, Command.REGION_WRITE_MULTI):
            self._tails.settle()
        return command(message)

    # ---- version and device ----

    def _version(self, message: Message) -> Answer:
        major, _ = p.VERSION.unpack_from(message.payload)
        theirs = p.read_capabilities(message.payload[p.VERSION.size :])
        longest = theirs.get("max_data_xfer_size", p.MAX_TRANSFER)
        # The DMA of a packet is one message, so a client has to accept messages of that length.
        if major != p.MAJOR or not isinstance(longest, int) or longest < LONGEST:
            raise Refused
        self._negotiated = True
        self._memory.open()
        ours = p.capabilities(max_dma_maps=self._memory.most, write_multiple=True)
        return Answer(p.VERSION.pack(p.MAJOR, p.MINOR) + ours)

    def _device_info(self, message: Message) -> Answer:
        p.DEVICE_INFO.unpack_from(message.payload)
        regions = p.REGIONS if self._doorbells() >= 0 else Region.DOORBELLS
        return Answer(p.DEVICE_INFO.pack(p.DEVICE_INFO.size, p.DEVICE_RESETS | p.DEVICE_IS_PCI, regions, len(p.Irq)))

    def _doorbells(self) -> int:
        return -1 if self._trap_all else self._nic.share_doorbells()

    def _region_info(self, message: Message) -> Answer:
        argsz, _, index, _, _, _ = p.REGION_INFO.unpack_from(message.payload)
        if index == Region.DOORBELLS and self._doorbells() >= 0:
            return self._doorbell_info(argsz)
        if index not in VFIO_REGIONS:
            raise Refused
        size = self._regions[index].size if index in self._regions else 0
        flags = RegionFlag.READ | RegionFlag.WRITE if size else 0
        return Answer(p.REGION_INFO.pack(p.REGION_INFO.size, flags, index, 0, size, 0))

    def _doorbell_info(self, argsz: int) -> Answer:
        """The region with its type capability. If `argsz` is too small, the answer only has the size needed."""
        fd = self._doorbells()
        needed = p.REGION_INFO.size + p.REGION_TYPE.size
        info = p.REGION_INFO.pack(
            needed, RegionFlag.MMAP | RegionFlag.CAPS, Region.DOORBELLS, p.REGION_INFO.size, os.fstat(fd).st_size, 0
        )
        if argsz < needed:
            return Answer(info)
        return Answer(info + p.REGION_TYPE.pack(p.REGION_TYPE_CAPABILITY, 1, 0, *p.DOORBELL_TYPE), [fd])

    def _region_io_fds(self, message: Message) -> Answer:
        _, _, index, _ = p.IO_FDS.unpack_from(message.payload)
        if index not in VFIO_REGIONS:
            raise Refused
        return Answer(p.IO_FDS.pack(p.IO_FDS.size, 0, index, 0))  # there are none

    def _irq_info(self, message: Message) -> Answer:
        _, _, index, _ = p.IRQ_INFO.unpack_from(message.payload)
        if index not in IRQS:
            raise Refused
        count, flags = IRQS[p.Irq(index)]
        if not self._nic.has_line and index in (p.Irq.INTX, p.Irq.MSI):
            count, flags = 0, IrqFlag(0)
        return Answer(
            p.IRQ_INFO.pack(p.IRQ_INFO.size, flags, index, self._nic.max_vectors if index == p.Irq.MSIX else count)
        )

    def _set_irqs(self, message: Message) -> Answer:
        _, flags, index, start, count = p.IRQ_SET.unpack_from(message.payload)
        self._interrupts.set(flags, index, start, count, message.fds)
        return Answer()

    def _device_reset(self, message: Message) -> Answer:
        self._nic.reset()
        self._table.reset()
        return Answer()

    # ---- regions ----

    def _region(self, index: int) -> MessageRegion:
        if index not in self._regions:
            raise Refused
        return self._regions[index]

    def _region_read(self, message: Message) -> Answer:
        offset, index, count = p.ACCESS.unpack_from(message.payload)
        if count > p.MAX_TRANSFER:
            raise Refused
        return Answer(message.payload[: p.ACCESS.size] + self._region(index).read(offset, count))

    def _region_write(self, message: Message) -> Answer:
        offset, index, count = p.ACCESS.unpack_from(message.payload)
        if count != len(message.payload) - p.ACCESS.size:
            raise Refused
        self._write(message, index, offset, message.payload[p.ACCESS.size :])
        return Answer(message.payload[: p.ACCESS.size])

    def _write(self, message: Message, index: int, offset: int, data: bytes) -> None:
        """Carry out a write now; a posted one of a tail when no later one waits."""
        if message.flags & p.NO_REPLY and self._tails.note(offset, index, data):
            return
        self._tails.settle()
        self._region(index).write(offset, data)

    def _region_write_multi(self, message: Message) -> Answer:
        (writes,) = p.WRITE_COUNT.unpack_from(message.payload)
        entries = message.payload[p.WRITE_COUNT.size :]
        if writes > p.MAX_WRITES or writes * p.WRITE_ONE.size != len(entries):
            raise Refused
        for offset, index, count, data in p.WRITE_ONE.iter_unpack(entries):
            if count > len(data):
                raise Refused
            self._write(message, index, offset, data[:count])
        return Answer(message.payload[: p.WRITE_COUNT.size])

    # ---- DMA ----

    def _dma_map(self, message: Message) -> Answer:
        _, flags, offset, address, size = p.DMA_MAP.unpack_from(message.payload)
        if len(message.fds) > 1 or flags & ~(p.DMA_READABLE | p.DMA_WRITABLE):
            raise Refused
        if len(self._memory) >= self._memory.most:
            raise Refused(errno.ENOSPC)
        self._memory.map(
            address,
            size,
            message.fds[0] if message.fds else None,
            offset if message.fds else 0,
            readable=bool(flags & p.DMA_READABLE),
            writable=bool(flags & p.DMA_WRITABLE),
        )
        return Answer()

    def _dma_unmap(self, message: Message) -> Answer:
        _, flags, address, size = p.DMA_UNMAP.unpack_from(message.payload)
        if flags == p.UNMAP_ALL and not address and not size:
            self._memory.unmap_all()
        elif flags:
            raise Refused
        else:
            self._memory.unmap(address, size)
        return Answer(message.payload[: p.DMA_UNMAP.size])

    @property
    def dma_event(self) -> int:
        """An eventfd, readable when `carry` has something to do; -1 if DMA needs no messages."""
        return self._nic.dma_messages.fileno()

    def carry(self) -> None:
        """Send the NIC's DMA requests to the client, as far as the socket has room. Raises OSError.

        Call it only between commands: a client that waits for an answer may not handle requests.
        """
        with suppress(BlockingIOError):
            os.eventfd_read(self.dma_event)
        for number, request in enumerate(self._nic.dma_messages.take(), 1):
            self._next_id = (self._next_id + 1) & 0xFFFF
            self._pending[self._next_id] = PendingRequest(request, time.monotonic() + DMA_ANSWER_S)
            where = p.DMA_ACCESS.pack(request.iova, request.length)
            if request.data is None:
                self.channel.send(self._next_id, Command.DMA_READ, 0, where)
            else:
                self.channel.send(self._next_id, Command.DMA_WRITE, 0, where + request.data)
            # The NIC may send requests without end: handle the client's messages first.
            if number == REQUESTS_A_TURN or self.channel.is_stuffed:
                os.eventfd_write(self.dma_event, 1)
                return

    def _take_dma_reply(self, message: Message) -> None:
        pending = self._pending.pop(message.id, None)
        if pending is None:
            return  # a reply without a request is ignored
        wanted = Command.DMA_READ if pending.request.data is None else Command.DMA_WRITE
        if message.flags & p.ERROR or message.command != wanted:
            self._nic.dma_messages.answer(pending.request.id, None)
        else:
            self._nic.dma_messages.answer(
                pending.request.id, message.payload[p.DMA_ACCESS.size :] if wanted is Command.DMA_READ else b""
            )

    def expire(self) -> None:
        """Refuse DMA requests that were not answered in time."""
        now = time.monotonic()
        for id in [id for id, pending in self._pending.items() if pending.until < now]:
            self._nic.dma_messages.answer(self._pending.pop(id).request.id, None)

    @property
    def waits(self) -> bool:
        """Whether a DMA request waits for its answer."""
        return bool(self._pending)

    def end(self) -> None:
        """Reset the NIC and release all resources of the client.

        Raises DeviceError if the kernel has no memory for the doorbells' private pages. All else is released then.
        """
        try:
            self._nic.reset()  # first: no queue works on memory that goes away
            self._nic.disable_interrupts()
            self._nic.unmap_dma_all()  # before the doorbells, because the kernel may be short of mappings
            self._nic.dma_messages.close()
            self._nic.unshare_doorbells()
            self._nic.reset()  # until now the client could store into registers
        finally:
            self.channel.close()


def describe(message: Message, answer: Answer, number: int) -> str:
    """A line of a trace: `R BAR0 0x00008 4 00080000`, `W CONFIG 0x00004 2 0006`, `DMA_MAP ...`.

    A refused command ends in ` errno 22`.
    """
    name = (
        Command(message.command).name if message.command in Command._value2member_map_ else f"command {message.command}"
    )
    text = f"{name} {message.payload[:64].hex()} fds={len(message.fds)}"
    if message.command in (Command.REGION_READ, Command.REGION_WRITE) and len(message.payload) >= p.ACCESS.size:
        offset, index, count = p.ACCESS.unpack_from(message.payload)
        is_read = message.command == Command.REGION_READ
        data = (answer if is_read else message).payload[p.ACCESS.size :]
        text = access_line("R" if is_read else "W", index, offset, count, int.from_bytes(data, "little"))
    return text + (f" errno {number}" if number else "")
