"""Ask a running daemon: one request, one reply."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from contextlib import suppress
from typing import Any

from . import protocol
from .protocol import Kind, Message

PATIENCE_S = 10.0


def default_socket() -> str:
    """--socket, if it is not given: $IXRINGS_SOCKET, or a place that depends on the user."""
    if given := os.environ.get("IXRINGS_SOCKET"):
        return given
    if os.geteuid() == 0:
        return "/run/ixrings/netmap.sock"
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}"), "ixrings/netmap.sock")


class Denied(OSError):
    """The daemon has refused a request. sentence: why, or "" if it does not say."""

    def __init__(self, reply: Message) -> None:
        super().__init__(reply.error, os.strerror(reply.error))
        self.sentence = reply.payload[reply.value :].decode("utf-8", "replace")


def check_admitted(sock: socket.socket) -> None:
    """After a failed request: raises Denied if the daemon has refused the connection."""
    for _ in range(2):  # the first may report that the connection was reset
        with suppress(ConnectionError, BlockingIOError):
            data = sock.recv(protocol.MAX_PAYLOAD, socket.MSG_DONTWAIT)
            if data:
                raise Denied(protocol.unpack(data))


def ask(sock: socket.socket, message: Message) -> Message:
    """Send a request on a handle's socket, and wait for its reply. Raises OSError, ValueError for a bad reply, and
    Denied if the daemon has refused the connection.

    The descriptors of the reply are the caller's.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            try:
                socket.send_fds(sock, [message.pack()], [theirs.fileno()], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                raise TimeoutError(errno.ETIMEDOUT, "the daemon takes no further message") from None
            except ConnectionError:
                check_admitted(sock)
                raise
        ours.settimeout(PATIENCE_S)
        data, fds = protocol.receive(ours, protocol.MAX_STATUS)
    try:
        if not data:
            check_admitted(sock)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        reply = protocol.unpack(data, protocol.MAX_STATUS)
    except BaseException:
        protocol.close_all(fds)
        raise
    return Message(reply.kind, reply.payload, reply.error, reply.value, fds)


def connect(path: str) -> socket.socket:
    """A connection to the daemon at `path`. Raises OSError with a sentence if no daemon is there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(PATIENCE_S), 0))  # also of connect()
    try:
        sock.connect(path)
    except BlockingIOError as error:
        sock.close()
        raise OSError(error.errno, "the daemon accepts no connection; it is stopped or overloaded", path) from None
    except OSError as error:
        sock.close()
        nobody = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
        hint = "no daemon listens there. Start one: ixrings daemon ix0=0000:03:00.0" if nobody else error.strerror
        raise OSError(error.errno, hint, path) from None
    return sock


def ask_status(path: str) -> dict[str, Any]:
    """The status of the daemon at `path`. Raises OSError."""
    with connect(path) as sock:
        reply = ask(sock, Message(Kind.STATUS))
    protocol.close_all(reply.fds)
    if reply.error:
        raise OSError(reply.error, os.strerror(reply.error), path)
    try:
        status = json.loads(reply.payload)
    except (ValueError, RecursionError):
        status = None
    if not isinstance(status, dict):
        raise OSError(errno.EPROTO, "the daemon's answer is not understood", path)
    return status
