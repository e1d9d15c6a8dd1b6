"""Where the daemon listens: its socket's file, with owner, group and mode; or a socket that systemd gives."""

from __future__ import annotations

import os
import socket

from ixrings.hw.errors import ServerError
from ixrings.hw.vfio_user.listener import Listener

from . import systemd
from .policy import Policy
from .server import BACKLOG


class Place:
    """A listening socket of type SOCK_SEQPACKET. The file of a daemon that has ended is replaced.

    Raises ServerError if another daemon listens there, or the file cannot be made.
    """

    def __init__(self, path: str, policy: Policy) -> None:
        self._made: Listener | None = None
        given = systemd.listening_socket()
        if given is not None:
            self.listener, self.path = given, str(given.getsockname())
            return
        self.path = path
        make_folder(os.path.dirname(path))
        before = os.umask(0o177)  # nobody else connects before the owner is set
        try:
            self._made = Listener(path, BACKLOG, socket.SOCK_SEQPACKET)
        finally:
            os.umask(before)
        try:
            if (policy.user, policy.group) != (os.geteuid(), os.getegid()):
                os.chown(path, policy.user, policy.group)
            os.chmod(path, policy.mode)
        except OSError as error:
            self.close()
            raise ServerError(
                f"the owner of {path} cannot be changed: {error.strerror}. Start the daemon as root, or choose a group "
                "that you are in"
            ) from None
        self.listener = self._made.listening

    def close(self) -> None:
        """Remove the file. May be called again."""
        if self._made is not None:
            self._made.close()
        elif hasattr(self, "listener"):
            self.listener.close()

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_folder(folder: str) -> None:
    """Make the folder of a default path. Its parent, such as /run, is there. Raises ServerError."""
    if not folder or os.path.isdir(folder):
        return
    try:
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # whatever the umask: the socket's mode decides who may connect
    except OSError as error:
        raise ServerError(f"{folder} cannot be made: {error.strerror}. Give a path that is there: --socket") from None
