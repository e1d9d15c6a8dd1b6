"""Files that programs write. An output never overwrites a file of another kind, or one that is an input just now."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

Path: TypeAlias = str | os.PathLike[str]

GZIP_MAGIC = b"\x1f\x8b"
FIRST_BYTES = 4096  # enough to know a file by


@dataclass(frozen=True)
class FileKind:
    """A kind of file, told by its first bytes. name: with its article, for messages.

    gzipped: a file that begins so after decompression by gunzip is of this kind, too.
    """

    name: str
    begins: tuple[bytes, ...]
    gzipped: bool = False


class OutputRefused(OSError):
    """A file is not overwritten. The message names the reason."""

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {self.strerror}"


def open_output(path: Path, kind: FileKind) -> int:
    """An fd for a new file at `path`. An earlier file of the same kind is overwritten.

    While the fd is open, no other output is written to the same file, whatever its name (flock(2)).
    Raises OSError, and OutputRefused before anything is changed.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            check_kind(path, kind)
            if not lock(fd, fcntl.LOCK_EX):
                raise refused(path, "a port or a program reads or writes this file now; give another name")
            os.ftruncate(fd, 0)
        return fd
    except BaseException:
        os.close(fd)
        raise


def check_kind(path: Path, kind: FileKind) -> None:
    """Raises OutputRefused if `path` is a file with something else than `kind` in it."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            return
        with open(path, "rb") as file:
            first = file.read(FIRST_BYTES)
        inside = unzipped(first) if kind.gzipped else b""
        if first and not first.startswith(kind.begins) and not inside.startswith(kind.begins):
            raise refused(
                path,
                f"it exists and is not {kind.name}; it begins with the bytes {first[:4].hex(' ')}. Give another name, "
                f"or delete it: rm {os.fspath(path)}",
            )


def hold_input(path: Path) -> int:
    """An fd that keeps the file at `path` from being overwritten by an output. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    lock(fd, fcntl.LOCK_SH)  # a file that is still being written may be read
    return fd


def unzipped(first: bytes) -> bytes:
    """The first bytes of what gzip has compressed to a file that begins with `first`; b"" for another file."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(first, FIRST_BYTES)
    except zlib.error:
        return b""


@contextmanager
def held_input(path: Path) -> Iterator[None]:
    """Within the context no output overwrites the file at `path`. Raises OSError."""
    fd = hold_input(path)
    try:
        yield
    finally:
        os.close(fd)


def lock(fd: int, how: int) -> bool:
    """Whether this lock is held now. Where the file system has no locks, True."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def refused(path: Path, reason: str) -> OutputRefused:
    return OutputRefused(errno.EEXIST, reason, os.fspath(path))
