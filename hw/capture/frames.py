"""Frames of a capture file as arrays, and what its two readers share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ixrings.hw.errors import CaptureError, CaptureTruncated

LINKTYPE_ETHERNET = 1
MAX_FRAME = 262144  # libpcap's own bound on a record (MAXIMUM_SNAPLEN)
NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Capture:
    """Frames of a capture file, left where they stand in the file's bytes.

    data: the file, read-only uint8, shape (file size,). Per frame, shape (n,): offsets (uint64, into data), lengths (uint32, bytes
    captured), wire_lengths (uint32, bytes the frame had on the wire, never less than lengths), times_ns (int64, since 1970).
    """

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint32]
    wire_lengths: npt.NDArray[np.uint32]
    times_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def frame(self, i: int) -> bytes:
        """Captured bytes of frame i; i as in a list, IndexError beyond."""
        start = int(self.offsets[i])
        return self.data[start : start + int(self.lengths[i])].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self.frame(i) for i in range(len(self)))


def cut_short(what: str, at: int, needs: int, left: int, whole: int) -> CaptureTruncated:
    return CaptureTruncated(
        f"{what} at byte {at} is cut short: it needs {needs} bytes and {left} are left; the {whole} frames before it are whole"
    )


def check_linktype(linktype: int, where: str) -> None:
    if linktype != LINKTYPE_ETHERNET:
        raise CaptureError(
            f"{where} has link type {linktype} and only Ethernet (1) can be used; capture on one Ethernet interface, not on -i any"
        )


def gather(data: bytes, dtype: np.dtype[np.void], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """One dtype from each byte position: an array of overlapping elements, one a byte, indexed."""
    if not len(positions):
        return np.empty(0, dtype)
    everywhere = np.ndarray((len(data) - dtype.itemsize + 1,), dtype, data, strides=(1,))
    found: npt.NDArray[np.void] = everywhere[positions]
    return found


def first_true(bad: npt.NDArray[np.bool_]) -> int | None:
    return int(bad.argmax()) if bad.any() else None


def bad_length(captured: int) -> str:
    if captured == 0:
        return "holds a frame of no bytes; the file is damaged"
    return f"claims a frame of {captured} bytes and none has more than {MAX_FRAME}; the file is damaged"


def to_capture(
    data: bytes,
    offsets: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.unsignedinteger],
    wire_lengths: npt.NDArray[np.unsignedinteger],
    times_ns: npt.NDArray[np.int64],
) -> Capture:
    return Capture(
        np.frombuffer(data, np.uint8),
        offsets.astype(np.uint64),
        lengths.astype(np.uint32),
        np.maximum(lengths, wire_lengths).astype(np.uint32),
        times_ns,
    )
