"""The vfio-user server: an emulated 82599 for a driver in another process or a QEMU guest. One client at a time."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress

from ..emulator import Emulated82599
from ..errors import ServerError
from . import protocol as p
from .memory import AskedMemory, ClientMemory
from .protocol import Channel, ProtocolError
from .session import Session

LOBBY = 16  # further clients that wait for the answer EBUSY
HALF_A_MESSAGE_S = 10.0  # the rest of a message has to arrive within this time
TICK_MS = 500


class Server:
    """Exports `nic`, which the caller owns, at a UNIX socket. Raises ServerError.

    trap_all: no doorbell region, every register access is a message. ask_beyond: DMA outside of mapped windows is sent
    to the client by messages instead of being refused here. trace: called with a line for each message. on_wake:
    called in serve() after wake(). on_client: called with True when a client is accepted, with False when it is gone.
    """

    def __init__(
        self,
        nic: Emulated82599,
        path: str,
        *,
        trap_all: bool = False,
        ask_beyond: bool = False,
        trace: Callable[[str], None] | None = None,
        on_wake: Callable[[], None] | None = None,
        on_client: Callable[[bool], None] | None = None,
    ) -> None:
        self._nic, self.path = nic, path
        self._trap_all, self._trace, self._on_wake, self._on_client = trap_all, trace, on_wake, on_client
        self._memory = AskedMemory if ask_beyond else ClientMemory
        self._session: Session | None = None
        self._lobby: dict[int, Channel] = {}
        self._stopping = False
        self._moved = 0.0  # time of the last message from the client
        self._listener = listen(path)
        self._identity = os.stat(path).st_ino
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    # ---- the loop ----

    def serve(self) -> None:
        """Serve until stop(), in the caller's thread. At the end, and on errors, the client is disconnected."""
        self._nic.guard_memory(True)
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._leave()
            self._nic.guard_memory(False)

    def stop(self) -> None:
        """Make serve() return. May be called from any thread or signal handler."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Make serve() call on_wake. May be called from any thread or signal handler."""
        with suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _turn(self) -> None:
        session = self._session
        patient = session is None or not (session.waits or session.channel.is_amid_message)
        ready = {fd for fd, _ in self._poll.poll(None if patient else TICK_MS)}
        if session is not None:
            self._serve_client(session, ready)
        if self._wake in ready:
            os.eventfd_read(self._wake)
            if self._on_wake and not self._stopping:
                self._on_wake()
        for fd in ready & self._lobby.keys():  # before new clients, which need room in the lobby
            self._turn_away(fd)
        if self._listener.fileno() in ready:
            self._admit()

    def _serve_client(self, session: Session, ready: set[int]) -> None:
        if session.channel.fileno() in ready:
            had_event = session.dma_event
            if not session.receive():
                self._leave()
                return
            self._moved = time.monotonic()
            if session.dma_event != had_event:
                self._watch_dma(had_event, session.dma_event)
        elif session.channel.is_amid_message and time.monotonic() - self._moved > HALF_A_MESSAGE_S:
            self._leave()
            return
        if session.dma_event in ready:
            try:
                session.carry()
            except OSError:  # the client receives nothing any more
                self._leave()
                return
        if session.waits:
            session.expire()

    def _watch_dma(self, former: int, event: int) -> None:
        if former >= 0:
            with suppress(KeyError):
                self._poll.unregister(former)
        if event >= 0:
            self._poll.register(event, select.POLLIN)

    # ---- clients come and go ----

    def _admit(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except OSError:  # the client disconnected before it was accepted
            return
        for _ in range(LOBBY):  # if the former client has ended, handle its last messages and its end
            if self._session is not None and select.select([self._session.channel], [], [], 0)[0]:
                self._serve_client(self._session, {self._session.channel.fileno()})
        channel = Channel(connected)
        if self._session is None:
            self._session = Session(
                self._nic, channel, self._memory(self._nic), trap_all=self._trap_all, trace=self._trace
            )
            if self._on_client:
                self._on_client(True)
        elif len(self._lobby) < LOBBY:
            self._lobby[channel.fileno()] = channel
        else:
            channel.close()
            return
        self._poll.register(channel, select.POLLIN)

    def _turn_away(self, fd: int) -> None:
        """Answer EBUSY to the first message of a second client and disconnect it."""
        channel = self._lobby[fd]
        with suppress(OSError, ProtocolError):
            if channel.fill():
                message = channel.take()
                if message is None:
                    return
                message.close_fds()
                channel.send(message.id, message.command, p.REPLY | p.ERROR, error=errno.EBUSY)
        del self._lobby[fd]
        self._poll.unregister(fd)
        channel.close()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        self._watch_dma(session.dma_event, -1)
        self._poll.unregister(session.channel)
        session.end()
        if self._on_client:
            self._on_client(False)

    def close(self) -> None:
        """Call it after serve(). Removes the socket file, unless another server has replaced it. Idempotent."""
        self._leave()
        while self._lobby:
            self._lobby.popitem()[1].close()
        self._listener.close()
        with suppress(OSError):
            if os.stat(self.path).st_ino == self._identity:
                os.unlink(self.path)
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


def listen(path: str) -> socket.socket:
    """A listening socket at `path`. Replaces the socket file of a server that has ended. Raises ServerError."""
    remove_dead(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(path)
        listener.listen(LOBBY)
    except OSError as error:
        listener.close()
        reason = str(error) if error.errno is None else error.strerror  # "AF_UNIX path too long" has no errno
        raise ServerError(
            f"no socket can be created at {path}: {reason}. Give a path in a writable folder, such as /tmp/nic.sock"
        ) from None
    return listener


def remove_dead(path: str) -> None:
    """Remove the socket file of a server that has ended. Raises ServerError if the path is in use."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ServerError(f"{path} exists and is not a socket; remove it, or give another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as trial:
            trial.connect(path)
    except ConnectionRefusedError:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return
    except FileNotFoundError:
        return
    except BlockingIOError:  # it listens, and its queue of new connections is full
        pass
    except OSError as error:
        raise ServerError(f"{path} cannot be used: {error.strerror or error}; give another path") from None
    raise ServerError(f"another server listens at {path}; stop it, or give another path")
