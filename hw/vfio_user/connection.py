"""The client's end of a vfio-user socket: it sends a command and receives the answer."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

from ..errors import DeviceError, DeviceGone
from . import protocol as p
from .errors import CommandRefused
from .protocol import Channel, Command, Message, ProtocolError

ANSWER_S = 5.0
START_S, LOOK_S = 2.0, 0.02  # a server that was started a moment ago is looked for so long, and so often
NOBODY = (errno.ENOENT, errno.ECONNREFUSED)


class Connection:
    """Commands and their answers, one at a time. After the connection is lost, every method raises DeviceGone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._next_id = 0
        self._channel: Channel | None = Channel(connect(path), ANSWER_S)
        self._reason = ""  # why the connection was lost

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    def request(
        self,
        command: Command,
        payload: bytes = b"",
        fds: Sequence[int] = (),
        *,
        least: int = 0,
        keep_fds: bool = False,
    ) -> Message:
        """Send a command and return its answer, which has `least` bytes of payload or more.

        keep_fds: the caller owns the answer's fds; otherwise they are closed. Raises CommandRefused, DeviceGone: also
        when the answer is not one to this command, or not whole within ANSWER_S.
        """
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
            if not keep_fds or answer.flags & p.ERROR:
                answer.close_fds()
            if answer.flags & p.ERROR:
                raise CommandRefused(command, answer.error)
            if answer.command != command or len(answer.payload) < least:
                answer.close_fds()
                what = "other" if answer.command != command else f"only {len(answer.payload)} of {least} bytes of"
                self._lost(f"the server sent {what} data as the answer to {command.name}")
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
        """Receive the answer to command `id`. Raises BlockingIOError after ANSWER_S, whatever the server sends.

        Other answers belong to commands that Ctrl-C interrupted, so they are dropped.
        """
        until = time.monotonic() + ANSWER_S
        pieces = 0
        while True:
            while (message := channel.take()) is None:
                if pieces:  # the socket's own limit, which is cheaper, starts again with each piece
                    wait(channel, select.POLLIN, until)
                if not channel.fill():
                    raise ConnectionResetError("the server closed the connection")
                pieces += 1
            if message.is_reply and message.id == id:
                return message
            message.close_fds()
            if not message.is_reply:  # DMA by messages is for clients without shared memory
                wait(channel, select.POLLOUT, until)
                channel.send(message.id, message.command, p.REPLY | p.ERROR, error=errno.EOPNOTSUPP)

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise self._gone()
        return self._channel

    def _lost(self, reason: str) -> NoReturn:
        self.close()
        self._reason = f" ({reason})"
        raise self._gone() from None

    def _gone(self) -> DeviceGone:
        return DeviceGone(
            f"the NIC no longer answers: the connection to the vfio-user server at {self.path} has ended"
            f"{self._reason}; close the port, start the server again with: ixrings emulate --socket {self.path}, and "
            "open the port again"
        )

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def wait(channel: Channel, event: int, until: float) -> None:
    """Wait for POLLIN or POLLOUT. Raises BlockingIOError at the time `until`, also if the event is there by then."""
    poll = select.poll()
    poll.register(channel, event)
    left = until - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise BlockingIOError


def connect(path: str) -> socket.socket:
    """A socket connected to the server at `path`. A server that is just starting is waited for. Raises DeviceError."""
    end = time.monotonic() + START_S
    while True:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connected.connect(path)
            return connected
        except OSError as error:
            connected.close()
            if error.errno in NOBODY and time.monotonic() < end:
                time.sleep(LOOK_S)
                continue
            raise no_connection(path, error) from None
        except BaseException:
            connected.close()
            raise


def no_connection(path: str, error: OSError) -> DeviceError:
    """The sentence for a connection to `path` that failed."""
    if error.errno in NOBODY:
        return DeviceError(
            f"no server listens at {path}; it was looked for {START_S:g} s long. Run: ixrings emulate --socket {path}"
        )
    return DeviceError(
        f"no connection to {path}: {error.strerror or error}. Give the socket of a vfio-user server, "
        "such as the one of: ixrings emulate --socket /tmp/nic.sock"
    )
