"""The socket: connections, their messages, and the turns that they take."""

from __future__ import annotations

import array
import errno
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from . import protocol
from .closer import HOLD_ALL, Closer
from .errors import Refused
from .log import Log
from .policy import Peer, owner, peer_of
from .protocol import MOST_FDS, Message

BACKLOG = 128
SPARE_FDS = 64 + MOST_FDS + HOLD_ALL  # kept for the daemon itself, and for what programs should not have sent
UNREAD = 8  # replies with descriptors that a connection may leave unread
BACK_OFF_MS = 100
CHECK_S = 1.0
REST = 1.25  # times the work: the closer's threads work meanwhile
REST_S = 0.050  # the longest rest
TURNS = select.EPOLLIN | select.EPOLLRDHUP


class Session(Protocol):
    """What the daemon keeps for a connection."""

    def answer(self, message: Message) -> Message:
        """The reply. Descriptors in it stay the session's own."""

    def close(self) -> None: ...


class Connection:
    """One connection: one open of /dev/netmap. session: None until its first message.

    sender: descriptors of one sender wait together to be closed. It is the user; for the daemon's own user and root it
    is the process.
    """

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock, self.peer = sock, peer
        self.session: Session | None = None
        self.sender = (peer.uid, peer.pid if owner(peer.uid) else None)
        self.unread: list[socket.socket] = []  # ends of replies with descriptors that were not read yet


class Server:
    """Accepts connections at `listener`, and gives each ready one a turn of one message.

    admit: makes a Session for a peer, or raises Refused. check: called once a second. most: connections. most_of: how
    many of them a user (uid) may have. A descriptor that the kernel has no room for, or a peer that breaks the
    protocol, ends that connection alone.
    """

    def __init__(
        self,
        listener: socket.socket,
        admit: Callable[[Peer], Session],
        log: Log,
        check: Callable[[], None],
        most: int,
        most_of: Callable[[int, int], int],
    ) -> None:
        self._listener, self._admit, self._log, self._check = listener, admit, log, check
        self._most, self._most_of = most, most_of
        self._connections: dict[int, Connection] = {}
        self._of_user: dict[int, int] = {}  # connections, by uid
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._epoll.register(listener, select.EPOLLIN)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._closer = Closer(self._wake)
        self._held: list[Connection] = []  # have no turns until descriptors are closed
        self._accepts = True

    def serve(self) -> None:
        """Serve until stop().

        Each message stops the service of rings. So in a flood of messages, this thread rests longer than it works.
        """
        next_check = time.monotonic() + CHECK_S
        busy = 0.0
        while not self._stopping:
            if busy and self._epoll.poll(0, maxevents=1):
                time.sleep(min(REST * busy, REST_S))
            ready = self._epoll.poll(max(0, next_check - time.monotonic()), maxevents=16)
            begin = time.monotonic()
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + CHECK_S
                self._check()
                self._resume()
            for fd, events in ready:
                if fd == self._listener.fileno():
                    self._accept()
                elif fd == self._wake:
                    self._resume()
                elif fd in self._connections:
                    self._turn(self._connections[fd], events)
            busy = time.monotonic() - begin

    def stop(self) -> None:
        """Make serve() return. May be called by a signal handler."""
        self._stopping = True
        with suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._closer.end()
        self._epoll.close()
        os.close(self._wake)

    @property
    def connections(self) -> list[Connection]:
        return list(self._connections.values())

    # ---- one event ----

    def _accept(self) -> None:
        if self._closer.holds_all:
            self._accepts = False
            self._epoll.unregister(self._listener)
            return
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                self._log(f"no further connection is possible: {error.strerror}. Raise the limit: ulimit -n")
                select.select([], [], [], BACK_OFF_MS / 1000)
            return
        sock.setblocking(False)
        connection = Connection(sock, peer_of(sock))
        peer = connection.peer
        try:
            self._check_room(peer)
            connection.session = self._admit(peer)
        except Refused as refused:
            self._log(str(refused), peer.pid, peer.uid)
            with suppress(OSError):
                sock.send(Message(protocol.Kind.REFUSED, refused.sentence.encode(), refused.number).pack())
            self._put_away(connection, [sock])
            return
        self._of_user[peer.uid] = self._of_user.get(peer.uid, 0) + 1
        self._connections[sock.fileno()] = connection
        self._epoll.register(sock, TURNS)

    def _check_room(self, peer: Peer) -> None:
        """Raises Refused(ENOMEM), as netmap's open() fails without memory for a handle."""
        if len(self._connections) >= self._most:
            raise Refused(
                errno.ENOMEM, f"{peer} is refused: {self._most} handles are open, the most of this daemon (ulimit -n)"
            )
        if self._of_user.get(peer.uid, 0) >= (most := self._most_of(peer.uid, self._most)):
            raise Refused(
                errno.ENOMEM,
                f"{peer} is refused: this user has {most} handles open, its share, which --user-share sets",
            )

    def _turn(self, connection: Connection, events: int) -> None:
        if self._closer.holds(connection.sender):
            self._epoll.unregister(connection.sock)
            self._held.append(connection)
            return
        try:
            data, fds = protocol.receive(connection.sock)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if not data and not fds:  # the end, or a message of no bytes, which is no request
            if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                self._drop(connection)
            return
        try:
            reply_to = protocol.reply_socket(fds)
        except (ValueError, OSError) as error:
            self._complain(connection, error)
            self._closer.close(connection.sender, fds)
            return
        reply = self._reply(connection, data)
        try:
            protocol_send(reply_to, reply)
        except OSError:
            pass  # the program does not wait any more, or has too many descriptors on their way
        if reply.fds:
            connection.unread.append(reply_to)
        else:
            self._put_away(connection, [reply_to])

    def _reply(self, connection: Connection, data: bytes) -> Message:
        assert connection.session is not None
        try:
            message = protocol.unpack(data)
        except ValueError as error:
            self._complain(connection, error)
            return Message(0, error=errno.EPROTO)
        read = [each for each in connection.unread if was_read(each)]
        connection.unread = [each for each in connection.unread if each not in read]
        self._put_away(connection, read)
        if len(connection.unread) >= UNREAD:
            return Message(message.kind, error=errno.EBUSY)
        return connection.session.answer(message)

    def _complain(self, connection: Connection, error: Exception) -> None:
        peer = connection.peer
        self._log(f"{peer}: {error}", peer.pid, peer.uid)

    def _put_away(self, connection: Connection, socks: Sequence[socket.socket]) -> None:
        """Close sockets that the program has, too, or has sent messages to."""
        self._closer.close(connection.sender, [each.detach() for each in socks])

    def _resume(self) -> None:
        """Connections that had to wait until descriptors were closed have turns again."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        held, self._held = self._held, []
        for connection in held:
            if self._closer.holds(connection.sender):
                self._held.append(connection)
            else:
                self._epoll.register(connection.sock, TURNS)
        if not self._accepts and not self._closer.holds_all:
            self._accepts = True
            self._epoll.register(self._listener, select.EPOLLIN)

    def _drop(self, connection: Connection) -> None:
        if connection in self._held:
            self._held.remove(connection)
        else:
            self._epoll.unregister(connection.sock)
        del self._connections[connection.sock.fileno()]
        self._of_user[connection.peer.uid] -= 1
        self._put_away(connection, [connection.sock, *connection.unread])
        if connection.session is not None:
            connection.session.close()


def protocol_send(sock: socket.socket, message: Message) -> None:
    """Send without waiting. Raises OSError.

    A flag of the call, because the program has the same socket, and may make it blocking at any moment.
    """
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.fds))  # send_fds() drops its flags
    sock.sendmsg([message.pack()], [rights] if message.fds else [], socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


def was_read(sock: socket.socket) -> bool:
    """Whether the other end has read the reply, or is gone."""
    poll = select.poll()
    poll.register(sock, select.POLLHUP)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def raise_limit() -> int:
    """Allow as many descriptors as this user may have. Returns how many handles that gives: 16 descriptors each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
    if soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return max(1, (soft - min(SPARE_FDS, soft // 3)) // 16)
