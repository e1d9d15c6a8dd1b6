"""A netmap_ring as Python sees it: indices, slots, and runs of slots to work on.

    head          cur          tail
     |- mine, [head, tail) -----|- the driver's -----> (circular; num_slots need not be a power of two)

The application moves head (and cur, the wake-up point), the driver moves tail, at a sync. One slot always stays
with the driver, so head == tail means that nothing is mine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import RingError
from .layout import NETMAP_SLOT, RING_HEADER_SIZE, SLOT_SIZE, Direction, RingFlag, Word
from .memory import Mapping
from .rules import Rule

# Plain ints: an enum member costs more than the access it indexes.
_HEAD = int(Word.HEAD)
_CUR = int(Word.CUR)
_TAIL = int(Word.TAIL)
_FLAGS = int(Word.FLAGS)


class Span:
    """A run of contiguous slots, [start, start + len). Its numpy views are the slots themselves, not copies.

    A span is good until the head moves past it.
    """

    __slots__ = ("_ring", "_stop", "start")

    def __init__(self, ring: Ring, start: int, stop: int) -> None:
        self._ring = ring
        self.start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self.start

    @property
    def buf_idx(self) -> npt.NDArray[np.uint32]:
        """Buffer of each slot, shape (len,); store another index and set NS_BUF_CHANGED to swap buffers."""
        return self._ring._buf_idx[self.start : self._stop]

    @property
    def len(self) -> npt.NDArray[np.uint16]:
        """Bytes in each slot, shape (len,)."""
        return self._ring._len[self.start : self._stop]

    @property
    def flags(self) -> npt.NDArray[np.uint16]:
        """SlotFlag bits of each slot, shape (len,)."""
        return self._ring._flags[self.start : self._stop]

    @property
    def ptr(self) -> npt.NDArray[np.uint64]:
        """With NS_CONTEXT a Context.word(), otherwise free for the application's use; shape (len,)."""
        return self._ring._ptr[self.start : self._stop]


class Ring:
    """One netmap_ring. head, cur, flags and slots are the application's to write; the rest the driver's.

    slots: structured array, shape (num_slots,), dtype layout.NETMAP_SLOT. offset: bytes from the region's start.
    address: of the ring in this process. name: as errors call it. Not safe for use by two threads at once.
    """

    direction: Direction

    def __init__(self, mapping: Mapping, offset: int, num_slots: int, ringid: int, port: str) -> None:
        self.offset = offset
        self.address = mapping.address + offset
        self.num_slots = num_slots
        self.ringid = ringid
        self.name = f"{port} {self.direction.name} ring {ringid}"
        self.slots: npt.NDArray[np.void] = mapping.array(NETMAP_SLOT, num_slots, offset + RING_HEADER_SIZE)
        self._buf_idx: npt.NDArray[np.uint32] = self.slots["buf_idx"]
        self._len: npt.NDArray[np.uint16] = self.slots["len"]
        self._flags: npt.NDArray[np.uint16] = self.slots["flags"]
        self._ptr: npt.NDArray[np.uint64] = self.slots["ptr"]
        header = mapping.memory[offset : offset + RING_HEADER_SIZE]
        self._words = header.cast("I")
        self._timeval = header[40:56].cast("q")

    @property
    def head(self) -> int:
        """First slot of mine. Move it past the slots you are done with."""
        return self._words[_HEAD]

    @head.setter
    def head(self, slot: int) -> None:
        self._words[_HEAD] = slot

    @property
    def cur(self) -> int:
        """Wake-up point: poll waits until cur != tail."""
        return self._words[_CUR]

    @cur.setter
    def cur(self, slot: int) -> None:
        self._words[_CUR] = slot

    @property
    def tail(self) -> int:
        """First slot that is not mine."""
        return self._words[_TAIL]

    @property
    def flags(self) -> RingFlag:
        return RingFlag(self._words[_FLAGS])

    @flags.setter
    def flags(self, flags: RingFlag) -> None:
        self._words[_FLAGS] = int(flags)

    @property
    def ts(self) -> int:
        """Time of the last rxsync with NR_TIMESTAMP set: nanoseconds since the epoch, in steps of 1000."""
        return (self._timeval[0] * 1_000_000 + self._timeval[1]) * 1000

    @property
    def space(self) -> int:
        """Slots of mine, 0..num_slots-1."""
        space = self._words[_TAIL] - self._words[_HEAD]
        return space if space >= 0 else space + self.num_slots

    def reserve(self, n: int) -> Span:
        """Up to `n` contiguous slots of mine from head on: fewer when less is mine or the ring's end comes first.

        Raises RingError when head or tail is no slot of this ring.
        """
        words = self._words
        head = words[_HEAD]
        tail = words[_TAIL]
        num_slots = self.num_slots
        if head >= num_slots or tail >= num_slots:
            raise self._not_a_slot(head, tail)
        stop = tail if tail >= head else num_slots
        if 0 <= n < stop - head:
            stop = head + n
        elif n < 0:
            raise ValueError(f"reserve({n}): ask for 0 or more slots")
        return Span(self, head, stop)

    def advance(self, n: int) -> None:
        """I am done with the next `n` slots: head = cur = head + n. The next sync hands them to the driver.

        Raises RingError when fewer than `n` are mine; nothing has moved then.
        """
        words = self._words
        head = words[_HEAD]
        space = words[_TAIL] - head
        if space < 0:
            space += self.num_slots
        if not 0 <= n <= space:
            raise RingError(Rule.ADVANCE, self.name, value=n, low=0, high=space)
        head += n
        if head >= self.num_slots:
            head -= self.num_slots
        words[_CUR] = head  # before head: a sync of another thread in between must not find cur behind it
        words[_HEAD] = head

    def restart(self) -> None:
        """Back to netmap's initial indices, for a queue that was reset; slots keep their buffers."""
        self._words[_HEAD] = 0
        self._words[_CUR] = 0
        self._words[_TAIL] = self.num_slots - 1 if self.direction is Direction.TX else 0

    def _not_a_slot(self, head: int, tail: int) -> RingError:
        value = head if head >= self.num_slots else tail
        return RingError(Rule.NOT_A_SLOT, self.name, value=value, low=0, high=self.num_slots - 1)


class TxRing(Ring):
    """A ring of frames to send."""

    direction = Direction.TX

    @property
    def pending(self) -> bool:
        """netmap's tx_pending: whether any slot was handed over that the NIC has not sent, as of the last sync."""
        following = self._words[_TAIL] + 1
        return (0 if following == self.num_slots else following) != self._words[_HEAD]


class RxRing(Ring):
    """A ring of received frames: slots [head, tail) hold them; NS_MOREFRAG says that one goes on in the next slot."""

    direction = Direction.RX


def ring_bytes(num_slots: int) -> int:
    """Bytes from a ring's start to the end of its last slot."""
    return RING_HEADER_SIZE + num_slots * SLOT_SIZE
