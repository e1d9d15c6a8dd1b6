"""The server's end of a socket: it never waits for its client, and a slow client has a time limit."""

from __future__ import annotations

import array
import socket
import time
from collections import deque
from collections.abc import Sequence

from . import protocol as p
from .protocol import Channel, Message

HALF_A_MESSAGE_S = 10.0  # a message has to arrive within this time after its first bytes


class ServerChannel(Channel):
    """A channel whose `fill` and `send` do not block. What does not fit into the socket waits here for `flush`.

    The server takes no message while `is_stuffed`. So at most one message's answer waits, whatever the client does.
    """

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        connected.setblocking(False)
        self._unsent: deque[tuple[bytes, Sequence[int]]] = deque()  # the rest of each message, and fds not yet sent
        self._stuffed_since = 0.0
        self._amid_since = 0.0  # the time at which the incomplete message began; 0: there is none

    @property
    def is_stuffed(self) -> bool:
        """Whether the client has to receive before more can be sent."""
        return bool(self._unsent)

    @property
    def has_limit(self) -> bool:
        """Whether `is_late` may become true without any event."""
        return bool(self._unsent or self._amid_since)

    def is_late(self) -> bool:
        """Whether the client took too long to receive an answer (SEND_S), or to send a message."""
        now = time.monotonic()
        if self._unsent and now - self._stuffed_since > p.SEND_S:
            return True
        return bool(self._amid_since) and now - self._amid_since > HALF_A_MESSAGE_S

    def take(self) -> Message | None:
        message = super().take()
        if message is not None or not self.is_amid_message:
            self._amid_since = 0.0
        elif not self._amid_since:
            self._amid_since = time.monotonic()
        return message

    def send(
        self, id: int, command: int, flags: int, payload: bytes = b"", fds: Sequence[int] = (), error: int = 0
    ) -> None:
        """Send a message now or in `flush`; `fds` have to stay open until then. Raises OSError."""
        if not self._unsent:
            self._stuffed_since = time.monotonic()
        self._unsent.append((p.pack(id, command, flags, payload, error), fds))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket has room. Raises OSError."""
        while self._unsent:
            data, fds = self._unsent[0]
            extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self.socket.sendmsg([data], extra)
            except BlockingIOError:
                return
            if sent < len(data):
                self._unsent[0] = (data[sent:], ())  # fds go with the first byte
            else:
                self._unsent.popleft()
