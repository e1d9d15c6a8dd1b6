"""The vfio-user server: an emulated 82599, or a VF, for another process or a guest. One client at a time."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress

from ..errors import DeviceError
from . import protocol as p
from .listener import Listener
from .memory import AskedMemory, ClientMemory
from .patience import ServerChannel
from .protocol import ProtocolError
from .regions import Function
from .session import Session

LOBBY = 16  # further clients that wait for the answer EBUSY
LOBBY_S = 10.0  # a further client has to send its first message within this time
LEAVE_S = 0.5  # time for the messages that are still in the socket of a client that is gone
TICK_MS = 500
WAKES = 4096  # bytes of the pipe that are read at once
GONE = select.POLLHUP | select.POLLERR


class Server:
    """Exports `nic` (an Emulated82599 or one of its VFs), which the caller owns, at a UNIX socket. Raises ServerError.

    trap_all: no doorbell region, every register access is a message. each_tail: also of tail writes that wait in the
    socket, the NIC gets every one, and not the last only. ask_beyond: DMA outside of mapped windows is sent
    to the client by messages instead of being refused here. trace: called with a line for each message. on_wake:
    called in serve() after wake(). wake_fd: a byte that is written there does what wake() does, for
    signal.set_wakeup_fd(). on_client: called with True when a client is accepted, with False when it is gone.
    clients: servers of this process; their clients share its DMA windows.
    """

    def __init__(
        self,
        nic: Function,
        path: str,
        *,
        trap_all: bool = False,
        each_tail: bool = False,
        ask_beyond: bool = False,
        trace: Callable[[str], None] | None = None,
        on_wake: Callable[[], None] | None = None,
        on_client: Callable[[bool], None] | None = None,
        clients: int = 1,
    ) -> None:
        self._nic, self.path = nic, path
        self._trap_all, self._each_tail, self._trace = trap_all, each_tail, trace
        self._on_wake, self._on_client = on_wake, on_client
        self._memory, self._clients = AskedMemory if ask_beyond else ClientMemory, clients
        self._session: Session | None = None
        self._watched: dict[int, int] = {}  # fds of the session and what poll waits for
        self._gone_at = 0.0  # the time at which the client was seen to be gone; 0: it is there
        self._lobby: dict[int, tuple[ServerChannel, float]] = {}  # with the time until which each may wait
        self._stopping = False
        self._listener = Listener(path, LOBBY)
        self._wake, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    # ---- the loop ----

    def serve(self) -> None:
        """Serve until stop(), in the caller's thread. At the end, and on errors, the client is disconnected.

        After stop() it returns within a second, whatever the client does: without a look at its end it works for
        session.TURN_S and one message, and it never waits for the client.
        """
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
            os.write(self.wake_fd, b"\0")

    def _turn(self) -> None:
        self._watch()
        ready = dict(self._poll.poll(self._patience_ms()))
        if self._session is not None and not self._serve_client(self._session, ready):
            self._leave()
        if self._wake in ready:
            os.read(self._wake, WAKES)
            if self._on_wake and not self._stopping:
                self._on_wake()
        self._receive_in_lobby(ready)  # before new clients, which need room in the lobby
        if self._listener.fileno() in ready:
            self._admit()

    def _watch(self) -> None:
        """Wait for what the client's session can do next: while it is stuffed, only for room in the socket."""
        wanted = {}
        if self._session is not None:
            stuffed = self._session.channel.is_stuffed
            wanted[self._session.channel.fileno()] = select.POLLOUT if stuffed else select.POLLIN
            if self._session.dma_event >= 0 and not stuffed:
                wanted[self._session.dma_event] = select.POLLIN
        if wanted == self._watched:
            return
        for fd in self._watched.keys() - wanted.keys():
            self._poll.unregister(fd)
        for fd, events in wanted.items():
            self._poll.register(fd, events)
        self._watched = wanted

    def _patience_ms(self) -> int | None:
        session = self._session
        if session is not None and session.channel.has_message and not session.channel.is_stuffed:
            return 0
        limited = session is not None and (session.waits or session.channel.has_limit or self._gone_at)
        return TICK_MS if limited or self._lobby else None

    def _serve_client(self, session: Session, ready: dict[int, int]) -> bool:
        """False if the client is gone, or too slow."""
        channel = session.channel
        events = ready.get(channel.fileno(), 0)
        if events & GONE and not self._gone_at:
            self._gone_at = time.monotonic()
        if channel.is_late() or (self._gone_at and time.monotonic() - self._gone_at > LEAVE_S):
            return False
        try:
            channel.flush()
            if (events or channel.has_message) and not channel.is_stuffed and not session.receive():
                return False
            if session.dma_event in ready and not channel.is_stuffed:
                session.carry()
        except OSError:  # the client cannot receive any more
            return False
        session.expire()
        return True

    # ---- clients come and go ----

    def _admit(self) -> None:
        if self._session is not None and is_gone(self._session.channel):
            return  # its end comes first, and is near
        try:
            channel = ServerChannel(self._listener.accept())
        except OSError:  # the client disconnected before it was accepted
            return
        if self._session is not None:
            self._send_to_lobby(channel)
            return
        try:
            self._nic.unshare_doorbells()  # does nothing, unless a former client's end could not do it
        except DeviceError:
            channel.close()
            return
        self._session = Session(
            self._nic,
            channel,
            self._memory(self._nic, self._clients),
            trap_all=self._trap_all,
            each_tail=self._each_tail,
            trace=self._trace,
        )
        if self._on_client:
            self._on_client(True)

    def _send_to_lobby(self, channel: ServerChannel) -> None:
        if len(self._lobby) == LOBBY:
            channel.close()
            return
        self._lobby[channel.fileno()] = channel, time.monotonic() + LOBBY_S
        self._poll.register(channel, select.POLLIN)

    def _receive_in_lobby(self, ready: dict[int, int]) -> None:
        now = time.monotonic()
        for fd, (channel, until) in list(self._lobby.items()):
            if now > until or (fd in ready and turn_away(channel)):
                del self._lobby[fd]
                self._poll.unregister(fd)
                channel.close()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        self._watch()
        self._gone_at = 0.0
        with suppress(DeviceError):  # the doorbells are still shared: _admit() tries again
            session.end()
        if self._on_client:
            self._on_client(False)

    def close(self) -> None:
        """Call it after serve(). Removes the socket file, unless another server has replaced it. Idempotent."""
        self._leave()
        while self._lobby:
            self._lobby.popitem()[1][0].close()
        self._listener.close()
        if self._wake >= 0:
            os.close(self._wake)
            os.close(self.wake_fd)
            self._wake = -1

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


def is_gone(channel: ServerChannel) -> bool:
    """Whether the client has closed its end. Its last messages may still be in the socket."""
    poll = select.poll()
    poll.register(channel, 0)
    return bool(poll.poll(0))


def turn_away(channel: ServerChannel) -> bool:
    """Answer EBUSY to the first message of a second client. False while that message has not arrived whole."""
    try:
        if channel.fill():
            message = channel.take()
            if message is None:
                return False
            message.close_fds()
            channel.send(message.id, message.command, p.REPLY | p.ERROR, error=errno.EBUSY)
    except BlockingIOError:
        return False
    except (OSError, ProtocolError):
        pass
    return True
