"""systemd's two protocols: a socket that it has opened for us, and the message that we are ready."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

FIRST_FD = 3  # SD_LISTEN_FDS_START


def listening_socket() -> socket.socket | None:
    """The socket of LISTEN_FDS, or None if there is none. Raises ValueError for a socket that we cannot use."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    if os.environ["LISTEN_FDS"] != "1":
        raise ValueError(
            f"LISTEN_FDS={os.environ['LISTEN_FDS']}: the socket unit must have one ListenSequentialPacket="
        )
    sock = socket.socket(fileno=FIRST_FD)
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        raise ValueError("the socket of LISTEN_FDS has another type; write ListenSequentialPacket= in the socket unit")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def notify(state: str) -> None:
    """Tell systemd the state, such as READY=1, if it asked for it (NOTIFY_SOCKET)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(state.encode(), address)
