"""The daemon's service thread from Python: its structures, a handle's control pages, and the loop.

A handle is what one open of /dev/netmap has bound. Its program asks for syncs through two pages of shared memory
(control.h), and one thread, in C and without the GIL, answers all handles (service.c). Only that thread changes handles
and rings, between two calls of Service.run().
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import ClassVar, Protocol

from .library import another_version
from .memory import Mapping, map_shared
from .queue import Queue, RxQueue, TxQueue, library, without_gil
from .region import Region
from .ring import RxRing, TxRing

PAGE = mmap.PAGESIZE
CONTROL_VERSION = 2
TAILS = 960  # CONTROL_TAILS of control.h
F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h; fcntl has it from Python 3.13 on
EVENT_RX = 1  # CONTROL_ of control.h
EVENT_TX = 2
EVENT_ERROR = 4
NO_TX_POLL = 1  # HANDLE_ of service.h
DO_RX_POLL = 2


class Reason(IntEnum):
    """Why Service.run() has returned."""

    SLEEP = 1  # nothing to do: arm interrupts, ask ready(), and wait
    COMMAND = 2  # stop() was called
    ATTENTION = 3  # a NIC's driver should look after it: see Kring.attention
    VIOLATION = 4  # a program broke a rule: see Queue.take_error(). At most ten times a second while others are served


class Kind(IntEnum):
    """What is behind a ring: enum kring_kind."""

    NIC = 0
    NULL = 1
    PIPE = 2
    SWITCH = 3
    HOST = 4
    MONITOR = 5
    ENDED = 6
    KINDS = 7


class SoftQueue(Queue):
    """A ring without a NIC's queue: struct queue, without descriptors and doorbell."""

    def __init__(self, ring: TxRing | RxRing, region: Region) -> None:
        super().__init__()
        self._join(ring, region, 0, 0, 0)
        self.restart()

    def restart(self) -> None:
        self.hwcur = 0
        self.hwtail = self.num_slots - 1 if isinstance(self.ring, TxRing) else 0
        self.ring.restart()


class Kring(ctypes.Structure):
    """The daemon's side of a netmap ring: struct kring in service.h. Several handles may have the same one.

    queue: its struct queue, which has the counters. attention: ATTENTION_ bits that syncs returned; clear them after a
    look. stamp: 1 to stamp the ring's `ts` at each rxsync, as netmap does. drops: frames that found no room.
    """

    _fields_ = [
        ("q", ctypes.c_uint64),
        ("kind", ctypes.c_uint32),
        ("tx", ctypes.c_uint32),
        ("filled", ctypes.c_uint32),
        ("synced_head", ctypes.c_uint32),
        ("behind", ctypes.c_uint64),
        ("monitors", ctypes.c_uint64),
        ("zone_of", ctypes.c_uint64),
        ("zone", ctypes.c_uint32),
        ("stamp", ctypes.c_uint32),
        ("drops", ctypes.c_uint64),
        ("attention", ctypes.c_uint32),
    ]
    kind: int
    tx: int
    filled: int
    synced_head: int
    behind: int
    monitors: int
    zone_of: int
    zone: int
    stamp: int
    drops: int
    attention: int
    queue: Queue

    def __init__(self, kind: Kind, queue: Queue, *, tx: bool) -> None:
        super().__init__(q=ctypes.addressof(queue), kind=kind, tx=tx, stamp=not tx)
        self.queue = queue  # keeps it in memory
        self.behind_it: object = None  # the same for what C finds at `behind`,
        self.watchers: list[object] = []  # and in the list at `monitors` (soft.py)
        self.filled = queue.hwtail

    @classmethod
    def nic(cls, queue: TxQueue | RxQueue) -> Kring:
        """A ring of a NIC's queue."""
        return cls(Kind.NIC, queue, tx=isinstance(queue, TxQueue))

    @classmethod
    def null(cls, queue: Queue, tx: bool) -> Kring:
        """Frames to send vanish, and none is received."""
        return cls(Kind.NULL, queue, tx=tx)


class Ask(ctypes.Structure):
    """struct ask in control.h, with what fills its cache line."""

    _fields_ = [
        ("ticket", ctypes.c_uint32),
        ("sleepers", ctypes.c_uint32),
        ("events", ctypes.c_uint32),
        ("csb", ctypes.c_uint32),
        ("to_cache_line", ctypes.c_uint32 * 12),
    ]


class Asks(ctypes.Structure):
    """The page that the program writes."""

    _fields_ = [("tx", Ask), ("rx", Ask), ("poll", Ask)]


class Answer(ctypes.Structure):
    """struct answer in control.h. violations: how often the program broke a rule; the last one is in the others."""

    _fields_ = [
        ("done", ctypes.c_uint32),
        ("ready", ctypes.c_uint32),
        ("violations", ctypes.c_uint64),
        ("rule", ctypes.c_uint32),
        ("ringid", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("value", ctypes.c_uint64),
        ("low", ctypes.c_uint64),
        ("high", ctypes.c_uint64),
        ("to_cache_line", ctypes.c_uint64),
    ]
    violations: int


class Answers(ctypes.Structure):
    """The page that the daemon writes."""

    _fields_ = [
        ("tx", Answer),
        ("rx", Answer),
        ("poll", Answer),
        ("sleeping", ctypes.c_uint32),
        ("closed", ctypes.c_uint32),
        ("version", ctypes.c_uint32),
        ("to_cache_line", ctypes.c_uint32 * 13),
        ("tails", ctypes.c_uint32 * TAILS),
    ]
    tx: Answer
    rx: Answer
    closed: int
    version: int


class HandleState(ctypes.Structure):
    """struct handle in service.h."""

    _fields_ = [
        ("asks", ctypes.c_uint64),
        ("answers", ctypes.c_uint64),
        ("tx", ctypes.c_uint64),
        ("rx", ctypes.c_uint64),
        ("tx_count", ctypes.c_uint32),
        ("rx_count", ctypes.c_uint32),
        ("kick", ctypes.c_int),
        ("wake_rx", ctypes.c_int),
        ("wake_tx", ctypes.c_int),
        ("poll_flags", ctypes.c_uint32),
        ("armed", ctypes.c_uint32),
        ("signalled", ctypes.c_uint32),
        ("tx_done", ctypes.c_uint32),
        ("rx_done", ctypes.c_uint32),
        ("poll_done", ctypes.c_uint32),
        ("broken", ctypes.c_uint32),
        ("csb", ctypes.c_uint32),
        ("syncs", ctypes.c_uint64),
    ]
    armed: int
    syncs: int


class Task(Protocol):
    """Work of the service that no program asks for: an object with a struct task, whose function is in C."""

    @property
    def task(self) -> ctypes.Structure: ...


class TaskState(ctypes.Structure):
    """struct task in service.h. work: address of the C function. of: what it works on."""

    _fields_ = [("work", ctypes.c_uint64), ("of", ctypes.c_uint64), ("attention", ctypes.c_uint32)]


class ServiceState(ctypes.Structure):
    """struct service in service.h."""

    _fields_ = [
        ("handles", ctypes.c_uint64),
        ("handle_count", ctypes.c_uint32),
        ("task_count", ctypes.c_uint32),
        ("tasks", ctypes.c_uint64),
        ("stop", ctypes.c_uint32),
        ("attention", ctypes.c_uint32),
        ("spin_ns", ctypes.c_uint64),
        ("now_ns", ctypes.c_uint64),
        ("passes", ctypes.c_uint64),
        ("syncs", ctypes.c_uint64),
        ("asleep", ctypes.c_uint32),
        ("broken", ctypes.c_uint32),
        ("told_ns", ctypes.c_uint64),
    ]
    asleep: int


class Work:
    """A task that is a C function: `bool work(struct task *, uint64_t now_ns)` at this address."""

    def __init__(self, function: int) -> None:
        self.task = TaskState(work=function)


class Addresses:
    """A C array of the addresses of structures, which it keeps in memory."""

    def __init__(self, structures: Sequence[ctypes.Structure]) -> None:
        self._structures = tuple(structures)
        self._array = (ctypes.c_void_p * max(len(structures), 1))(*map(ctypes.addressof, structures))
        self.count = len(structures)
        self.address = ctypes.addressof(self._array)


class Wake:
    """A level that a program polls: readable while a direction is ready. fd: what the program gets.

    The service writes `eventfd`, which only this process has. The program gets an epoll descriptor that watches it: a
    program that had the eventfd could fill it and make it blocking, so that a write stops the service.
    """

    def __init__(self) -> None:
        self.eventfd = eventfd()
        try:
            self._epoll = select.epoll()
            self._epoll.register(self.eventfd, select.EPOLLIN)
        except BaseException:
            os.close(self.eventfd)
            raise

    @property
    def fd(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        os.close(self.eventfd)


class Handle:
    """The control pages and descriptors of one open of /dev/netmap, and the rings that it has bound.

    tx, rx: its rings, in the order of netmap's. flags: NO_TX_POLL, DO_RX_POLL. Raises OSError when memory or
    descriptors are short.

    descriptors: what the program gets, in the order of the message that carries them: asks (memfd), answers (memfd, to
    be mapped for reading), kick (eventfd), wake_rx, wake_tx (to be polled for reading, never read).
    """

    def __init__(self, tx: Sequence[Kring], rx: Sequence[Kring], flags: int = 0) -> None:
        self.tx, self.rx = tuple(tx), tuple(rx)
        self._rings = Addresses(self.tx), Addresses(self.rx)
        self._open: list[int] = []
        self._wakes: list[Wake] = []
        try:
            self._make(flags)
        except BaseException:
            self._close_descriptors()
            raise

    def _make(self, flags: int) -> None:
        self._asks = self._page("ixrings-asks", 0)
        self._answers = self._page("ixrings-answers", F_SEAL_FUTURE_WRITE)
        self.kick = eventfd()
        self._open.append(self.kick)
        for _ in range(2):
            self._wakes.append(Wake())
        wake_rx, wake_tx = self._wakes
        tx, rx = self._rings
        self.asks = Asks.from_buffer(self._asks.memory)
        self.answers = Answers.from_buffer(self._answers.memory)
        self.answers.version = CONTROL_VERSION
        self.state = HandleState(
            asks=self._asks.address, answers=self._answers.address, tx=tx.address, rx=rx.address, tx_count=tx.count,
            rx_count=rx.count, kick=self.kick, wake_rx=wake_rx.eventfd, wake_tx=wake_tx.eventfd, poll_flags=flags,
        )  # fmt: skip
        self.descriptors = (*self._open, wake_rx.fd, wake_tx.fd)

    def _page(self, name: str, seal: int) -> Mapping:
        """A memfd of one page, mapped here. Sealed after that, so that `seal` may forbid others to write."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._open.append(fd)
        os.ftruncate(fd, PAGE)
        mapping = map_shared(fd, PAGE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return mapping

    @property
    def syncs(self) -> int:
        """Syncs of rings so far."""
        return self.state.syncs

    @property
    def armed(self) -> int:
        """EVENT_RX, EVENT_TX: the directions that a poll waits for."""
        return self.state.armed

    @property
    def violations(self) -> int:
        """How often the program broke a rule."""
        return self.answers.tx.violations + self.answers.rx.violations

    @property
    def closed(self) -> bool:
        return not self._open

    def close(self, error: int = errno.ENXIO) -> None:
        """Answer no request any more: each ends with `error`, an errno. Take it out of the service first
        (Service.set)."""
        if not self.closed:
            service_library().handle_close(ctypes.byref(self.state), error)
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        for wake in self._wakes:
            wake.close()
        for fd in self._open:
            os.close(fd)
        self._wakes, self._open = [], []


class Service:
    """The loop over all handles and tasks.

    spin_ns: how long it looks for work before it returns SLEEP. kicks: a descriptor that is readable when a program has
    kicked the sleeping service; wait for it beside interrupts, and never read it: run() does.
    """

    LOOK: ClassVar[int] = select.EPOLLIN | select.EPOLLET  # edge-triggered: a kick is never read, which could block

    def __init__(self, spin_ns: int = 1000) -> None:
        service_library()
        self._run = without_gil("service_run")
        self._ready = service_library().service_ready
        self.state = ServiceState(spin_ns=spin_ns)
        self._reference = ctypes.byref(self.state)
        self._epoll = select.epoll()
        self.handles: tuple[Handle, ...] = ()
        self.tasks: tuple[Task, ...] = ()
        self._addresses: tuple[Addresses, Addresses]
        self.set((), ())

    @property
    def kicks(self) -> int:
        return self._epoll.fileno()

    def set(self, handles: Sequence[Handle], tasks: Sequence[Task] = ()) -> None:
        """From now on the service has these handles and tasks. Only while run() is not running, in its thread."""
        self.awake()
        for handle in set(self.handles).difference(handles):
            self._epoll.unregister(handle.kick)
        for handle in set(handles).difference(self.handles):
            self._epoll.register(handle.kick, self.LOOK)
        self.handles, self.tasks = tuple(handles), tuple(tasks)
        served, working = Addresses([handle.state for handle in handles]), Addresses([task.task for task in tasks])
        self.state.handles, self.state.handle_count = served.address, served.count
        self.state.tasks, self.state.task_count = working.address, working.count
        self._addresses = served, working

    def run(self) -> Reason:
        """Serve until there is a reason to return. The GIL is released."""
        if self.state.asleep:
            self.awake()
        return Reason(self._run(self._reference))

    def ready(self) -> bool:
        """After SLEEP: whether run() would find something to do now. Ask it when interrupts are armed."""
        return bool(self._ready(self._reference))

    def awake(self) -> None:
        """After SLEEP: programs need no kick from now on, and kicks so far are forgotten. run() does this, too."""
        for handle in self.handles:
            handle.answers.sleeping = 0
        self.state.asleep = 0
        self._epoll.poll(0, max(len(self.handles), 1))

    def stop(self) -> None:
        """run() returns COMMAND soon. From any thread. A thread that sleeps after SLEEP has to be woken besides."""
        self.state.stop = 1

    def close(self) -> None:
        self.set((), ())
        self._epoll.close()


def eventfd() -> int:
    """A new eventfd, non-blocking. Raises OSError."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


@lru_cache(maxsize=1)
def service_library() -> ctypes.PyDLL:
    """The C library, after a check of the layout of the structures here. Raises LibraryError."""
    loaded = library()
    count = ctypes.c_uint32.in_dll(loaded, "service_layout_count").value
    if tuple((ctypes.c_uint32 * count).in_dll(loaded, "service_layout")) != LAYOUT:
        raise another_version()
    return loaded


def offset(structure: type[ctypes.Structure], field: str) -> int:
    return int(getattr(structure, field).offset)


# The same list as service_layout in service.c.
LAYOUT = (
    ctypes.sizeof(Kring),
    ctypes.sizeof(HandleState),
    ctypes.sizeof(TaskState),
    ctypes.sizeof(ServiceState),
    ctypes.sizeof(Asks),
    ctypes.sizeof(Answers),
    offset(Kring, "filled"),
    offset(Kring, "behind"),
    offset(Kring, "zone_of"),
    offset(Kring, "stamp"),
    offset(Kring, "drops"),
    offset(Kring, "attention"),
    offset(HandleState, "tx"),
    offset(HandleState, "kick"),
    offset(HandleState, "armed"),
    offset(HandleState, "syncs"),
    offset(ServiceState, "tasks"),
    offset(ServiceState, "stop"),
    offset(ServiceState, "spin_ns"),
    offset(ServiceState, "asleep"),
    offset(ServiceState, "told_ns"),
    offset(Asks, "poll"),
    offset(Ask, "events"),
    offset(Ask, "csb"),
    offset(Answers, "sleeping"),
    offset(Answers, "tails"),
    offset(Answer, "violations"),
    offset(Answer, "value"),
    Kind.KINDS,
    CONTROL_VERSION,
)
