"""A vfio-user server that misbehaves: a relay in front of a real one, which changes the answers on their way."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.connection import connect
from ixrings.hw.vfio_user.protocol import Channel, Message, ProtocolError

Alter = Callable[[Message], Iterator[bytes]]


def packed(
    message: Message, *, id: int | None = None, command: int | None = None, payload: bytes | None = None
) -> bytes:
    """The message again, with these parts exchanged."""
    return p.pack(
        message.id if id is None else id,
        message.command if command is None else command,
        message.flags,
        message.payload if payload is None else payload,
        message.error,
    )


@contextmanager
def relay(real: Path, path: Path, alter: Alter) -> Iterator[str]:
    """Listen at `path` for one client. Each answer becomes the pieces that `alter` yields; fds go with the first one.

    `alter` may exchange the message's fds; the relay closes what it finds there afterwards. Yields the port's name.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        thread = threading.Thread(target=serve, args=(listener, real, alter))
        thread.start()
        try:
            yield f"vfio-user:{path}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)
            assert not thread.is_alive()


def serve(listener: socket.socket, real: Path, alter: Alter) -> None:
    with suppress(OSError, ProtocolError):
        connected, _ = listener.accept()
        client, server = Channel(connected), Channel(connect(str(real)))
        try:
            while client.fill():
                while (message := client.take()) is not None:
                    server.send(message.id, message.command, message.flags, message.payload, message.fds)
                    message.close_fds()
                    if not message.flags & p.NO_REPLY:
                        pass_on(client, server, alter)
        finally:
            client.close()
            server.close()


def pass_on(client: Channel, server: Channel, alter: Alter) -> None:
    while (answer := server.take()) is None:
        if not server.fill():
            raise ConnectionResetError
    try:
        for piece in alter(answer):
            extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", answer.fds))] if answer.fds else []
            client.socket.sendmsg([piece], extra)
            answer.close_fds()
    finally:
        answer.close_fds()


def memory_file(size: int, *seals: int) -> int:
    fd = os.memfd_create("relay", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    for seal in seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
    return fd
