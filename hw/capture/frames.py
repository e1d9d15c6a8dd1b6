"""Frames of a capture file as arrays, and functions that both readers share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import CaptureTruncated
from ..output import FileKind

LINKTYPE_ETHERNET = 1
MAX_FRAME = 262144  # bytes; libpcap's limit for a record (MAXIMUM_SNAPLEN)
NS = 1_000_000_000
PCAP_HEADER = 24
RECORD_HEADER = 16
MODIFIED_HEADER = 24  # Kuznetzov's modified pcap: interface, protocol and kind of packet follow the usual header
PCAP_MAGICS = {  # first four bytes: byte order, nanoseconds per unit of the timestamp, bytes of a record's header
    b"\xd4\xc3\xb2\xa1": ("<", 1000, RECORD_HEADER),
    b"\xa1\xb2\xc3\xd4": (">", 1000, RECORD_HEADER),
    b"\x4d\x3c\xb2\xa1": ("<", 1, RECORD_HEADER),
    b"\xa1\xb2\x3c\x4d": (">", 1, RECORD_HEADER),
    b"\x34\xcd\xb2\xa1": ("<", 1000, MODIFIED_HEADER),
    b"\xa1\xb2\xcd\x34": (">", 1000, MODIFIED_HEADER),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
CAPTURE = FileKind("a capture", (*PCAP_MAGICS, PCAPNG_MAGIC), gzipped=True)


@dataclass(frozen=True, eq=False)
class Capture:
    """Frames of a capture file, at their places in the bytes of the file.

    data: the file, read-only uint8, shape (file size,). Per frame, shape (n,): offsets (uint64, into data), lengths
    (uint32, captured bytes; 0 is valid), wire_lengths (uint32, bytes on the wire, at least lengths), times_ns (int64,
    since 1970).
    """

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint32]
    wire_lengths: npt.NDArray[np.uint32]
    times_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def frame(self, i: int) -> bytes:
        """Captured bytes of frame i, which may be negative as in a list. Raises IndexError."""
        start = int(self.offsets[i])
        return self.data[start : start + int(self.lengths[i])].tobytes()

    def only(self, wanted: npt.NDArray[np.bool_]) -> Capture:
        """The frames for which `wanted`, shape (n,), is True; over the same bytes."""
        return Capture(
            self.data, self.offsets[wanted], self.lengths[wanted], self.wire_lengths[wanted], self.times_ns[wanted]
        )

    def __iter__(self) -> Iterator[bytes]:
        return (self.frame(i) for i in range(len(self)))


def truncated(what: str, at: int, needs: int, left: int, whole: int) -> CaptureTruncated:
    return CaptureTruncated(
        f"{what} at byte {at} is truncated: it needs {needs} bytes and {left} are left; the {whole} frames before it "
        "are complete"
    )


def linktype_refusal(linktype: int, where: str) -> str:
    """Why frames of this link type are not read; "" for Ethernet."""
    if linktype == LINKTYPE_ETHERNET:
        return ""
    return (
        f"{where} has link type {linktype}, and only Ethernet (1) is supported; capture on one Ethernet interface, "
        "not on -i any"
    )


def gather(data: bytes, dtype: np.dtype[np.void], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """The element of `dtype` at each byte position. It indexes an array of overlapping elements, one at each byte."""
    if not len(positions):
        return np.empty(0, dtype)
    everywhere = np.ndarray((len(data) - dtype.itemsize + 1,), dtype, data, strides=(1,))
    found: npt.NDArray[np.void] = everywhere[positions]
    return found


def first_true(bad: npt.NDArray[np.bool_]) -> int | None:
    """Index of the first True; None if all are False."""
    return int(bad.argmax()) if bad.any() else None


def bad_length(captured: int) -> str:
    """The rest of an error sentence, for a captured length above MAX_FRAME."""
    return f"has a frame of {captured} bytes, and {MAX_FRAME} is the limit; the file is damaged"


def to_capture(
    data: bytes,
    offsets: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.unsignedinteger],
    wire_lengths: npt.NDArray[np.unsignedinteger],
    times_ns: npt.NDArray[np.int64],
) -> Capture:
    """A Capture of these arrays. A wire length that is less than the captured length is raised to it."""
    return Capture(
        np.frombuffer(data, np.uint8),
        offsets.astype(np.uint64),
        lengths.astype(np.uint32),
        np.maximum(lengths, wire_lengths).astype(np.uint32),
        times_ns,
    )
