"""A UNIX socket that one server at a time listens at."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import ServerError

LOCK_S = 10.0  # another server holds the lock for well under a second


class Listener:
    """A listening socket at `path`. Replaces the socket file of a server that has ended. Raises ServerError.

    kind: SOCK_STREAM or SOCK_SEQPACKET.
    """

    def __init__(self, path: str, backlog: int, kind: int = socket.SOCK_STREAM) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with locked_folder(path):
                remove_dead(path, kind)
                self._socket.bind(path)
                self._socket.listen(backlog)
                self._identity = identity(path)
        except OSError as error:
            self._socket.close()
            reason = str(error) if error.errno is None else error.strerror  # "AF_UNIX path too long" has no errno
            raise ServerError(
                f"no socket can be created at {path}: {reason}. Give a path in a writable folder, such as /tmp/nic.sock"
            ) from None
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def listening(self) -> socket.socket:
        """The listening socket itself, which stays this object's."""
        return self._socket

    def accept(self) -> socket.socket:
        """Raises OSError if the client has disconnected."""
        return self._socket.accept()[0]

    def close(self) -> None:
        """Removes the socket file, unless another server has replaced it. Idempotent."""
        if self._socket.fileno() < 0:
            return
        with suppress(OSError, ServerError), locked_folder(self._path):
            # While this socket is open, its file cannot be replaced, and its inode belongs to no other file.
            if identity(self._path) == self._identity:
                os.unlink(self._path)
        self._socket.close()


def identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


@contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """Only one server at a time changes sockets in the folder of `path`. Leaves no file behind. Raises OSError.

    Without the lock two servers could find the same dead socket, and the second would remove the socket of the first.
    """
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ServerError(
                        f"another program keeps the folder of {path} locked; give a path in another folder"
                    ) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(folder)


def remove_dead(path: str, kind: int) -> None:
    """Remove the socket file of a server that has ended. Raises ServerError if the path is in use."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ServerError(f"{path} exists and is not a socket; remove it, or give another path")
        with socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as trial:
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
    raise ServerError(f"another server listens at {path}; stop it, or give another path: --socket PATH")
