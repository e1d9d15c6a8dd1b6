"""The C loop's Python face: queues it works on, and one call each for txsync, rxsync and forward.

A queue joins a ring (shared, untrusted) to a descriptor ring, a doorbell and, for TX, a head write-back word (the
driver's own memory, given by address). The caller keeps that memory alive as long as the queue is used.
A sync keeps the GIL (it takes microseconds), so two threads in one queue take turns. Only BusyWait lets go of it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from .errors import LibraryError, RingError
from .layout import MAX_CHAIN, RESERVED_BUFFERS
from .region import Region
from .ring import RxRing, TxRing
from .rules import Rule

DESCRIPTOR_SIZE = 16  # bytes; either direction (82599 7.1.6, 7.2.3.2.4)
_NEVER = 2**64 - 1
_CHECK_EVERY = 4096
_MIN_FRAME = 17  # bytes; the NIC pads by itself from there on
_VIOLATION = 1
_DRIVER = 2
_MOVED_SHIFT = 2
_MOST = 2**32 - 1
_RULES = {rule.number: rule for rule in Rule}


class _Violation(ctypes.Structure):
    _fields_ = [
        ("rule", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("value", ctypes.c_uint64),
        ("low", ctypes.c_uint64),
        ("high", ctypes.c_uint64),
    ]


class PageTable:
    """Where the NIC sees a region whose pages are not neighbours in its eyes: without an IOMMU.

    pages: bus address of each `page_size` bytes, from the region's byte 0 on. Raises ValueError for a page_size that is no power of two.
    """

    def __init__(self, pages: Sequence[int], page_size: int) -> None:
        if page_size <= 0 or page_size & (page_size - 1):
            raise ValueError(f"a page has a power of two of bytes, not {page_size}")
        self.page_size = page_size
        self._pages = (ctypes.c_uint64 * len(pages))(*pages)
        self.address = ctypes.addressof(self._pages)

    def check(self, region: Region) -> None:
        """Raises ValueError when the region is larger than the table, or a buffer of it lies in two pages."""
        if len(self._pages) * self.page_size < region.size:
            raise ValueError(
                f"{len(self._pages)} pages of {self.page_size} bytes do not cover the region's {region.size}"
            )
        if self.page_size % region.buf_size or region.buffers_offset % region.buf_size:
            raise ValueError(
                f"without an IOMMU a buffer must not lie in two pages, and {self.page_size}-byte pages are no multiple of "
                f"{region.buf_size} bytes. Open the port with buf_size=2048"
            )


class Queue(ctypes.Structure):
    """What both directions have. Counters are 64 bits and never reset: packets, bytes, violations.

    hwcur: first slot not yet handed to the NIC. hwtail: first slot not the application's. statistics_due: the number
    of packets from which on a sync says that the hardware's 32-bit counters should be read. syncs_left: until one says so in any case.
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
        ("_last", _Violation),
    ]
    num_slots: int
    hwcur: int
    hwtail: int
    packets: int
    bytes: int
    syncs_left: int
    violations: int
    statistics_due: int
    _last: _Violation
    _buffers: int
    _buf_size: int

    ring: TxRing | RxRing

    def _join(
        self, ring: TxRing | RxRing, region: Region, region_iova: int | PageTable, descriptors: int, doorbell: int
    ) -> None:
        if descriptors % DESCRIPTOR_SIZE or doorbell % 4:
            raise ValueError("descriptors must be aligned to 16 bytes and the doorbell to 4")
        self.ring = ring  # keeps the region mapped
        self._ring = ring.address
        self._buffers = region.address + region.buffers_offset
        if isinstance(region_iova, PageTable):
            region_iova.check(region)
            self._table = region_iova  # keeps it in memory
            self._pages, self._page_size = region_iova.address, region_iova.page_size
            self._buffers_iova = region.buffers_offset
        else:
            self._buffers_iova = region_iova + region.buffers_offset
            self._direct_buffers = region.total_buffers - RESERVED_BUFFERS
        self._descriptors = descriptors
        self._doorbell = doorbell
        self._buf_size = region.buf_size
        self._frame_lengths = region.buf_size - _MIN_FRAME + 1
        self._total_buffers = region.total_buffers
        self.num_slots = ring.num_slots
        self._group = group()
        self.statistics_due = _NEVER
        self.syncs_left = _CHECK_EVERY
        self.restart()

    def restart(self) -> None:
        """Queue and ring back to their initial indices, for a NIC queue that was reset (head and tail register 0)."""
        raise NotImplementedError

    def _take_error(self) -> RingError | None:
        """The violation noted in the sync just done, if any."""
        last = self._last
        if not last.rule:
            return None
        rule = _RULES[last.rule]
        last.rule = 0
        return RingError(rule, self.ring.name, value=last.value, low=last.low, high=last.high, slot=last.slot)


class TxQueue(Queue):
    """A TX ring joined to a NIC queue.

    region_iova: where the NIC sees the region's byte 0, or a PageTable. descriptors: host address of num_slots * 16 bytes. doorbell:
    of TDT. head_writeback: of the 32-bit word the NIC writes its head to (TDWBAL), 0 at the start.
    """

    _fields_ = [("_head_writeback", ctypes.c_uint64), ("_nic_head", ctypes.c_uint32)]
    _nic_head: int

    def __init__(
        self,
        ring: TxRing,
        region: Region,
        *,
        region_iova: int | PageTable,
        descriptors: int,
        doorbell: int,
        head_writeback: int,
    ) -> None:
        super().__init__()
        if head_writeback % 4:
            raise ValueError("head_writeback must be aligned to 4 bytes (TDWBAL wants 16)")
        self._head_writeback = head_writeback
        self._join(ring, region, region_iova, descriptors, doorbell)

    def restart(self) -> None:
        self.hwcur = 0
        self.hwtail = self.num_slots - 1
        self._nic_head = 0
        self.ring.restart()


class RxQueue(Queue):
    """An RX ring joined to a NIC queue; arguments as for TxQueue, doorbell: of RDT.

    errors: descriptors with RXE, with more bytes than a buffer, or of a frame without end (after MAX_CHAIN descriptors).
    """

    _fields_ = [("errors", ctypes.c_uint64), ("_next", ctypes.c_uint32), ("_chain", ctypes.c_uint32)]
    errors: int
    _next: int
    _chain: int

    def __init__(
        self, ring: RxRing, region: Region, *, region_iova: int | PageTable, descriptors: int, doorbell: int
    ) -> None:
        super().__init__()
        self._join(ring, region, region_iova, descriptors, doorbell)

    def restart(self) -> None:
        self.hwcur = 0
        self.hwtail = 0
        self._next = 0
        self._chain = 0
        self.ring.restart()

    def fill(self) -> None:
        """Post a descriptor for every slot: RDT = num_slots-1. Call it when RXDCTL.ENABLE reads 1 (82599 4.6.7).

        Raises RingError when a slot's buf_idx is no buffer.
        """
        library = _library()
        if library.rx_fill(_pointers([self]), 1) & _VIOLATION:
            _raise_violations([self])


class _Pair(ctypes.Structure):
    _fields_ = [
        ("rx", ctypes.c_void_p),
        ("tx", ctypes.c_void_p),
        ("frames", ctypes.c_uint64),
        ("slots", ctypes.c_uint64),
    ]
    frames: int
    slots: int


class _Sync:
    """All queues of one direction in one C call.

    Returns whether the NIC wants looking after: a queue's packets have reached its statistics_due (a sync of one slot does not look),
    or 4096 syncs of it went by. Raises RingError on a violation: that ring has not moved and was reset, the other rings were synced.
    """

    __slots__ = ("_call", "_count", "_queues", "_table")

    def __init__(self, queues: Sequence[TxQueue | RxQueue], call: Callable[[object, int], int]) -> None:
        self._queues = tuple(queues)
        self._table = _pointers(self._queues)
        self._count = len(self._queues)
        self._call = call

    def __call__(self) -> bool:
        attention = self._call(self._table, self._count)
        if attention:
            if attention & _VIOLATION:
                _raise_violations(self._queues)
            return True
        return False


class TxSync(_Sync):
    """txsync: hand over what was advanced, take back what was sent. Source: netmap(4), SYNC; 82599 7.2.3."""

    __slots__ = ()

    def __init__(self, queues: Sequence[TxQueue]) -> None:
        super().__init__(queues, _library().txsync)


class RxSync(_Sync):
    """rxsync: give back what was advanced, take in what was received. Source: netmap(4), SYNC; 82599 7.1.9."""

    __slots__ = ()

    def __init__(self, queues: Sequence[RxQueue]) -> None:
        super().__init__(queues, _library().rxsync)


class Forward:
    """Zero-copy forwarding: rxsync, swap of buffers from each RX ring to its TX ring, txsync, in one C call.

    pairs: (from, to); both rings in one region. frames, slots: moved so far, all pairs. attention: what TxSync
    returns, of the last call. Raises ValueError when the rings do not share their buffers.
    """

    __slots__ = ("_call", "_count", "_pairs", "_queues", "_table", "attention")

    def __init__(self, *pairs: tuple[RxQueue, TxQueue]) -> None:
        for rx, tx in pairs:
            if (rx._buffers, rx._buf_size) != (tx._buffers, tx._buf_size):
                raise ValueError(
                    f"{rx.ring.name} and {tx.ring.name} are in different regions; open both ports with open_ports()"
                )
        self._queues: tuple[Queue, ...] = tuple(queue for pair in pairs for queue in pair)
        self._pairs = [_Pair(ctypes.addressof(rx), ctypes.addressof(tx), 0, 0) for rx, tx in pairs]
        self._table = _pointers(self._pairs)
        self._count = len(pairs)
        self._call = _library().forward
        self.attention = False

    @property
    def frames(self) -> int:
        return sum(pair.frames for pair in self._pairs)

    @property
    def slots(self) -> int:
        return sum(pair.slots for pair in self._pairs)

    def __call__(self, limit: int = 256) -> int:
        """Move up to `limit` whole frames from each RX ring; returns how many moved. Raises RingError, ValueError for no such limit."""
        if not 0 <= limit <= _MOST:  # ctypes would cut it
            raise ValueError(f"limit is {limit}; choose 0 to {_MOST}")
        returned = int(self._call(self._table, self._count, limit))
        self.attention = bool(returned & _DRIVER)
        if returned & _VIOLATION:
            _raise_violations(self._queues)
        return returned >> _MOVED_SHIFT


class BusyWait:
    """Spin, without the GIL, until a sync of one of these queues would find something.

    For RX that is a completed descriptor, for TX a NIC that has sent more than the last sync saw.
    """

    __slots__ = ("_call", "_queues", "_rx", "_rx_count", "_tx", "_tx_count")

    def __init__(self, rx: Sequence[RxQueue], tx: Sequence[TxQueue] = ()) -> None:
        self._queues = (*rx, *tx)
        self._rx = _pointers(rx)
        self._rx_count = len(rx)
        self._tx = _pointers(tx)
        self._tx_count = len(tx)
        self._call = ctypes.CDLL(
            _library()._name
        ).busy_wait  # the only call that lets go of the GIL: it waits, and only reads

    def __call__(self, timeout_ns: int) -> bool:
        """True as soon as there is something, False after `timeout_ns`. A signal waits as long: keep it short."""
        return bool(self._call(self._rx, self._rx_count, self._tx, self._tx_count, ctypes.c_uint64(max(timeout_ns, 0))))


def _pointers(structures: Sequence[ctypes.Structure]) -> object:
    """An argument for C: their addresses. Made once, for a call costs less that has nothing to convert."""
    return ctypes.byref((ctypes.c_void_p * len(structures))(*(ctypes.addressof(structure) for structure in structures)))


def _raise_violations(queues: Sequence[Queue]) -> None:
    """One error for all violations of a sync: the first, with the others beside it.

    None when another thread, which synced the same queue right after, has reported it already.
    """
    errors = [error for error in (queue._take_error() for queue in queues) if error is not None]
    if errors:
        errors[0].also = tuple(errors[1:])
        raise errors[0]


@lru_cache(maxsize=1)
def _library() -> ctypes.PyDLL:
    """The shared library beside this file, after a check that it has the structures above. Its functions run with the GIL held."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise LibraryError(
            "rings are synced by one thread at a time, which this Python does not see to. Run: python -X gil=1 ..."
        )
    path = Path(__file__).with_name("libhotloop.so")
    try:
        library = ctypes.PyDLL(str(path))
        count = ctypes.c_uint32.in_dll(library, "hotloop_layout_count").value
        layout = tuple((ctypes.c_uint32 * count).in_dll(library, "hotloop_layout"))
    except (OSError, ValueError) as error:
        raise LibraryError(f"{path.name} is not built for this machine ({error}). Run: pip install -e .") from error
    if layout != _LAYOUT:
        raise LibraryError(f"{path.name} is of another version than this package. Run: pip install -e .")
    return library


def group() -> int:
    """How many slots queues made from now on take at once: 8 with AVX-512, 4 with AVX2, or 0, which is one by one.

    As many as the processor can, but no more than IXRINGS_GROUP in the environment. What they leave in memory is the same.
    """
    asked = os.environ.get("IXRINGS_GROUP", "8")
    if asked not in ("0", "4", "8"):
        raise ValueError(f"IXRINGS_GROUP={asked}: it is 0, 4 or 8 slots at once")
    return min(int(asked), int(_library().widest()))


def _offset(structure: type[ctypes.Structure], field: str) -> int:
    return int(getattr(structure, field).offset)


# As hotloop_layout at the end of hotloop.c.
_LAYOUT = (
    ctypes.sizeof(_Violation),
    ctypes.sizeof(Queue),
    ctypes.sizeof(TxQueue),
    ctypes.sizeof(RxQueue),
    ctypes.sizeof(_Pair),
    _offset(Queue, "_doorbell"),
    _offset(Queue, "hwcur"),
    _offset(Queue, "_group"),
    _offset(Queue, "_pages"),
    _offset(Queue, "packets"),
    _offset(Queue, "_page_size"),
    _offset(Queue, "_last"),
    _offset(_Violation, "value"),
    _offset(Queue, "_direct_buffers"),
    _offset(Queue, "_frame_lengths"),
    _offset(TxQueue, "_head_writeback"),
    _offset(TxQueue, "_nic_head"),
    _offset(RxQueue, "errors"),
    _offset(RxQueue, "_next"),
    Rule.CONTEXT_HEADERS.number,
    _CHECK_EVERY,
    MAX_CHAIN,
    _MIN_FRAME,
    _MOVED_SHIFT,
)
