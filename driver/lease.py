"""What the owner of a port and a worker agree on when the worker has one of its queues (share.py, worker.py).

A handle has descriptors of a channel, a control file, the port's region, the tail registers, and the DMA memory of the
queue. Whoever takes the token from the channel has the queue; a second process finds no token. The kernel closes the
channel when a process ends, also when it is killed: so each side learns that the other has ended.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from ixrings.rings.pages import PageTable
from ixrings.rings.queue import RxQueue, TxQueue

TOKEN = b"1"
MOST_FDS = 16  # descriptors of a handle are fewer
PAGE = mmap.PAGESIZE
TX_AT, RX_AT = 1024, 2048  # bytes from the start of the control file to the hot loop's queues; pages follow at PAGE
CHANNEL, CONTROL, REGION, DOORBELLS = range(4)  # the order of the descriptors; further ones are of DMA memory


class Word(IntEnum):
    """The 32-bit words at the start of the control file, and who writes them."""

    REVOKED = 0  # the owner: the worker has to give the queue back
    RETURNED = 1  # the worker: it stopped between two syncs, so the queues in this file can go on
    PID = 2  # the worker


class Control:
    """The control file, mapped: words, the state of the hot loop's queues, and the bus addresses of the region's pages.

    The worker's C loop runs on the queues in this file. The owner therefore sees its counters at any time, and can make
    its next sync ask for attention. Owner and worker trust each other here; the program of neither is trusted more than
    the other (driver/README.md, "Processes that share a port").
    """

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self.words = memoryview(self._memory).cast("I")[: len(Word)]

    @staticmethod
    def make(pages: Sequence[int]) -> int:
        """A new file, all zero but for the addresses of `pages`. The caller closes it. Raises OSError."""
        fd = os.memfd_create("ixrings-share", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, PAGE + 8 * len(pages))
            os.pwrite(fd, np.array(pages, np.uint64).tobytes(), PAGE)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def tx(self) -> TxQueue:
        return TxQueue.from_buffer(self._memory, TX_AT)

    def rx(self) -> RxQueue:
        return RxQueue.from_buffer(self._memory, RX_AT)

    def pages(self, count: int) -> list[int]:
        found: npt.NDArray[np.uint64] = np.frombuffer(self._memory, np.uint64, count, PAGE)
        return [int(page) for page in found]


@dataclass(frozen=True)
class Place:
    """Memory in the file of descriptor `file` of the handle, which has `size` bytes."""

    file: int
    size: int
    offset: int


@dataclass(frozen=True)
class Side:
    """One direction of the shared queue. doorbell: place of the tail register. head: of the write-back word (TX)."""

    slots: int
    descriptors: Place
    doorbell: int
    head: Place | None = None


@dataclass(frozen=True)
class Facts:
    """What a handle says beside its descriptors. port: its name. owner: the process that opened it.

    iova: of the region's byte 0; with `pages`, the control file has a bus address for each `page_size` bytes instead.
    """

    port: str
    queue: int
    owner: int
    if_offset: int
    region_size: int
    buf_size: int
    total_buffers: int
    buffers_offset: int
    iova: int
    pages: int
    page_size: int
    busy_poll: bool
    interval_s: float
    tx: Side | None
    rx: Side | None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Facts:
        """Raises ValueError if `data` is something else."""
        try:
            found = json.loads(data)
            return cls(**{**found, "tx": read_side(found["tx"]), "rx": read_side(found["rx"])})
        except (KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"not a shared queue: {error}") from None

    @property
    def name(self) -> str:
        return f"queue {self.queue} of {self.port}"


def read_side(found: dict[str, object] | None) -> Side | None:
    if found is None:
        return None
    places = {key: Place(**found[key]) if found[key] else None for key in ("descriptors", "head")}  # type: ignore[arg-type]
    return Side(**{**found, **places})  # type: ignore[arg-type]


def region_iova(facts: Facts, control: Control) -> int | PageTable:
    """The region's byte 0 as the NIC sees it, for the hot loop."""
    return PageTable(control.pages(facts.pages), facts.page_size) if facts.pages else facts.iova


def make_channel() -> tuple[socket.socket, socket.socket]:
    """The owner's end and the worker's end, in which a token waits for the worker."""
    owners, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    owners.send(TOKEN)
    return owners, workers


def take_token(fd: int) -> bool:
    """Whether the caller is the first to take it from the worker's end. The kernel gives it only once."""
    return receive_token(fd, socket.MSG_DONTWAIT)


def token_waits(fd: int) -> bool:
    """Whether nobody has taken it."""
    return receive_token(fd, socket.MSG_DONTWAIT | socket.MSG_PEEK)


def receive_token(fd: int, flags: int) -> bool:
    channel = socket.socket(fileno=fd)
    try:
        return channel.recv(len(TOKEN), flags) == TOKEN
    except (BlockingIOError, ConnectionError):
        return False
    finally:
        channel.detach()  # the descriptor stays open


def other_has_ended(channel: socket.socket) -> bool:
    """Whether every process that had the other end has closed it or has ended."""
    try:
        return channel.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:  # it is broken, or another thread has closed it here
        return True
