"""The driver's queues, as C knows them: a ring joined to a descriptor ring, a doorbell and, for TX, a head write-back.

The ring is shared and not trusted. All else is the driver's memory, given by address; the caller keeps it allocated
while the queue is used. hotloop.py has the calls that sync queues.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, cast
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from .errors import RegionError, RingError
from .layout import MAX_CHAIN, NETMAP_SLOT, RESERVED_BUFFERS, RING_HEADER_SIZE
from .library import another_version, load, not_built
from .memory import Attached
from .offsets import Offsets
from .pages import PageTable
from .region import Region
from .ring import Frames, RxRing, TxRing
from .rules import Rule

DESCRIPTOR_SIZE = 16  # bytes, for both directions (82599 7.1.6, 7.2.3.2.4)
NEVER = 2**64 - 1
CHECK_EVERY = 4096
MIN_FRAME = 17  # bytes; the NIC itself pads frames of this length or more
ATTENTION_VIOLATION = 1
ATTENTION_DRIVER = 2
ATTENTION_TAKEN = -1
MOVED_SHIFT = 2
RULES = {rule.number: rule for rule in Rule}


class Violation(ctypes.Structure):
    """struct violation in hotloop.h."""

    _fields_ = [
        ("rule", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("value", ctypes.c_uint64),
        ("low", ctypes.c_uint64),
        ("high", ctypes.c_uint64),
    ]


class Caller:
    """Something that gives the addresses of queues to C. `_call`: what it calls, which refuse() replaces."""

    __slots__ = ("__weakref__", "_call")
    _call: Callable[..., int]
    forwards: ClassVar[bool] = False  # whether it moves frames between queues

    def hold(self) -> None:
        """One of its queues is held (Queue.hold). What only reads goes on."""

    def refuse(self, sentence: str, kind: type[Exception]) -> None:
        """Every further call raises `kind` with `sentence`."""

        def refused(*_: object) -> int:
            raise kind(sentence)

        self._call = refused


class Queue(ctypes.Structure):
    """The part that both directions have; struct queue in hotloop.h.

    packets, bytes, violations: 64-bit counters, never reset. hwcur: first slot not yet handed to the NIC. hwtail:
    first slot that the application does not own. statistics_due: from this number of packets on, a sync reports that
    the NIC's 32-bit counters should be read. syncs_left: number of syncs until one reports it in any case.
    """

    _fields_ = [
        ("_ring", ctypes.c_uint64),
        ("_buffers", ctypes.c_uint64),
        ("_buffers_iova", ctypes.c_uint64),
        ("_descriptors", ctypes.c_uint64),
        ("_doorbell", ctypes.c_uint64),
        ("_buf_size", ctypes.c_uint32),
        ("_total_buffers", ctypes.c_uint32),
        ("num_slots", ctypes.c_uint32),
        ("_group", ctypes.c_uint32),
        ("_pages", ctypes.c_uint64),
        ("hwcur", ctypes.c_uint32),
        ("hwtail", ctypes.c_uint32),
        ("packets", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("syncs_left", ctypes.c_uint64),
        ("statistics_due", ctypes.c_uint64),
        ("violations", ctypes.c_uint64),
        ("_direct_buffers", ctypes.c_uint32),
        ("_frame_lengths", ctypes.c_uint32),
        ("_page_size", ctypes.c_uint64),
        ("_last", Violation),
        ("_taken", ctypes.c_uint32),
        ("_watchers", ctypes.c_uint32),
        ("_head_only", ctypes.c_uint64),
        ("_second_pass", ctypes.c_uint32),
        ("_most_received", ctypes.c_uint32),
        ("_offset_mask", ctypes.c_uint64),
        ("_offset_max", ctypes.c_uint64),
    ]
    num_slots: int
    hwcur: int
    hwtail: int
    packets: int
    bytes: int
    syncs_left: int
    violations: int
    statistics_due: int
    _last: Violation
    _taken: int
    _watchers: int
    _buffers: int
    _buf_size: int
    _total_buffers: int
    _pages: int

    INDICES: ClassVar[tuple[str, ...]] = ("hwcur", "hwtail")
    COUNTERS: ClassVar[tuple[str, ...]] = ("packets", "bytes", "violations")

    ring: TxRing | RxRing
    offsets: Offsets | None = None
    memory: object = None  # what has to stay mapped as long as C may use the queue
    _closed = ""  # otherwise the sentence that says so
    _refusal: type[Exception] = RegionError
    _held: Callable[[], bool] | None = None
    _callers: WeakSet[Caller]

    def _join(
        self,
        ring: TxRing | RxRing,
        region: Region | Attached,
        region_iova: int | PageTable,
        descriptors: int,
        doorbell: int,
    ) -> None:
        if descriptors % DESCRIPTOR_SIZE or doorbell % 4:
            raise ValueError("descriptors must be aligned to 16 bytes and the doorbell to 4")
        self._callers = WeakSet()
        self.ring = ring  # keeps the region mapped
        self._ring = ring.address
        self._buffers = region.address + region.buffers_offset
        if isinstance(region_iova, PageTable):
            region_iova.check(region)
            self._table = region_iova  # keeps the table in memory
            self._pages, self._page_size = region_iova.address, region_iova.page_size
            self._buffers_iova = region.buffers_offset
        else:
            self._buffers_iova = region_iova + region.buffers_offset
        self._descriptors = descriptors
        self._doorbell = doorbell
        self._buf_size = region.buf_size
        self._frame_lengths = region.buf_size - MIN_FRAME + 1
        self._total_buffers = region.total_buffers
        self.num_slots = ring.num_slots
        self._group = group()
        self.use_offsets(None)
        self.statistics_due = NEVER
        self.syncs_left = CHECK_EVERY

    def ring_at(self, doorbell: int) -> None:
        """The tail register is at this address from now on."""
        self._doorbell = doorbell

    def use_offsets(self, offsets: Offsets | None) -> None:
        """Each slot says where in its buffer its bytes begin; None: at the start. Nothing may sync the queue now."""
        self.offsets = offsets
        self._offset_mask, self._offset_max = (offsets.mask, offsets.most) if offsets else (0, 0)
        self._most_received = offsets.received if offsets else self._buf_size
        self._second_pass = bool(self._pages or offsets)
        self._direct_buffers = 0 if self._second_pass else self._total_buffers - RESERVED_BUFFERS

    def copy_state(self, other: Queue) -> None:
        """Stand where `other` stands, a queue of the same ring: its indices and counters.

        Raises ValueError if one of its indices is not a slot: the process that had it did not stop between two syncs.
        """
        if any(getattr(other, name) >= self.num_slots for name in self.INDICES):
            raise ValueError(f"{self.ring.name}: the queue's indices are not slots of its ring")
        for name in self.INDICES:
            setattr(self, name, getattr(other, name))
        self.copy_counters(other)

    def copy_counters(self, other: Queue) -> None:
        """Take over the counters of `other`, a queue of the same direction."""
        for name in self.COUNTERS:
            setattr(self, name, getattr(other, name))

    def restart(self) -> None:
        """Put queue and ring back to their initial indices, after a reset of the NIC's queue (head and tail are 0)."""
        raise NotImplementedError

    def close(self, sentence: str, kind: type[Exception] = RegionError) -> None:
        """C reads and writes nothing of this queue any more: its memory is about to go, and a program may have kept
        what calls C. From now on each such call raises `kind` with `sentence`. Waits until other threads have left C,
        for milliseconds at most."""
        if not self._closed:
            self._refusal = kind
            self.leave(sentence)
            without_gil("close_queue")(ctypes.byref(self))

    def leave(self, sentence: str) -> None:
        """As close(), in a forked child: no thread of the parent is here, whatever the queue says."""
        self._closed = sentence
        self._held = None
        for caller in list(self._callers):
            caller.refuse(sentence, self._refusal)

    def reopen(self) -> None:
        """Undo close(), for callers made from now on."""
        self._closed = ""
        self._callers = WeakSet()
        self._watchers = self._taken = 0

    def hold(self, resume: Callable[[], bool]) -> None:
        """The NIC's queue is off: no sync and no Forward gives the queue to C before release().

        Each calls `resume()` first, in its own thread, which is the one that may move the ring's indices. While that
        returns False, the sync does nothing and asks for a look after the NIC. Callers that are not held pay nothing:
        what they call is exchanged, as by close(). A thread may be inside C when this returns.
        """
        self._held = resume
        for caller in list(self._callers):
            caller.hold()

    def resume(self) -> bool:
        """Whether C may use the queue: it is not held, or what holds it has switched the NIC's queue on just now."""
        held = self._held
        return held is None or held()

    def release(self) -> None:
        """Undo hold(). Each caller goes on at its next call."""
        self._held = None

    @property
    def held(self) -> bool:
        """Whether hold() was called, and release() was not."""
        return self._held is not None

    def end_forwards(self) -> None:
        """Refuse every Forward of this queue, because its port has other queues now. Who has one makes it again."""
        for caller in list(self._callers):
            if caller.forwards:
                self._callers.discard(caller)  # before the refusal: see settle()
                caller.refuse(self._other_queues(), RegionError)

    def _other_queues(self) -> str:
        return f"{self.ring.name} forwards through other queues now"

    def call_through(self, caller: Caller) -> None:
        """`caller` gives the queue's address to C. Raises what close() was given when the queue is closed."""
        self.check_open()
        self._callers.add(caller)
        self.settle(caller)

    def settle(self, caller: Caller) -> None:
        """`caller` calls C again: refuse it or hold it if the queue was closed or held in between.

        Another thread that does so changes the queue's state first and the caller second. So either this sees the new
        state, or the other thread changes the caller after this.
        """
        if self._closed:
            caller.refuse(self._closed, self._refusal)
        elif caller not in self._callers:
            caller.refuse(self._other_queues(), RegionError)
        elif self._held is not None:
            caller.hold()

    def check_open(self) -> None:
        """Raises what close() was given when the queue is closed."""
        if self._closed:
            raise self._refusal(self._closed)

    def shares_buffers(self, other: Queue) -> bool:
        """Whether both queues have the same buffers."""
        return (self._buffers, self._buf_size) == (other._buffers, other._buf_size)

    def take_error(self) -> RingError | None:
        """Take the violation that the last sync noted, if any."""
        last = self._last
        if not last.rule:
            return None
        rule = RULES[last.rule]
        last.rule = 0
        return RingError(rule, self.ring.name, value=last.value, low=last.low, high=last.high, slot=last.slot)


class TxQueue(Queue):
    """A TX ring joined to a NIC queue. Addresses are of this process, except region_iova.

    region_iova: the region's byte 0 as the NIC sees it, or a PageTable. descriptors: address of num_slots * 16 bytes.
    doorbell: address of TDT. head_writeback: address of the 32-bit word, first 0, that the NIC writes its head to
    (TDWBAL). Raises ValueError when an address is not aligned.
    """

    _fields_ = [("_head_writeback", ctypes.c_uint64), ("_nic_head", ctypes.c_uint32)]
    _nic_head: int
    _head_writeback: int
    ring: TxRing
    INDICES = (*Queue.INDICES, "_nic_head")

    def __init__(
        self,
        ring: TxRing,
        region: Region | Attached,
        *,
        region_iova: int | PageTable,
        descriptors: int,
        doorbell: int,
        head_writeback: int,
    ) -> None:
        super().__init__()
        self.join(
            ring,
            region,
            region_iova=region_iova,
            descriptors=descriptors,
            doorbell=doorbell,
            head_writeback=head_writeback,
        )
        self.restart()

    def join(
        self,
        ring: TxRing,
        region: Region | Attached,
        *,
        region_iova: int | PageTable,
        descriptors: int,
        doorbell: int,
        head_writeback: int,
    ) -> None:
        """As the constructor, but the indices stay: for a queue made by from_buffer() on what another process left."""
        if head_writeback % 4:
            raise ValueError("head_writeback must be aligned to 4 bytes (TDWBAL needs 16)")
        self._head_writeback = head_writeback
        self._join(ring, region, region_iova, descriptors, doorbell)

    def restart(self) -> None:
        self.hwcur = 0
        self.hwtail = self.num_slots - 1
        self._nic_head = 0
        self.ring.restart()

    @property
    def head_writeback(self) -> int:
        """The address of the word."""
        return self._head_writeback

    @property
    def written_head(self) -> int:
        """The head that the NIC has written last, which is not part of a sync yet."""
        return ctypes.c_uint32.from_address(self._head_writeback).value


class RxQueue(Queue):
    """An RX ring joined to a NIC queue. Arguments as for TxQueue; doorbell: address of RDT.

    errors: descriptors with RXE, with more bytes than a buffer, or of a frame without end (MAX_CHAIN descriptors).
    """

    _fields_ = [("errors", ctypes.c_uint64), ("_next", ctypes.c_uint32), ("_chain", ctypes.c_uint32)]
    errors: int
    ring: RxRing
    _next: int
    _chain: int

    INDICES = (*Queue.INDICES, "_next", "_chain")
    COUNTERS = (*Queue.COUNTERS, "errors")

    def __init__(
        self, ring: RxRing, region: Region | Attached, *, region_iova: int | PageTable, descriptors: int, doorbell: int
    ) -> None:
        super().__init__()
        self.join(ring, region, region_iova=region_iova, descriptors=descriptors, doorbell=doorbell)
        self.restart()

    def join(
        self, ring: RxRing, region: Region | Attached, *, region_iova: int | PageTable, descriptors: int, doorbell: int
    ) -> None:
        """As the constructor, but the indices stay: for a queue made by from_buffer() on what another process left."""
        self._join(ring, region, region_iova, descriptors, doorbell)

    def restart(self) -> None:
        self.hwcur = 0
        self.hwtail = 0
        self._next = 0
        self._chain = 0
        self.ring.restart()

    def fill(self, buffers: npt.NDArray[np.uint32] | None = None) -> None:
        """Post a descriptor for every slot: RDT = num_slots - 1. Call it when RXDCTL.ENABLE reads 1 (82599 4.6.7).

        buffers: the index for each slot; default: what is in the slots. Give it where a program may change the slots
        meanwhile. Raises RingError when an index is not a valid buffer, and RegionError when the queue is closed.
        """
        self.check_open()
        shared = self._ring
        if buffers is not None:  # C reads the indices from a ring that no program has
            private = np.zeros(RING_HEADER_SIZE // NETMAP_SLOT.itemsize + self.num_slots, NETMAP_SLOT)
            private["buf_idx"][-self.num_slots :] = buffers
            private["ptr"] = self.offsets.initial if self.offsets else 0
            self._ring = private.ctypes.data
        try:
            attention = library().rx_fill(pointers([self]), 1)
        finally:
            self._ring = shared
        if attention & ATTENTION_VIOLATION:
            raise_violations([self], attention)


class Pair(ctypes.Structure):
    """struct forward in hotloop.h."""

    _fields_ = [
        ("rx", ctypes.c_void_p),
        ("tx", ctypes.c_void_p),
        ("frames", ctypes.c_uint64),
        ("slots", ctypes.c_uint64),
    ]
    frames: int
    slots: int


def pointers(structures: Sequence[ctypes.Structure]) -> object:
    """The addresses of `structures` as an argument for C. It is made once, so that a call has nothing to convert."""
    return ctypes.byref((ctypes.c_void_p * len(structures))(*(ctypes.addressof(structure) for structure in structures)))


def raise_violations(queues: Sequence[Queue], attention: int) -> None:
    """Raise one error for all violations of a sync: the first, with the others in its `also`.

    Raises nothing if another thread synced the same queue right after and reported the violation. attention: what the
    sync returned.
    """
    if attention == ATTENTION_TAKEN:
        for queue in queues:
            queue.check_open()
        taken = next((queue for queue in queues if queue._taken), queues[0])  # the other thread may be done by now
        raise RingError(Rule.ONE_THREAD, taken.ring.name, value=0, low=0, high=0)
    errors = [error for error in (queue.take_error() for queue in queues) if error is not None]
    if errors:
        errors[0].also = tuple(errors[1:])
        raise errors[0]


@lru_cache(maxsize=1)
def library() -> ctypes.PyDLL:
    """The shared library beside this file, after a check of its structures' layout. Its functions keep the GIL.

    Raises LibraryError.
    """
    loaded = load()
    try:
        count = ctypes.c_uint32.in_dll(loaded, "hotloop_layout_count").value
        layout = tuple((ctypes.c_uint32 * count).in_dll(loaded, "hotloop_layout"))
    except ValueError as error:
        raise not_built(error) from error
    if layout != LAYOUT:
        raise another_version()
    return loaded


def without_gil(function: str) -> Callable[..., int]:
    """A function of the library that releases the GIL while it runs: CDLL does that, PyDLL does not."""
    return cast("Callable[..., int]", getattr(ctypes.CDLL(library()._name), function))


def group() -> int:
    """The number of slots that a new queue takes at once: 8 with AVX-512, 4 with AVX2, 0 without vectors.

    IXRINGS_GROUP in the environment limits it. The result in memory is the same for every number.
    Raises ValueError when IXRINGS_GROUP is not 0, 4 or 8.
    """
    asked = os.environ.get("IXRINGS_GROUP", "8")
    if asked not in ("0", "4", "8"):
        raise ValueError(f"IXRINGS_GROUP is {asked}; choose 0, 4 or 8 (slots at once)")
    return min(int(asked), int(library().widest()))


def offset(structure: type[ctypes.Structure], field: str) -> int:
    return int(getattr(structure, field).offset)


# The same list as hotloop_layout in queue.c.
LAYOUT = (
    ctypes.sizeof(Violation),
    ctypes.sizeof(Queue),
    ctypes.sizeof(TxQueue),
    ctypes.sizeof(RxQueue),
    ctypes.sizeof(Pair),
    ctypes.sizeof(Frames),
    offset(Queue, "_doorbell"),
    offset(Queue, "hwcur"),
    offset(Queue, "_group"),
    offset(Queue, "_pages"),
    offset(Queue, "packets"),
    offset(Queue, "_page_size"),
    offset(Queue, "_last"),
    offset(Queue, "_taken"),
    offset(Violation, "value"),
    offset(Queue, "_offset_mask"),
    offset(Queue, "_direct_buffers"),
    offset(Queue, "_frame_lengths"),
    offset(TxQueue, "_head_writeback"),
    offset(TxQueue, "_nic_head"),
    offset(RxQueue, "errors"),
    offset(RxQueue, "_next"),
    Rule.CONTEXT_HEADERS.number,
    Rule.OFFSET.number,
    Rule.OWN_CRC_HERE.number,
    CHECK_EVERY,
    MAX_CHAIN,
    MIN_FRAME,
    MOVED_SHIFT,
)
