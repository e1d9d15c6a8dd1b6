"""The client's end of a vfio-user socket: it sends a command and receives the answer."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Sequence
from typing import NoReturn

from ..errors import DeviceError, DeviceGone
from . import protocol as p
from .errors import CommandRefused
from .protocol import Channel, Command, Message, ProtocolError

ANSWER_S = 5.0


class Connection:
    """Commands and their answers, one at a time. After the connection is lost, every method raises DeviceGone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._next_id = 0
        self._channel: Channel | None = Channel(connect(path), ANSWER_S)

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    def request(self, command: Command, payload: bytes = b"", fds: Sequence[int] = ()) -> Message:
        """Send a command and return its answer, whose fds the caller owns. Raises CommandRefused, DeviceGone."""
        with self._lock:
            channel = self._open_channel()
            self._next_id = (self._next_id + 1) & 0xFFFF
            try:
                channel.send(self._next_id, command, 0, payload, fds)
                answer = self._answer(channel, self._next_id)
            except BlockingIOError:
                self._lost(f"no answer to {command.name} within {ANSWER_S:g} s")
            except (OSError, ProtocolError) as error:
                self._lost(str(error))
        if answer.flags & p.ERROR:
            raise CommandRefused(command, answer.error)
        return answer

    def post(self, command: Command, payload: bytes) -> None:
        """Send a command without waiting for an answer. The server keeps the order of commands. Raises DeviceGone."""
        with self._lock:
            channel = self._open_channel()
            self._next_id = (self._next_id + 1) & 0xFFFF
            try:
                channel.send(self._next_id, command, p.NO_REPLY, payload)
            except OSError as error:
                self._lost(str(error))

    def _answer(self, channel: Channel, id: int) -> Message:
        """Receive the answer to command `id`.

        Other answers belong to commands that Ctrl-C interrupted, so they are dropped.
        """
        while True:
            while (message := channel.take()) is None:
                if not channel.fill():
                    raise ConnectionResetError("the server closed the connection")
            if message.is_reply and message.id == id:
                return message
            message.close_fds()
            if not message.is_reply:  # DMA by messages is for clients without shared memory
                channel.send(message.id, message.command, p.REPLY | p.ERROR, error=errno.EOPNOTSUPP)

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise self._gone()
        return self._channel

    def _lost(self, reason: str) -> NoReturn:
        self.close()
        raise self._gone(f" ({reason})") from None

    def _gone(self, reason: str = "") -> DeviceGone:
        return DeviceGone(
            f"the NIC no longer answers: the vfio-user server at {self.path} is gone{reason}; close the port, start "
            f"the server again with: ixrings emulate --socket {self.path}, and open the port again"
        )

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def connect(path: str) -> socket.socket:
    """A socket connected to the server at `path`. Raises DeviceError."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connected.connect(path)
    except OSError as error:
        connected.close()
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            raise DeviceError(f"no server listens at {path}. Run: ixrings emulate --socket {path}") from None
        raise DeviceError(
            f"no connection to {path}: {error.strerror or error}. Give the socket of a vfio-user server, "
            "such as the one of: ixrings emulate --socket /tmp/nic.sock"
        ) from None
    return connected
