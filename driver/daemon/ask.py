"""Ask a running daemon: one request, one reply."""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import Any

from . import protocol
from .protocol import Kind, Message

PATIENCE_S = 10.0


class Denied(OSError):
    """The daemon has refused a request. sentence: why, or "" if it does not say."""

    def __init__(self, reply: Message) -> None:
        super().__init__(reply.error, os.strerror(reply.error))
        self.sentence = reply.payload[reply.value :].decode("utf-8", "replace")


def ask(sock: socket.socket, message: Message) -> Message:
    """Send a request on a handle's socket, and wait for its reply. Raises OSError, ValueError for a bad reply.

    The descriptors of the reply are the caller's.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            socket.send_fds(sock, [message.pack()], [theirs.fileno()], socket.MSG_NOSIGNAL)
        ours.settimeout(PATIENCE_S)
        data, fds = protocol.receive(ours, protocol.MAX_STATUS)
    try:
        if not data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        reply = protocol.unpack(data, protocol.MAX_STATUS)
    except BaseException:
        protocol.close_all(fds)
        raise
    return Message(reply.kind, reply.payload, reply.error, reply.value, fds)


def connect(path: str) -> socket.socket:
    """A connection to the daemon at `path`. Raises OSError with a sentence if no daemon is there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
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
    status: dict[str, Any] = json.loads(reply.payload)
    return status
