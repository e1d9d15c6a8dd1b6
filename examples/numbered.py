"""Numbers in the payload of frames, which say who sent a frame, of which stream it is, and which frame of it it is.

The 14 bytes follow the UDP header. A frame of 64 bytes on the wire has room for them, also with a VLAN tag.
Their last word makes the sum of all seven words 0xFFFF, which counts as zero in a checksum: the UDP checksum of a frame
is the same for every number, and a receiver tells a number from other bytes.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ixrings import Port
from ixrings.rings import Span

Ints: TypeAlias = "npt.NDArray[np.int64]"
Words: TypeAlias = "npt.NDArray[np.uint16]"

Sum = TypeVar("Sum", np.uint32, np.int64)

MAGIC = 0x8259
NUMBER = np.dtype(
    [
        ("magic", ">u2"),
        ("sender", ">u4"),  # drawn by each run of a program, so that a restart is told from frames that come again
        ("stream", ">u2"),
        ("number", ">u4"),  # of the frame in its stream; 0 follows 2**32 - 1
        ("check", ">u2"),
    ]
)
WORDS = NUMBER.itemsize // 2
STREAMS = 1 << 16
NUMBERS = 1 << 32
PAYLOADS = (42, 46, 62, 66)  # where a UDP payload begins: IPv4, IPv4 with a VLAN tag, IPv6, IPv6 with a tag


def folded(sums: npt.NDArray[Sum]) -> npt.NDArray[Sum]:
    """Sums of 16-bit words as an Internet checksum adds them: carries are added at the end (RFC 1071)."""
    sums = (sums & 0xFFFF) + (sums >> 16)
    return (sums & 0xFFFF) + (sums >> 16)


def sum_of_words(words: Words) -> npt.NDArray[np.uint32]:
    """The sum of each row of shape (n, words), at most 2**16 words. The order of bytes in a word does not matter."""
    sums = words[:, 0].astype(np.uint32)
    for column in range(1, words.shape[1]):
        sums += words[:, column]
    return sums


def write_numbers(into: npt.NDArray[np.void], sender: int, streams: Ints, numbers: Ints) -> None:
    """Fill `into`, an array of NUMBER of shape (n,). streams: 0..65535. numbers: their upper bits are cut."""
    numbers = numbers & (NUMBERS - 1)
    sums = streams + (MAGIC + (sender >> 16) + (sender & 0xFFFF)) + (numbers >> 16) + (numbers & 0xFFFF)
    into["magic"], into["sender"], into["stream"], into["number"] = MAGIC, sender, streams, numbers
    into["check"] = 0xFFFF - folded(sums)


class Finder:
    """Finds the numbers in received frames. The frames of one batch may have different headers."""

    def __init__(self, port: Port) -> None:
        slots = max(ring.num_slots for ring in port.rx_rings)
        self._port = port
        self._found = np.empty(slots, NUMBER)
        self._other = np.empty(slots, NUMBER)
        self._offset = PAYLOADS[0]  # of the last batch: most batches need one look

    def look(self, span: Span) -> tuple[npt.NDArray[np.void], npt.NDArray[np.bool_]]:
        """An element of NUMBER for each slot, and whether it is a number; both are valid until the next call."""
        found, good = self._at(span, self._offset, self._found)
        if good.all():
            return found, good
        for offset in PAYLOADS:
            if offset == self._offset:
                continue
            other, here = self._at(span, offset, self._other)
            if (new := here & ~good).any():
                found[new] = other[new]
                good |= new
                self._offset = offset
            if good.all():
                break
        return found, good

    def _at(
        self, span: Span, offset: int, into: npt.NDArray[np.void]
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.bool_]]:
        found = self._port.read(span, NUMBER, offset=offset, into=into)
        words = found.view(np.uint16).reshape(len(found), WORDS)
        # A short frame leaves in its buffer what the frame before it had there.
        good = (found["magic"] == MAGIC) & (span.len >= offset + NUMBER.itemsize)
        good &= sum_of_words(words) % 0xFFFF == 0  # as folded() would make it 0xFFFF
        return found, good
