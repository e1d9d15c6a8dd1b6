"""The messages between a program and the daemon: a header of 24 bytes, a payload, and descriptors beside them.

A request goes out on the handle's socket, and brings one end of a fresh socket pair. The one reply comes through that
pair, so several processes may share a handle's socket.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

MAGIC = 0x6D6E7869  # "ixnm"
VERSION = 1
HEADER = struct.Struct("<IHHiIQ")
MAX_PAYLOAD = 16 * 1024
MAX_STATUS = 160 * 1024  # of a reply to STATUS; a socket takes 208 KiB at once
MOST_FDS = 253  # of one message (SCM_MAX_FD): those without room would be closed in recvmsg(), which may take long
REPLIES = (int(socket.AF_UNIX), int(socket.SOCK_SEQPACKET))
getsockopt = ctypes.CDLL(None).getsockopt


class Kind(IntEnum):
    """The kind of a message. The daemon does not know AGENT."""

    CTRL = 1
    ATTACH = 2
    INTERFACE = 3
    STATUS = 4
    OWNER = 5
    VIOLATION = 6
    REFUSED = 7
    AGENT = 8  # to `ixrings emulate --vf`


@dataclass(frozen=True)
class Message:
    """One message. error: of a reply, 0 or an errno. value: depends on the kind. fds: descriptors beside it."""

    kind: int
    payload: bytes = b""
    error: int = 0
    value: int = 0
    fds: Sequence[int] = ()

    def pack(self) -> bytes:
        head = HEADER.pack(MAGIC, VERSION, self.kind, self.error, len(self.payload), self.value)
        return head + self.payload


def unpack(data: bytes, longest: int = MAX_PAYLOAD) -> Message:
    """The message in `data`, with a payload of at most `longest` bytes. Raises ValueError with what is wrong."""
    if len(data) < HEADER.size:
        raise ValueError(f"a message of {len(data)} bytes is shorter than its header")
    magic, version, kind, error, size, value = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"a message begins with {magic:#x}, not with {MAGIC:#x}")
    if version != VERSION:
        raise ValueError(f"a message has version {version}; this daemon has version {VERSION}")
    if size != len(data) - HEADER.size or size > longest:
        raise ValueError(f"a message announces {size} bytes and brings {len(data) - HEADER.size}")
    return Message(kind, data[HEADER.size :], error, value)


def receive(sock: socket.socket, longest: int = MAX_PAYLOAD) -> tuple[bytes, list[int]]:
    """One message and its descriptors; b"" at the end of the connection. Raises OSError."""
    room = HEADER.size + longest + 1  # a longer message is cut, and unpack() refuses it
    data, ancillary, flags, _ = sock.recvmsg(room, socket.CMSG_SPACE(4 * MOST_FDS), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return (data if not flags & socket.MSG_TRUNC else data + b"\0"), list(fds)


def reply_socket(fds: Sequence[int]) -> socket.socket:
    """The socket for the reply, which takes over its descriptor. Raises ValueError; the descriptors stay open then."""
    if len(fds) != 1:
        raise ValueError(f"a request brings {len(fds)} descriptors; it needs one, for the reply")
    if (socket_option(fds[0], socket.SO_DOMAIN), socket_option(fds[0], socket.SO_TYPE)) != REPLIES:
        raise ValueError("the descriptor for the reply is not of a socketpair(AF_UNIX, SOCK_SEQPACKET)")
    return socket.socket(fileno=fds[0])


def socket_option(fd: int, option: int) -> int:
    """A socket option of level SOL_SOCKET; -1 for a descriptor that is not a socket.

    Nothing else is asked of a foreign descriptor: fstat() of a file, and getsockname() of a socket, may take for ever.
    """
    value, size = ctypes.c_int(-1), ctypes.c_uint32(4)
    getsockopt(fd, socket.SOL_SOCKET, option, ctypes.byref(value), ctypes.byref(size))
    return value.value


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
