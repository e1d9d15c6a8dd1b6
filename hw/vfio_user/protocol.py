"""Numbers and layouts of the vfio-user protocol, and messages on a socket.

All numbers are little-endian. Region and interrupt indices, flags and capability chains are those of <linux/vfio.h>.
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
MAX_FDS = 16  # per message; QEMU accepts no larger limit
MAX_TRANSFER = 1 << 20  # bytes of data in one message
MAX_WRITES = 256  # in one REGION_WRITE_MULTI; QEMU sends at most 200
PAGE = 4096  # unit of DMA mappings
LARGEST = MAX_TRANSFER + 4096  # bytes of a message: header, description of the data, data
ROOM = 1 << 16  # bytes read from the socket at once
SEND_S = 5.0  # a peer that does not receive a message within this time is disconnected

HEADER = struct.Struct("<HHIII")  # message id, command, size with the header, flags, errno
VERSION = struct.Struct("<HH")  # major, minor; then JSON
DMA_MAP = struct.Struct("<IIQQQ")  # argsz, flags, offset in the file, address, size
DMA_UNMAP = struct.Struct("<IIQQ")  # argsz, flags, address, size
DEVICE_INFO = struct.Struct("<IIII")  # argsz, flags, regions, interrupts
REGION_INFO = struct.Struct("<IIIIQQ")  # argsz, flags, index, offset of the capabilities, size, offset for mmap
REGION_TYPE = struct.Struct("<HHIII")  # a capability: its id, version, next; type, subtype
IRQ_INFO = struct.Struct("<IIII")  # argsz, flags, index, count
IRQ_SET = struct.Struct("<IIIII")  # argsz, flags, index, start, count; then data
IO_FDS = struct.Struct("<IIII")  # argsz, flags, index, count
ACCESS = struct.Struct("<QII")  # offset, region, count; then data
DMA_ACCESS = struct.Struct("<QQ")  # address, count; then data
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


REPLY, NO_REPLY, ERROR = 0x01, 0x10, 0x20  # header flags; bits 3:0 are the type
TYPE = 0x0F


class Region(IntEnum):
    """PCI regions of VFIO, and one of this driver."""

    BAR0 = 0
    BAR4 = 4
    CONFIG = 7
    DOORBELLS = 9  # the first index that VFIO leaves to devices; see README.md


class RegionFlag(IntFlag):
    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


REGION_TYPE_CAPABILITY = 2
# Type: VFIO's flag for a PCI vendor, with Intel's number. Subtype: chosen by this project.
DOORBELL_TYPE = (1 << 31 | 0x8086, 0x8259_9001)
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
    """Flags of SET_IRQS: the kind of data and the action."""

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
    """The stream has no valid message here, so the start of the next one is unknown.

    id, command: of the invalid header.
    """

    def __init__(self, text: str, id: int, command: int) -> None:
        super().__init__(text)
        self.id, self.command = id, command


@dataclass
class Message:
    """One received message. The receiver has to close `fds`. truncated: it came with more fds than allowed."""

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


def pack(id: int, command: int, flags: int, payload: bytes = b"", error: int = 0) -> bytes:
    """The bytes of a message."""
    return HEADER.pack(id, command, HEADER.size + len(payload), flags, error) + payload


def capabilities(**more: object) -> bytes:
    """The JSON of VERSION with a NUL at the end."""
    ours = {"max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_TRANSFER, "pgsizes": PAGE, **more}
    return json.dumps({"capabilities": ours}).encode() + b"\0"


def read_capabilities(text: bytes) -> dict[str, object]:
    """The capabilities of the peer. Raises ValueError if `text` is not a JSON object with a NUL at the end."""
    if not text:
        return {}
    try:
        value = json.loads(text[:-1]) if text.endswith(b"\0") else None
    except RecursionError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("capabilities", {}), dict):
        raise ValueError("VERSION has no JSON object with capabilities")
    return dict(value.get("capabilities", {}))


class Channel:
    """Messages on a connected socket, which it owns. One thread may receive, and one at a time may send.

    receive_s: seconds that `fill` waits; None waits without limit. The kernel keeps the time limits.
    """

    def __init__(self, connected: socket.socket, receive_s: float | None = None) -> None:
        self.socket = connected
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(SEND_S))
        if receive_s is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(receive_s))
        self._bytes, self._at = b"", 0  # received bytes, and the number of them that were taken
        self._gone_by = 0  # bytes received before `_bytes`; fds have positions in the whole stream
        self._fds: deque[tuple[int, list[int], bool]] = deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def is_amid_message(self) -> bool:
        """Whether the next message has arrived only in part."""
        return len(self._bytes) > self._at

    @property
    def has_message(self) -> bool:
        """Whether take() has a message to return, or an error to raise, without fill()."""
        came = len(self._bytes) - self._at
        if came < HEADER.size:
            return False
        size = HEADER.unpack_from(self._bytes, self._at)[2]
        return bool(size <= came or size > LARGEST)

    def fill(self) -> bool:
        """Receive at least one byte; False if the peer closed the socket.

        Raises OSError, and BlockingIOError after receive_s.
        """
        data, extra, flags, _ = self.socket.recvmsg(ROOM, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC)
        self._gone_by += self._at
        self._bytes, self._at = self._bytes[self._at :] + data, 0
        if extra or flags & socket.MSG_CTRUNC:
            # The kernel ends a read after the bytes that fds came with, so they belong to the last message there.
            self._keep_fds(self._last_start(), received_fds(extra), bool(flags & socket.MSG_CTRUNC))
        return bool(data)

    def _keep_fds(self, start: int, fds: list[int], truncated: bool) -> None:
        """Keep fds for the message at `start`. A message in many pieces may bring MAX_FDS in all, not with each."""
        if self._fds and self._fds[-1][0] == start:
            _, held, lost = self._fds.pop()
            fds, truncated = held + fds, truncated or lost
        for fd in fds[MAX_FDS:]:
            os.close(fd)
        self._fds.append((start, fds[:MAX_FDS], truncated or len(fds) > MAX_FDS))

    def _last_start(self) -> int:
        at = 0
        while True:
            size = HEADER.unpack_from(self._bytes, at)[2] if len(self._bytes) - at >= HEADER.size else LARGEST
            if size < HEADER.size or at + size >= len(self._bytes):
                return self._gone_by + at
            at += size

    def take(self) -> Message | None:
        """The next complete message; None if there is none. Raises ProtocolError."""
        at, came = self._at, len(self._bytes) - self._at
        if came < HEADER.size:
            return None
        id, command, size, flags, error = HEADER.unpack_from(self._bytes, at)
        if not HEADER.size <= size <= LARGEST:
            raise ProtocolError(f"a message has {size} bytes; {HEADER.size} to {LARGEST} are possible", id, command)
        if came < size:
            return None
        message = Message(id, command, flags, error, self._bytes[at + HEADER.size : at + size])
        while self._fds and self._fds[0][0] <= self._gone_by + at:
            _, fds, truncated = self._fds.popleft()
            message.fds += fds
            message.truncated |= truncated
        self._at += size
        return message

    @property
    def received(self) -> memoryview:
        """The received bytes that were not taken; empty if fds came with them."""
        return memoryview(b"") if self._fds else memoryview(self._bytes)[self._at :]

    def skip(self, count: int) -> None:
        """Drop whole messages of `count` bytes, which `received` showed."""
        self._at += count

    def send(
        self, id: int, command: int, flags: int, payload: bytes = b"", fds: Sequence[int] = (), error: int = 0
    ) -> None:
        """Send a message. Raises OSError, and BlockingIOError if the peer receives nothing for SEND_S."""
        data = pack(id, command, flags, payload, error)
        if fds:
            sent = self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        else:
            sent = self.socket.send(data)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def close(self) -> None:
        """Close the socket and all received fds that were not taken."""
        self.socket.close()
        while self._fds:
            for fd in self._fds.popleft()[1]:
                os.close(fd)


def timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def received_fds(extra: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
