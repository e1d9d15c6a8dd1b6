"""SharedQueue: the handle of a queue that goes to another process, by multiprocessing or by a Unix socket."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import reduction
from typing import Protocol

from .errors import PortClosed, PortError
from .lease import CHANNEL, CONTROL, MOST_FDS, Control, Facts, Word, take_token
from .worker import WorkerQueue, attach

LENGTH = struct.Struct("<I")
MOST_BYTES = 1 << 16


class Dup(Protocol):
    """A descriptor on its way by multiprocessing."""

    def detach(self) -> int: ...


class SharedQueue:
    """A handle of one queue, from port.share(k). Pass it to a process of the same user, which opens it there.

    It goes as an argument of multiprocessing.Process (spawn or forkserver), or by send() and receive() through a Unix
    socket. One process opens it, once. Whoever has it can do to the NIC what the owner can (driver/README.md).
    """

    def __init__(self, facts: Facts, fds: Sequence[int]) -> None:
        self._facts, self._fds = facts, list(fds)
        self._dropped = f"this handle of {self.name} was opened or closed before; ask for another: port.share()"

    @property
    def name(self) -> str:
        return self._facts.name

    def open(self) -> WorkerQueue:
        """Map the queue in this process. Use the result in a `with` block: its end gives the queue back.

        Raises PortError if another process has opened the handle, PortClosed if the owner has taken the queue back.
        """
        if self._facts.owner == os.getpid():
            raise PortError(
                f"{self.name} is shared by this process, which opened the port. Open the handle in another process, or "
                f"use port.queue({self._facts.queue}) here"
            )
        self._check_open()
        fds, self._fds = self._fds, []
        channel = socket.socket(fileno=fds[CHANNEL])
        try:
            if not take_token(fds[CHANNEL]):
                raise self._refusal(fds[CONTROL])
            return attach(self._facts, fds, channel)
        except BaseException:
            channel.close()
            raise
        finally:
            close_all(fds[CHANNEL + 1 :])

    def _refusal(self, control: int) -> PortError:
        words = Control(control).words
        if words[Word.REVOKED]:
            return PortClosed(f"{self.name} was taken back by the process that opened it")
        pid = words[Word.PID]  # 0: that process has the token, and has not written its number yet
        who = f"process {pid}" if pid else "another process"
        return PortError(
            f"{self.name} is open in {who} already. A handle opens once: share another queue, or "
            "end that process and share this one again"
        )

    # ---- on its way ----

    def send(self, sock: socket.socket) -> None:
        """Send the handle through a connected Unix socket of type SOCK_STREAM. Raises OSError."""
        self._check_open()
        text = self._facts.to_json()
        message = LENGTH.pack(len(text)) + text
        sent = socket.send_fds(sock, [message], self._fds)
        sock.sendall(message[sent:])

    @staticmethod
    def receive(sock: socket.socket) -> SharedQueue:
        """The handle that the other end sends. Raises OSError, and ValueError if something else comes."""
        data, fds, flags, _ = socket.recv_fds(sock, LENGTH.size, MOST_FDS)
        try:
            if flags & socket.MSG_CTRUNC or len(fds) <= CONTROL:
                raise ValueError("no shared queue came: its descriptors are missing")
            (length,) = LENGTH.unpack(data + receive_all(sock, LENGTH.size - len(data)))
            if length > MOST_BYTES:
                raise ValueError(f"no shared queue came: {length} bytes are announced")
            return SharedQueue(Facts.from_json(receive_all(sock, length)), kept_here(fds))
        except BaseException:
            close_all(fds)
            raise

    def __reduce__(self) -> tuple[Callable[..., SharedQueue], tuple[Facts, list[Dup]]]:
        """For multiprocessing, which passes the descriptors on."""
        self._check_open()
        return rebuild, (self._facts, [reduction.DupFd(fd) for fd in self._fds])

    def _check_open(self) -> None:
        if not self._fds:
            raise PortError(self._dropped)

    def close(self) -> None:
        """Drop a handle that was not opened. The owner has to reclaim it."""
        fds, self._fds = self._fds, []
        close_all(fds)

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SharedQueue {self.name} of process {self._facts.owner}>"


def rebuild(facts: Facts, fds: Sequence[Dup]) -> SharedQueue:
    """The handle in the process that it came to."""
    return SharedQueue(facts, kept_here([each.detach() for each in fds]))


def kept_here(fds: Sequence[int]) -> list[int]:
    """The same descriptors, which a program that this process starts does not get."""
    for fd in fds:
        os.set_inheritable(fd, False)
    return list(fds)


def receive_all(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise ValueError("no shared queue came: the other end closed the socket")
        data += more
    return data


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
