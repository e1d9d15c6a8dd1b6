"""Memory for the tails of the client's C loop: the server's doorbell region, or a page that is sent by messages."""

from __future__ import annotations

import abc
import fcntl
import mmap
import os
import threading
from dataclasses import dataclass, field

import numpy as np

from ..doorbell_file import PAGES, DoorbellFile, in_pages
from . import protocol as p
from .connection import Connection
from .protocol import WORD, Command, Message, Region, RegionFlag

LENGTH = len(PAGES) * p.PAGE


@dataclass
class RegionInfo:
    """The answer to GET_REGION_INFO. The caller owns `fds`."""

    flags: int
    size: int
    offset: int
    type: tuple[int, int] | None
    fds: list[int] = field(default_factory=list)


def region_info(connection: Connection, index: int) -> RegionInfo:
    """GET_REGION_INFO, repeated once with more room if the answer has capabilities."""
    answer = ask_region_info(connection, index, p.REGION_INFO.size)
    needed = p.REGION_INFO.unpack_from(answer.payload)[0]
    if p.REGION_INFO.size < needed <= p.PAGE:
        answer.close_fds()
        answer = ask_region_info(connection, index, needed)
    _, flags, _, capability, size, offset = p.REGION_INFO.unpack_from(answer.payload)
    kind = None
    if flags & RegionFlag.CAPS and capability and len(answer.payload) >= capability + p.REGION_TYPE.size:
        id, _, _, *found = p.REGION_TYPE.unpack_from(answer.payload, capability)
        kind = (found[0], found[1]) if id == p.REGION_TYPE_CAPABILITY else None
    return RegionInfo(flags, size, offset, kind, answer.fds)


def ask_region_info(connection: Connection, index: int, argsz: int) -> Message:
    question = p.REGION_INFO.pack(argsz, 0, index, 0, 0, 0)
    return connection.request(Command.DEVICE_GET_REGION_INFO, question, least=p.REGION_INFO.size, keep_fds=True)


class Doorbells(abc.ABC):
    """Memory in which the C loop stores tails."""

    @abc.abstractmethod
    def address(self, offset: int) -> int:
        """Host address at which a store writes the tail register at `offset` of BAR0."""

    @abc.abstractmethod
    def close(self) -> None: ...


class MappedDoorbells(Doorbells):
    """The server's registers, mapped: a store rings the doorbell."""

    def __init__(self, fd: int, offset: int) -> None:
        self._view = np.frombuffer(mmap.mmap(fd, LENGTH, offset=offset), dtype=np.uint8)

    def address(self, offset: int) -> int:
        return int(self._view.ctypes.data) + in_pages(offset)

    def close(self) -> None:
        """Nothing to do: the mapping ends with its last view, because a queue may still store there for a moment."""


class PostedDoorbells(Doorbells):
    """A page of the client, for servers without a doorbell region. ring() sends the tails that changed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # without it, one of two threads might send an older tail last
        self._page = np.zeros(p.PAGE // 4, dtype=np.uint32)
        self._tails = self._page.data
        self._rung: dict[int, int] = {}  # offset of each tail in use -> the value sent last, in the order of the words

    def address(self, offset: int) -> int:
        """As Doorbells.address(). The word of a queue that is set up again starts at 0, as its tail after a reset."""
        self._rung.setdefault(offset, 0)
        word = list(self._rung).index(offset)
        self._rung[offset] = self._tails[word] = 0
        return int(self._page.ctypes.data) + 4 * word

    def ring(self) -> None:
        with self._lock:
            for word, (offset, rung) in enumerate(self._rung.items()):
                tail = self._tails[word]
                if tail != rung:
                    self._rung[offset] = tail
                    self._connection.post(Command.REGION_WRITE, p.ACCESS.pack(offset, Region.BAR0, 4) + WORD.pack(tail))

    def close(self) -> None:
        self._rung.clear()


def map_doorbells(connection: Connection, regions: int) -> MappedDoorbells | None:
    """The doorbell region; None if the server has none that is safe to map, or pages of this machine are not 4 KiB."""
    found = find_doorbells(connection, regions)
    if found is None:
        return None
    fd, offset = found
    try:
        return MappedDoorbells(fd, offset)
    except OSError:  # the server's file cannot be mapped for writing
        return None
    finally:
        os.close(fd)


def doorbell_file(connection: Connection, regions: int) -> DoorbellFile | None:
    """The same region as a file, for another process."""
    found = find_doorbells(connection, regions)
    return None if found is None else DoorbellFile(found[0], lambda offset: found[1] + in_pages(offset))


def find_doorbells(connection: Connection, regions: int) -> tuple[int, int] | None:
    """Descriptor, which the caller closes, and offset of the doorbell region; None as for map_doorbells()."""
    if mmap.PAGESIZE != p.PAGE:
        return None
    for index in range(Region.DOORBELLS, min(regions, Region.DOORBELLS + 16)):
        info = region_info(connection, index)
        try:
            if info.type == p.DOORBELL_TYPE and info.flags & RegionFlag.MMAP and is_safe(info):
                return os.dup(info.fds[0]), info.offset
        finally:
            for fd in info.fds:
                os.close(fd)
    return None


def is_safe(info: RegionInfo) -> bool:
    """Whether all doorbells lie in one file that cannot shrink: a store past its end would kill this process."""
    if len(info.fds) != 1 or info.size < LENGTH or info.offset % p.PAGE:
        return False
    try:
        sealed = fcntl.fcntl(info.fds[0], fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    except OSError:  # a file of a kind that has no seals
        return False
    return bool(sealed) and info.offset + LENGTH <= os.fstat(info.fds[0]).st_size
