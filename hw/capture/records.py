"""How frames are laid out in the files that CaptureWriter writes: pcap and pcapng, both with nanosecond stamps.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. Both are written little-endian, for Ethernet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .frames import LINKTYPE_ETHERNET, NS
from .pcapng import ENHANCED, INTERFACE, OPTION_END, OPTION_TSRESOL, SECTION

RECORD_HEADER = 16
LONGEST_OPTION = 0xFFFF  # bytes; its length has 16 bits
BYTE_ORDER = 0x1A2B3C4D
STATISTICS = 5  # the type of the interface statistics block
# Codes of options: of any block; of the section; of the interface; of the statistics.
COMMENT = 1
OPERATING_SYSTEM, APPLICATION = 3, 4
NAME, DESCRIPTION, MAC_ADDRESS, SPEED, FILTER, HARDWARE = 2, 3, 6, 8, 11, 15
START, END, RECEIVED, DROPPED, ACCEPTED, DELIVERED = 2, 3, 4, 5, 6, 8
NANOSECONDS = b"\x09"  # if_tsresol: 10 to the power of -9 s
FILTER_TEXT = b"\0"  # the kind of if_filter: as tcpdump writes it


@dataclass(frozen=True)
class Origin:
    """What a pcapng file tells about the interface of its frames. What is empty is left out. speed: bit/s."""

    name: str = ""
    description: str = ""
    hardware: str = ""
    mac: bytes = b""
    speed: int = 0
    filter: str = ""
    comment: str = ""
    application: str = ""
    system: str = ""


@dataclass(frozen=True)
class Counts:
    """What an interface counted during a capture: frames received, and of these, dropped before they were captured.

    None: not known.
    """

    received: int | None = None
    dropped: int | None = None
    accepted: int | None = None  # by the filter


class PcapRecords:
    """Classic pcap: a header of 16 bytes before each frame."""

    header, align, tail = RECORD_HEADER, 1, 0

    def begin(self, snaplen: int) -> bytes:
        return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snaplen, LINKTYPE_ETHERNET)

    def record(self, frame: bytes | memoryview, wire: int, time_ns: int, comment: str) -> bytes:
        if comment:
            raise ValueError("a pcap file has no place for a comment; write a pcapng file")
        seconds, nanoseconds = divmod(time_ns, NS)
        return struct.pack("<IIII", seconds, nanoseconds, len(frame), wire) + frame

    def headers(
        self,
        times_ns: npt.NDArray[np.integer] | int,
        captured: npt.NDArray[np.integer],
        lengths: npt.NDArray[np.integer],
    ) -> npt.NDArray[np.void]:
        """The headers of a batch, each as one item.

        If all are equal, there is only one item. This saves a tenth of the time of examples/capture.py.
        """
        headers = np.empty(
            number_of_headers(times_ns, lengths),
            [(name, "<u4") for name in ("seconds", "fraction", "captured", "wire")],
        )
        headers["seconds"], headers["fraction"] = divmod(times_ns, NS)
        headers["captured"], headers["wire"] = captured[: len(headers)], lengths[: len(headers)]
        return headers.view(f"V{self.header}")

    def rest(self, captured: int) -> bytes:
        """What follows a frame of so many bytes."""
        return b""

    def finish(self, rows: npt.NDArray[np.uint8], captured: npt.NDArray[np.integer]) -> None:
        """Write what follows each frame, where row k has a record of captured[k] bytes."""

    def end(self, counts: Counts, start_ns: int, end_ns: int, frames: int) -> bytes:
        return b""


class PcapngRecords:
    """pcapng: a section with one interface, an enhanced packet block for each frame, and a block of statistics."""

    header, align, tail = 28, 4, 4

    def __init__(self, origin: Origin | None = None) -> None:
        """Raises ValueError for a text that is too long for an option."""
        self._origin = origin or Origin()
        self.begin(0)

    def begin(self, snaplen: int) -> bytes:
        origin = self._origin
        section = options(
            (COMMENT, origin.comment), (OPERATING_SYSTEM, origin.system), (APPLICATION, origin.application)
        )
        return block(SECTION, struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1) + section) + block(
            INTERFACE, struct.pack("<HHI", LINKTYPE_ETHERNET, 0, snaplen) + self._described()
        )

    def _described(self) -> bytes:
        origin = self._origin
        return options(
            (NAME, origin.name),
            (DESCRIPTION, origin.description),
            (MAC_ADDRESS, origin.mac),
            (SPEED, struct.pack("<Q", origin.speed) if origin.speed else b""),
            (OPTION_TSRESOL, NANOSECONDS),
            (FILTER, FILTER_TEXT + origin.filter.encode() if origin.filter else b""),
            (HARDWARE, origin.hardware),
        )

    def record(self, frame: bytes | memoryview, wire: int, time_ns: int, comment: str) -> bytes:
        captured = len(frame)
        head = struct.pack("<IIIII", 0, time_ns >> 32, time_ns & 0xFFFF_FFFF, captured, wire)
        return block(ENHANCED, head + padded(bytes(frame)) + options((COMMENT, comment)))

    def headers(
        self,
        times_ns: npt.NDArray[np.integer] | int,
        captured: npt.NDArray[np.integer],
        lengths: npt.NDArray[np.integer],
    ) -> npt.NDArray[np.void]:
        headers = np.empty(
            number_of_headers(times_ns, lengths),
            [(name, "<u4") for name in ("type", "total", "interface", "high", "low", "captured", "wire")],
        )
        captured, times = captured[: len(headers)], np.asarray(times_ns, np.uint64)
        headers["type"], headers["interface"] = ENHANCED, 0
        headers["total"] = size_of(self, captured)
        headers["high"], headers["low"] = times >> np.uint64(32), times & np.uint64(0xFFFF_FFFF)
        headers["captured"], headers["wire"] = captured, lengths[: len(headers)]
        return headers.view(f"V{self.header}")

    def rest(self, captured: int) -> bytes:
        return bytes(-captured % 4) + struct.pack("<I", size_of(self, captured))

    def finish(self, rows: npt.NDArray[np.uint8], captured: npt.NDArray[np.integer]) -> None:
        count, stride = rows.shape
        first = np.arange(count) * stride
        flat, total = rows.reshape(-1), size_of(self, captured)
        for place in range(3):  # the padding, or what the next line overwrites
            flat[first + self.header + captured + place] = 0
        flat.view("<u4")[(first + total - 4) // 4] = total

    def end(self, counts: Counts, start_ns: int, end_ns: int, frames: int) -> bytes:
        """The statistics; b"" if nothing was counted."""
        numbers = (
            (RECEIVED, counts.received),
            (DROPPED, counts.dropped),
            (ACCEPTED, counts.accepted),
            (DELIVERED, frames),
        )
        return block(
            STATISTICS,
            struct.pack("<I", 0)
            + stamp(end_ns)
            + options(
                (START, stamp(start_ns)),
                (END, stamp(end_ns)),
                *((code, struct.pack("<Q", number)) for code, number in numbers if number is not None),
            ),
        )


Records = PcapRecords | PcapngRecords


def size_of(records: Records, captured: npt.NDArray[np.integer] | int) -> npt.NDArray[np.integer] | int:
    """Bytes of a record of `captured` bytes of a frame."""
    return captured + (-captured & records.align - 1) + records.header + records.tail


def number_of_headers(times_ns: npt.NDArray[np.integer] | int, lengths: npt.NDArray[np.integer]) -> int:
    """1 if all headers of a batch are equal, otherwise one for each frame."""
    same = np.ndim(times_ns) == 0 and int(lengths.min()) == int(lengths.max())
    return 1 if same else len(lengths)


def stamp(time_ns: int) -> bytes:
    """A time in an option: the high 32 bits first."""
    return struct.pack("<II", time_ns >> 32, time_ns & 0xFFFF_FFFF)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def block(kind: int, body: bytes) -> bytes:
    total = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + total + body + total


def options(*values: tuple[int, str | bytes]) -> bytes:
    """Options with their end; b"" if all are empty. Raises ValueError."""
    found = b""
    for code, value in values:
        data = value.encode(errors="replace") if isinstance(value, str) else value
        if len(data) > LONGEST_OPTION:
            raise ValueError(f"a text of {len(data)} bytes does not fit: a pcapng option has at most {LONGEST_OPTION}")
        if data:
            found += struct.pack("<HH", code, len(data)) + padded(data)
    return found and found + struct.pack("<HH", OPTION_END, 0)
