"""The vfio-user protocol's numbers and layouts, and messages on a socket.

All numbers are little-endian. Region and interrupt indices, flags and capability chains are those of the kernel's <linux/vfio.h>.
Source: the vfio-user document in QEMU's docs/interop.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

MAJOR, MINOR = 0, 0
MAX_FDS = 16  # of one message; also the most that QEMU accepts to hear
MAX_TRANSFER = 1 << 20  # bytes of data in one message
MAX_DMA_MAPS = 65535
PAGE = 4096  # in which DMA is mapped
LARGEST = MAX_TRANSFER + 4096  # a message: header, what describes the data, data
ROOM = 1 << 16  # bytes that one look at the socket may bring
SEND_S = 5.0  # a far end that takes nothing for so long is given up

HEADER = struct.Struct("<HHIII")  # message id, command, size with the header, flags, errno
VERSION = struct.Struct("<HH")  # major, minor; JSON behind
DMA_MAP = struct.Struct("<IIQQQ")  # argsz, flags, offset in the file, address, size
DMA_UNMAP = struct.Struct("<IIQQ")  # argsz, flags, address, size
DEVICE_INFO = struct.Struct("<IIII")  # argsz, flags, regions, interrupts
REGION_INFO = struct.Struct("<IIIIQQ")  # argsz, flags, index, offset of the capabilities, size, offset for mmap
REGION_TYPE = struct.Struct("<HHIII")  # a capability: its id, version, next; type, subtype
IRQ_INFO = struct.Struct("<IIII")  # argsz, flags, index, count
IRQ_SET = struct.Struct("<IIIII")  # argsz, flags, index, start, count; data behind
IO_FDS = struct.Struct("<IIII")  # argsz, flags, index, count
ACCESS = struct.Struct("<QII")  # offset, region, count; data behind
DMA_ACCESS = struct.Struct("<QQ")  # address, count; data behind
WORD = struct.Struct("<I")
WRITE_COUNT = struct.Struct("<Q")
WRITE_ONE = struct.Struct("<QII8s")  # offset, region, count, data


class Command(IntEnum):
    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15


REPLY, NO_REPLY, ERROR = 0x01, 0x10, 0x20  # header flags; the type is bits 3:0
TYPE = 0x0F


class Region(IntEnum):
    """VFIO's PCI regions, and one of ours."""

    BAR0 = 0
    BAR4 = 4
    CONFIG = 7
    DOORBELLS = 9  # the first that VFIO leaves to devices; README.md


class RegionFlag(IntFlag):
    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


REGION_TYPE_CAPABILITY = 2
DOORBELL_TYPE = (1 << 31 | 0x8086, 0x8259_9001)  # VFIO's "by a PCI vendor", Intel's number; and which of theirs
REGIONS = Region.DOORBELLS + 1


class Irq(IntEnum):
    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


class IrqFlag(IntFlag):
    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4
    NORESIZE = 8


class IrqSet(IntFlag):
    """What SET_IRQS brings, and what it is to do."""

    NONE = 0x01
    BOOL = 0x02
    EVENTFD = 0x04
    MASK = 0x08
    UNMASK = 0x10
    TRIGGER = 0x20


DMA_READABLE, DMA_WRITABLE = 1, 2
UNMAP_ALL = 2
DEVICE_RESETS, DEVICE_IS_PCI = 1, 2


class ProtocolError(Exception):
    """What came is no message: from here on nobody knows where one begins. `id` and `command` as far as they could be read."""

    def __init__(self, text: str, id: int, command: int) -> None:
        super().__init__(text)
        self.id, self.command = id, command


@dataclass
class Message:
    """One message as it came. `fds` are the receiver's to close; truncated: there were more than a message may have."""

    id: int
    command: int
    flags: int
    error: int
    payload: bytes
    fds: list[int] = field(default_factory=list)
    truncated: bool = False

    @property
    def is_reply(self) -> bool:
        return self.flags & TYPE == REPLY

    def close_fds(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


def capabilities(**more: object) -> bytes:
    """VERSION's JSON, with its NUL."""
    said = {
        "max_msg_fds": MAX_FDS,
        "max_data_xfer_size": MAX_TRANSFER,
        "max_dma_maps": MAX_DMA_MAPS,
        "pgsizes": PAGE,
        **more,
    }
    return json.dumps({"capabilities": said}).encode() + b"\0"


def read_capabilities(text: bytes) -> dict[str, object]:
    """What the far end says it can; ValueError when it is not said in JSON, an object, with a NUL behind."""
    if not text:
        return {}
    try:
        said = json.loads(text[:-1]) if text.endswith(b"\0") else None
    except RecursionError:
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("capabilities", {}), dict):
        raise ValueError("VERSION brings no JSON object with capabilities")
    return dict(said.get("capabilities", {}))


class Channel:
    """Messages on a connected socket, which it owns. One thread receives, and one at a time sends.

    receive_s: how long `fill` waits, None for ever. Time limits are the kernel's, which costs no call.
    """

    def __init__(self, connected: socket.socket, receive_s: float | None = None) -> None:
        self.socket = connected
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_S))
        if receive_s is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(receive_s))
        self._bytes, self._at = b"", 0  # what came, and how much of it was taken
        self._gone_by = 0  # bytes that came before those, so that fds know where in the stream they belong
        self._fds: deque[tuple[int, list[int], bool]] = deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def is_amid_message(self) -> bool:
        return len(self._bytes) > self._at

    def fill(self) -> bool:
        """Take what the socket has, waiting for something; False when the far end closed it. Raises OSError, BlockingIOError after receive_s."""
        data, extra, flags, _ = self.socket.recvmsg(ROOM, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC)
        self._gone_by += self._at
        self._bytes, self._at = self._bytes[self._at :] + data, 0
        if extra or flags & socket.MSG_CTRUNC:
            # The kernel ends a read behind the piece that fds came with: they belong to the last message that has begun.
            self._fds.append((self._last_start(), _received_fds(extra), bool(flags & socket.MSG_CTRUNC)))
        return bool(data)

    def _last_start(self) -> int:
        at = 0
        while True:
            size = HEADER.unpack_from(self._bytes, at)[2] if len(self._bytes) - at >= HEADER.size else LARGEST
            if size < HEADER.size or at + size >= len(self._bytes):
                return self._gone_by + at
            at += size

    def take(self) -> Message | None:
        """The next whole message of those that came. Raises ProtocolError."""
        at, came = self._at, len(self._bytes) - self._at
        if came < HEADER.size:
            return None
        id, command, size, flags, error = HEADER.unpack_from(self._bytes, at)
        if not HEADER.size <= size <= LARGEST:
            raise ProtocolError(f"a message of {size} bytes; {HEADER.size} to {LARGEST} are possible", id, command)
        if came < size:
            return None
        message = Message(id, command, flags, error, self._bytes[at + HEADER.size : at + size])
        while self._fds and self._fds[0][0] <= self._gone_by + at:
            _, fds, truncated = self._fds.popleft()
            message.fds += fds
            message.truncated |= truncated
        self._at += size
        return message

    def send(
        self, id: int, command: int, flags: int, payload: bytes = b"", fds: Sequence[int] = (), error: int = 0
    ) -> None:
        """Raises OSError, BlockingIOError when the far end takes nothing for SEND_S."""
        data = HEADER.pack(id, command, HEADER.size + len(payload), flags, error) + payload
        if fds:
            sent = self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        else:
            sent = self.socket.send(data)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def close(self) -> None:
        """And every fd that came and nobody took."""
        self.socket.close()
        while self._fds:
            for fd in self._fds.popleft()[1]:
                os.close(fd)


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def _received_fds(extra: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
