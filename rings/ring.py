"""A netmap_ring in Python: indices, slots, and spans of slots to work on.

    head          cur          tail
     |- the application's ------|- the driver's -----> (circular; num_slots need not be a power of two)

The application owns [head, tail). It moves head, and cur, the wake-up point. The driver moves tail in a sync. One slot
always belongs to the driver, so head == tail means that the application owns none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from .errors import RegionError, RingError
from .layout import NETMAP_SLOT, RING_HEADER_SIZE, SLOT_SIZE, Direction, RingFlag, Word
from .memory import Mapping
from .rules import Rule
from .slot import Slot

# Plain ints: an enum member takes more time than the access that it indexes.
HEAD = int(Word.HEAD)
CUR = int(Word.CUR)
TAIL = int(Word.TAIL)
FLAGS = int(Word.FLAGS)

SPANS = 256  # spans that a ring keeps at most, to return them again


class Refusal:
    """Stands in for the words of a ring that may not be used. A check in each access would cost every packet time."""

    __slots__ = ("_sentence",)

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def __getitem__(self, index: int) -> int:
        raise RegionError(self._sentence)

    def __setitem__(self, index: int, value: int) -> None:
        raise RegionError(self._sentence)


class Frames(ctypes.Structure):
    """struct frames in hotloop.h: a ring and its buffers."""

    _fields_ = [
        ("ring", ctypes.c_uint64),
        ("buffers", ctypes.c_uint64),
        ("total_buffers", ctypes.c_uint32),
        ("buf_size", ctypes.c_uint32),
        ("num_slots", ctypes.c_uint32),
        ("refused", ctypes.c_uint32),
    ]
    num_slots: int
    refused: int


class Span:
    """Contiguous slots of `ring`, [start, stop). The numpy views show the slots themselves, not copies.

    A span is valid until head moves past it; a later reserve() of the same slots may return the same object.
    port.read() and port.write() copy its frames' bytes.
    """

    __slots__ = ("_buf_idx", "_flags", "_len", "_ptr", "ring", "start", "stop")
    _buf_idx: npt.NDArray[np.uint32]  # each view is made when it is first used
    _len: npt.NDArray[np.uint16]
    _flags: npt.NDArray[np.uint16]
    _ptr: npt.NDArray[np.uint64]

    def __init__(self, ring: Ring, start: int, stop: int) -> None:
        self.ring = ring
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Slot]:
        """Its slots one by one, for rare work: the arrays of the span are faster."""
        return (Slot(self.ring, index) for index in range(self.start, self.stop))

    def _repr_html_(self) -> str:
        from .notebook import span_html

        return span_html(self)

    def __repr__(self) -> str:
        slots = f"slots {self.start}..{self.stop - 1}" if len(self) else "no slots"
        return f"<Span of {self.ring.name}: {slots}>"

    @property
    def buf_idx(self) -> npt.NDArray[np.uint32]:
        """The buffer of each slot, shape (len,). To swap buffers, store another index and set NS_BUF_CHANGED."""
        try:
            return self._buf_idx
        except AttributeError:
            self._buf_idx = self.ring.slot_buf_idx[self.start : self.stop]
            return self._buf_idx

    @property
    def len(self) -> npt.NDArray[np.uint16]:
        """Bytes in each slot, shape (len,)."""
        try:
            return self._len
        except AttributeError:
            self._len = self.ring.slot_len[self.start : self.stop]
            return self._len

    @property
    def flags(self) -> npt.NDArray[np.uint16]:
        """SlotFlag bits of each slot, shape (len,)."""
        try:
            return self._flags
        except AttributeError:
            self._flags = self.ring.slot_flags[self.start : self.stop]
            return self._flags

    @property
    def ptr(self) -> npt.NDArray[np.uint64]:
        """With NS_CONTEXT a Context.word(), otherwise free for the application; shape (len,)."""
        try:
            return self._ptr
        except AttributeError:
            self._ptr = self.ring.slot_ptr[self.start : self.stop]
            return self._ptr


def refuse_assignment(view: str) -> property:
    """The property `view` of Span with a setter that says how to write the slots."""

    def refuse(span: Span, value: object) -> None:
        raise AttributeError(f"span.{view} is an array of the span's slots; write span.{view}[:] = {value!r}")

    found = getattr(Span, view)
    assert isinstance(found, property)
    return found.setter(refuse)


for view in ("buf_idx", "len", "flags", "ptr"):
    setattr(Span, view, refuse_assignment(view))


class Ring:
    """One netmap_ring. The application writes head, cur, flags and slots; the driver writes the rest.

    slots: structured array, shape (num_slots,), dtype layout.NETMAP_SLOT. buffers: those of its interface. offset:
    bytes from the region's start. address: of the ring in this process. name: the ring's name in errors. Two threads
    must not use a ring at once.
    """

    __slots__ = (
        "_frames",
        "_header",
        "_spans",
        "_timeval",
        "_words",
        "address",
        "buffers",
        "name",
        "num_slots",
        "offset",
        "place",
        "ringid",
        "slot_buf_idx",
        "slot_flags",
        "slot_len",
        "slot_ptr",
        "slots",
    )

    direction: Direction

    def __init__(
        self, mapping: Mapping, offset: int, num_slots: int, ringid: int, port: str, buffers: npt.NDArray[np.uint8]
    ) -> None:
        self.offset = offset
        self.address = mapping.address + offset
        self.num_slots = num_slots
        self.ringid = ringid
        self.name = f"{port} {self.direction.name} ring {ringid}"
        self.slots: npt.NDArray[np.void] = mapping.array(NETMAP_SLOT, num_slots, offset + RING_HEADER_SIZE)
        self.slot_buf_idx: npt.NDArray[np.uint32] = self.slots["buf_idx"]
        self.slot_len: npt.NDArray[np.uint16] = self.slots["len"]
        self.slot_flags: npt.NDArray[np.uint16] = self.slots["flags"]
        self.slot_ptr: npt.NDArray[np.uint64] = self.slots["ptr"]
        self._header = mapping.memory[offset : offset + RING_HEADER_SIZE]
        self._spans: dict[int, Span] = {}  # by start: a program's batches come back every lap
        self.buffers = buffers
        self._frames = Frames(self.address, buffers.ctypes.data, *buffers.shape, num_slots, 0)
        self.place: object = ctypes.byref(self._frames)  # for C, made once
        self.take_back()

    @property
    def head(self) -> int:
        """First slot that the application owns. Move it past the slots that are done."""
        return self._words[HEAD]

    @head.setter
    def head(self, slot: int) -> None:
        self._words[HEAD] = slot

    @property
    def cur(self) -> int:
        """Wake-up point: poll waits until cur != tail."""
        return self._words[CUR]

    @cur.setter
    def cur(self, slot: int) -> None:
        self._words[CUR] = slot

    @property
    def tail(self) -> int:
        """First slot that the application does not own."""
        return self._words[TAIL]

    @property
    def flags(self) -> RingFlag:
        return RingFlag(self._words[FLAGS])

    @flags.setter
    def flags(self, flags: RingFlag) -> None:
        self._words[FLAGS] = int(flags)

    @property
    def ts(self) -> int:
        """Time of the last rxsync with NR_TIMESTAMP set: nanoseconds since the epoch, in steps of 1000."""
        return (self._timeval[0] * 1_000_000 + self._timeval[1]) * 1000

    def owned(self) -> tuple[int, int]:
        """head, and the number of slots that the application owns from there on (0..num_slots-1).

        Each index is read once and checked, because another program that has the region may write to it at any moment.
        Raises RingError when head or tail is not a slot of this ring.
        """
        words = self._words
        head = words[HEAD]
        tail = words[TAIL]
        if head >= self.num_slots or tail >= self.num_slots:
            raise self._not_a_slot(head, tail)
        return head, tail - head if tail >= head else tail - head + self.num_slots

    @property
    def space(self) -> int:
        """Number of slots that the application owns, 0..num_slots-1. Raises RingError as owned() does."""
        words = self._words
        head = words[HEAD]
        tail = words[TAIL]
        num_slots = self.num_slots
        if head >= num_slots or tail >= num_slots:
            raise self._not_a_slot(head, tail)
        return tail - head if tail >= head else tail - head + num_slots

    def reserve(self, n: int) -> Span:
        """Up to `n` contiguous slots from head on: fewer if tail or the ring's end comes first.

        Raises RingError when head or tail is not a slot of this ring, and ValueError when `n` is negative.
        """
        words = self._words
        head = words[HEAD]
        tail = words[TAIL]
        num_slots = self.num_slots
        if head >= num_slots or tail >= num_slots:
            raise self._not_a_slot(head, tail)
        stop = tail if tail >= head else num_slots
        if 0 <= n < stop - head:
            stop = head + n
        elif n < 0:
            raise ValueError(f"reserve({n}): ask for 0 or more slots")
        span = self._spans.get(head)
        if span is not None and span.stop == stop:
            return span
        return self._keep(Span(self, head, stop))

    def _keep(self, span: Span) -> Span:
        """Keep the span and its views for the next lap."""
        if len(self._spans) >= SPANS:
            self._spans.clear()
        self._spans[span.start] = span
        return span

    def forget_spans(self) -> None:
        """Keep no span any more. Spans have the ring, so the ring's memory would wait for garbage collection."""
        self._spans.clear()

    def advance(self, n: int) -> None:
        """Move head and cur past the next `n` slots, which are done. The next sync hands them to the NIC.

        Raises RingError, and moves nothing, when the application owns fewer than `n` slots, or as owned() does.
        """
        words = self._words
        head = words[HEAD]
        tail = words[TAIL]
        if head >= self.num_slots or tail >= self.num_slots:
            raise self._not_a_slot(head, tail)
        space = tail - head
        if space < 0:
            space += self.num_slots
        if not 0 <= n <= space:
            raise RingError(Rule.ADVANCE, self.name, value=n, low=0, high=space)
        head += n
        if head >= self.num_slots:
            head -= self.num_slots
        words[CUR] = head  # first, so that a sync of another thread in between does not find cur before head
        words[HEAD] = head

    def restart(self) -> None:
        """Put the indices back to netmap's initial state, after a reset of the queue. Slots keep their buffers."""
        self._words[HEAD] = 0
        self._words[CUR] = 0
        self._words[TAIL] = self.num_slots - 1 if self.direction is Direction.TX else 0

    def __repr__(self) -> str:
        try:
            indices = f"head {self.head}, cur {self.cur}, tail {self.tail}"
            state = f"{indices}, {self.space} of {self.num_slots} slots are the program's"
        except (RingError, RegionError) as error:
            state = str(error)
        return f"<{type(self).__name__} {self.name}: {state}>"

    def __len__(self) -> int:
        """Its slots."""
        return self.num_slots

    def _repr_html_(self) -> str:
        from .notebook import ring_html

        return ring_html(self)

    def take_back(self) -> None:
        """Allow access to the indices and frames, also after leave()."""
        self._words = self._header.cast("I")
        self._timeval = self._header[40:56].cast("q")
        self._frames.num_slots = self.num_slots

    def leave(self, sentence: str) -> None:
        """Refuse every access to indices and frames until take_back(), with a RegionError that has this sentence."""
        self._words = self._timeval = cast("memoryview[int]", Refusal(sentence))
        self._frames.num_slots = 0  # C finds no slot owned, and Python asks for the indices

    @property
    def refused(self) -> int:
        """The index that the last read or write of frames did not accept."""
        return self._frames.refused

    def _not_a_slot(self, head: int, tail: int) -> RingError:
        value = head if head >= self.num_slots else tail
        return RingError(Rule.NOT_A_SLOT, self.name, value=value, low=0, high=self.num_slots - 1)


class RateLimiter(Protocol):
    """The rates of a NIC's queues; it knows them by their rings' numbers."""

    def rate_of(self, queue: int, /) -> float | None: ...

    def set_rate(self, queue: int, mbps: float | None, /) -> None: ...


class TxRing(Ring):
    """A ring of frames to send. limiter: whoever keeps the rate of the ring's queue."""

    __slots__ = ("limiter",)
    direction = Direction.TX
    limiter: RateLimiter

    def _limiter(self) -> RateLimiter:
        self.owned()  # raises RegionError while another process has the queue
        try:
            return self.limiter
        except AttributeError:
            raise AttributeError(
                f"{self.name} has no rate here: only the program that opened the NIC limits its queues"
            ) from None

    @property
    def rate_mbps(self) -> float | None:
        """The most that the NIC sends from this ring, in Mbit/s; None without a limit. May be set.

        The NIC counts the bytes of frames with their CRC, without preamble and gap. It keeps 10 Mbit/s and more, up to
        the speed of the link. Raises ValueError for other rates, NotOffered on a virtual function, PortClosed.
        """
        return self._limiter().rate_of(self.ringid)

    @rate_mbps.setter
    def rate_mbps(self, mbps: float | None) -> None:
        self._limiter().set_rate(self.ringid, mbps)

    @property
    def pending(self) -> bool:
        """netmap's tx_pending: whether the NIC still had to send a slot at the last sync. Raises RingError."""
        return self.space != self.num_slots - 1


class RxRing(Ring):
    """A ring of received frames, in slots [head, tail). NS_MOREFRAG: the frame continues in the next slot."""

    __slots__ = ()
    direction = Direction.RX


def ring_bytes(num_slots: int) -> int:
    """Bytes from a ring's start to the end of its last slot."""
    return RING_HEADER_SIZE + num_slots * SLOT_SIZE
