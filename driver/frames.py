"""Frames as bytes, for scripts that want packets and not rings. Each frame is copied once, into or out of its slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ixrings.rings import Context, RingError, Rule, RxRing, TxRing
from ixrings.rings.layout import MAX_CHAIN, RESERVED_BUFFERS, SlotFlag

from .offload import Offload

Frame: TypeAlias = "bytes | bytearray | memoryview | npt.NDArray[np.uint8]"

SLOT_WORDS = 4  # 32-bit words of a netmap_slot: buf_idx, then len and flags
MOREFRAG = int(SlotFlag.NS_MOREFRAG)
CONTEXT = int(SlotFlag.NS_CONTEXT)
VLAN_TAG = 4
MAX_SEGMENTED = 2**18 - 1  # bytes of payload that one context descriptor can segment (82599 7.2.3.2.4)


class RingBytes:
    """A ring's slots and buffers as memoryviews. Scalar access costs a fifth of numpy's."""

    def __init__(self, ring: TxRing | RxRing, buffers: npt.NDArray[np.uint8]) -> None:
        self.ring = ring
        self._words = ring.slots.view(np.uint32).data
        self._bytes = buffers.reshape(-1).data
        self._total_buffers, self._buf_size = len(buffers), int(buffers.shape[1])

    def slots_for(self, length: int) -> int:
        return -(-length // self._buf_size)

    @property
    def longest_segmented(self) -> int:
        """Bytes of a frame that the NIC can segment. Headers are counted as payload, for simplicity."""
        return min(MAX_SEGMENTED, MAX_CHAIN * self._buf_size, (self.ring.num_slots - 2) * self._buf_size)

    def put_context(self, slot: int, context: Context) -> int:
        """Write the context of the next frame into `slot`. Returns the next slot."""
        word = context.word()
        at = SLOT_WORDS * slot
        self._words[at + 1], self._words[at + 2], self._words[at + 3] = CONTEXT << 16, word & 0xFFFF_FFFF, word >> 32
        return slot + 1 if slot + 1 < self.ring.num_slots else 0

    def put(self, slot: int, frame: memoryview) -> int:
        """Copy `frame` into slots from `slot` on.

        Returns the slot after it. The caller has checked that there is room. Raises RingError for a slot whose buf_idx
        is not a buffer of the region.
        """
        length = len(frame)
        for start in range(0, length, self._buf_size):
            piece = frame[start : start + self._buf_size]
            index = self._words[SLOT_WORDS * slot]  # read once: others may write to it
            if not RESERVED_BUFFERS <= index < self._total_buffers:
                raise self._not_a_buffer(slot, index)
            place = index * self._buf_size
            self._bytes[place : place + len(piece)] = piece
            more = MOREFRAG if start + self._buf_size < length else 0
            self._words[SLOT_WORDS * slot + 1] = len(piece) | more << 16
            slot = slot + 1 if slot + 1 < self.ring.num_slots else 0
        return slot

    def take(self, slot: int, available: int) -> tuple[bytes, int]:
        """The frame that starts in `slot` and has at most `available` slots, and how many slots it had.

        The NIC writes at most MAX_CHAIN slots a frame. After that many it ends here, whatever the flags are now.
        """
        pieces = []
        for _ in range(min(available, MAX_CHAIN)):
            index = self._words[SLOT_WORDS * slot]  # read once: others may write to it
            if not RESERVED_BUFFERS <= index < self._total_buffers:
                raise self._not_a_buffer(slot, index)
            place = index * self._buf_size
            len_flags = self._words[SLOT_WORDS * slot + 1]
            pieces.append(bytes(self._bytes[place : place + min(len_flags & 0xFFFF, self._buf_size)]))
            if not len_flags >> 16 & MOREFRAG:
                break
            slot = slot + 1 if slot + 1 < self.ring.num_slots else 0
        return b"".join(pieces), len(pieces)

    def _not_a_buffer(self, slot: int, index: int) -> RingError:
        highest = self._total_buffers - 1
        return RingError(Rule.BUF_IDX, self.ring.name, slot=slot, value=index, low=RESERVED_BUFFERS, high=highest)


def check_frames(frames: object) -> None:
    """Raise TypeError for one frame where several are expected: its bytes, or its rows, would be taken for frames."""
    if isinstance(frames, np.ndarray) and frames.ndim == 1 and frames.dtype.kind in "OSV":
        raise TypeError(f"send() takes no array of dtype {frames.dtype}; write port.send(frames.tolist())")
    single = is_one_buffer(frames)
    if single or isinstance(frames, str) or hasattr(frames, "__bytes__"):
        this = "frame" if single else "bytes.fromhex(frame)" if isinstance(frames, str) else "bytes(frame)"
        kind = type(frames).__name__
        raise TypeError(f"send() takes several frames, not one of type {kind}; write port.send([{this}])")
    if not isinstance(frames, Iterable):
        raise TypeError(f"send() takes a list of frames, such as port.send([frame]); {frames!r} is not one")


def is_one_buffer(frames: object) -> bool:
    """Whether it is one row of bytes or other numbers, such as bytes, an array.array or a mapped file."""
    if isinstance(frames, list | tuple):
        return False
    try:
        return memoryview(frames).ndim < 2  # type: ignore[arg-type]  # most objects are not buffers
    except (TypeError, ValueError, BufferError):
        return False


def bytes_of(number: int, frame: Frame) -> memoryview:
    """The frame's bytes, without a copy where possible. number: of the frame in its send. Raises TypeError."""
    try:
        view = np.ascontiguousarray(frame).data if isinstance(frame, np.ndarray) else memoryview(frame)
    except TypeError:
        hint = (
            "write port.send([bytes(frame) for frame in frames])"
            if hasattr(frame, "__bytes__")
            else 'a frame is bytes, such as bytes.fromhex("ffffffffffff...")'
        )
        raise TypeError(f"frame {number} is of type {type(frame).__name__}, not bytes; {hint}") from None
    if view.itemsize != 1:
        raise TypeError(f"frame {number} has elements of {view.itemsize} bytes; make its dtype np.uint8")
    if not view.c_contiguous:
        raise TypeError(f"frame {number} is a memoryview that leaves bytes out; write bytes(frame)")
    return view.cast("B")


def send_frames(
    ring: RingBytes,
    frames: Iterable[Frame],
    longest: int,
    wait_for_room: Callable[[int], None],
    sync: Callable[[], None],
    offload: Offload | None = None,
) -> int:
    """Put every frame on the ring. Returns how many.

    Raises TypeError for anything but frames of bytes, ValueError for a frame that is empty or longer than `longest`
    bytes. wait_for_room(n) returns when n slots
    are free, or raises. Frames before an error are sent.
    """
    check_frames(frames)
    count = 0
    words = ring.ring
    try:
        for frame in frames:
            data, context = bytes_of(count, frame), None
            if offload is not None:
                context, data = offload.prepare(data)
            check_length(count, len(data), context, longest, ring.longest_segmented)
            slots = ring.slots_for(len(data)) + (context is not None)
            head, space = words.owned()
            if space < slots:
                wait_for_room(slots)
                head, _ = words.owned()
            ring.put(head if context is None else ring.put_context(head, context), data)
            words.advance(slots)
            count += 1
    finally:
        sync()
    return count


def check_length(number: int, length: int, context: Context | None, longest: int, longest_segmented: int) -> None:
    """Check the length of a frame, or of a frame that the NIC segments. Raises ValueError."""
    if context is not None and context.vlan is not None:
        longest -= VLAN_TAG
    if context is None or not context.mss:
        if not length:
            raise ValueError(f"frame {number} has no bytes; this port sends 1 to {longest}")
        if length > longest:
            raise ValueError(
                f"frame {number} has {length} bytes; this port sends 1 to {longest} (its mtu and the Ethernet header). "
                "Open it with a larger mtu"
            )
        return
    if context.headers + context.mss > longest:
        raise ValueError(
            f"frame {number} would be segmented into frames of {context.headers} bytes of headers and {context.mss} of "
            f"payload, but this port sends at most {longest} bytes. Choose mss={longest - context.headers} or less, or "
            "open it with a larger mtu"
        )
    if length > longest_segmented:
        raise ValueError(
            f"frame {number} has {length} bytes; this port segments at most {longest_segmented}. Open it with more "
            "tx_slots or a larger buf_size"
        )


def receive_frames(
    rings: Callable[[], Iterable[RingBytes]], sync: Callable[[], object], wait: Callable[[], int]
) -> Iterator[bytes]:
    """The frames of all rings, as they arrive. Ends when wait() returns 0, because no frame arrived.

    Raises RingError if another program broke a rule of a ring. The ring was synced then, so that the next call finds
    the driver's indices.
    """
    while True:
        for ring in rings():
            while (frame := next_frame(ring, sync)) is not None:
                yield frame
        if not wait():
            return


def next_frame(ring: RingBytes, sync: Callable[[], object]) -> bytes | None:
    """Take the next frame off its ring; None if the ring is empty. Raises RingError, after a sync."""
    try:
        head, available = ring.ring.owned()
        if not available:
            return None
        frame, slots = ring.take(head, available)
        ring.ring.advance(slots)
    except RingError:
        sync()  # resets the indices; raises the same error or one that is closer to its cause
        raise
    return frame
