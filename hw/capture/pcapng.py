"""Read pcapng: blocks in sections (draft-ietf-opsawg-pcapng). Blocks are found one by one and decoded all at once."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError
from .frames import (
    MAX_FRAME,
    NS,
    Capture,
    bad_length,
    first_true,
    gather,
    linktype_refusal,
    to_capture,
    truncated,
)

SECTION = 0x0A0D0D0A  # the same bytes in both byte orders
INTERFACE, OBSOLETE, SIMPLE, ENHANCED = 1, 2, 3, 6
SMALLEST_BLOCK = {SECTION: 28, INTERFACE: 20, OBSOLETE: 32, SIMPLE: 16, ENHANCED: 32}
OPTION_END, OPTION_TSRESOL, OPTION_FCSLEN, OPTION_TSOFFSET = 0, 9, 13, 14
NO_SNAPLEN = 2**31 - 1
MAX_SECONDS = 2**33  # the year 2242: nanoseconds up to there fit 64 bits


@dataclass(frozen=True)
class Interface:
    """refusal: why its packets cannot be read, or ""; an interface without packets does no harm."""

    snaplen: int
    resolution: int  # if_tsresol of the file: bit 7 selects a power of two instead of ten
    offset_s: int
    refusal: str


@dataclass(frozen=True)
class Section:
    order: str
    interfaces: list[Interface] = field(default_factory=list)
    packets: dict[int, array[int]] = field(
        default_factory=lambda: {kind: array("q") for kind in (ENHANCED, SIMPLE, OBSOLETE)}
    )


@dataclass(frozen=True)
class Frames:
    """Frames from blocks of one kind, each array of shape (n,). timed: False if the kind of block has no timestamp."""

    offsets: npt.NDArray[np.int64]
    captured: npt.NDArray[np.int64]
    wire: npt.NDArray[np.int64]
    times_ns: npt.NDArray[np.int64]
    timed: npt.NDArray[np.bool_]


def read_pcapng(data: bytes, allow_truncated: bool) -> Capture:
    """Frames of a pcapng file in file order. Raises CaptureError, CaptureTruncated."""
    parts = [
        decode_packets(data, section, kind, np.array(positions, np.int64))
        for section in scan_blocks(data, allow_truncated)
        for kind, positions in section.packets.items()
        if positions
    ]
    if not parts:
        nothing = np.empty(0, np.int64)
        return to_capture(data, nothing, nothing.astype(np.uint32), nothing.astype(np.uint32), nothing)
    offsets = np.concatenate([part.offsets for part in parts])
    in_file_order = np.argsort(offsets, kind="stable")
    captured, wire, times, timed = (
        np.concatenate([part.captured for part in parts])[in_file_order].astype(np.uint32),
        np.concatenate([part.wire for part in parts])[in_file_order].astype(np.uint32),
        np.concatenate([part.times_ns for part in parts])[in_file_order],
        np.concatenate([part.timed for part in parts])[in_file_order],
    )
    return to_capture(data, offsets[in_file_order], captured, wire, fill_times(times, timed))


def fill_times(times: npt.NDArray[np.int64], timed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Give frames of simple packet blocks, which have no timestamp, the time of the frame before.

    At the start of the file they get the first timestamp there is.
    """
    known = np.flatnonzero(timed)
    if len(known) in (0, len(times)):
        return times
    nearest = np.searchsorted(known, np.arange(len(times)), side="right") - 1
    return times[known[np.maximum(nearest, 0)]]


def scan_blocks(data: bytes, allow_truncated: bool) -> list[Section]:
    """Sections with their interfaces and the byte positions of their packet blocks. Raises CaptureError."""
    sections: list[Section] = []
    head = struct.Struct("<II").unpack_from
    smallest = SMALLEST_BLOCK.get
    at, size = 0, len(data)
    while at + 12 <= size:
        kind, length = head(data, at)
        if kind == SECTION:
            order = byte_order(data, at)
            head = struct.Struct(order + "II").unpack_from
            kind, length = head(data, at)
        if length & 3 or length < smallest(kind, 12):
            raise CaptureError(
                f"the block at byte {at} has length {length}, which is not valid for a block of type {kind:#x}; "
                "the file is damaged"
            )
        if at + length > size:
            break
        if kind == SECTION:
            sections.append(read_section(data, at, order))
            interfaces, packets = sections[-1].interfaces, sections[-1].packets
        elif kind in packets:
            packets[kind].append(at)
        elif kind == INTERFACE:
            interfaces.append(read_interface(data, at, length, order, len(interfaces)))
        at += length
    if at < size and not (allow_truncated and sections):
        whole = sum(len(found) for section in sections for found in section.packets.values())
        needs = head(data, at)[1] if at + 12 <= size else 12
        raise truncated("the block", at, needs, size - at, whole)
    return sections


def byte_order(data: bytes, at: int) -> str:
    match data[at + 8 : at + 12]:
        case b"\x4d\x3c\x2b\x1a":
            return "<"
        case b"\x1a\x2b\x3c\x4d":
            return ">"
        case other:
            raise CaptureError(
                f"the section at byte {at} has the unknown byte-order magic {other.hex(' ')}; the file is damaged"
            )


def read_section(data: bytes, at: int, order: str) -> Section:
    major, minor = struct.unpack_from(order + "HH", data, at + 12)
    if major != 1:
        raise CaptureError(f"pcapng version {major}.{minor} at byte {at} is not supported; current programs write 1.0")
    return Section(order)


def read_interface(data: bytes, at: int, length: int, order: str, number: int) -> Interface:
    """An interface description block. Raises CaptureError."""
    linktype, snaplen = struct.unpack_from(order + "H2xI", data, at + 8)
    refusal = linktype_refusal(linktype, f"interface {number}")
    resolution, offset_s = 6, 0  # microseconds if the option is missing
    for code, value in options_of(data, at + 16, at + length - 4, order):
        if code == OPTION_TSRESOL and len(value) == 1:
            resolution = value[0]
        elif code == OPTION_TSOFFSET and len(value) == 8:
            (offset_s,) = struct.unpack(order + "q", value)
        elif code == OPTION_FCSLEN and value[:1] not in (b"", b"\0"):
            refusal = refusal or f"frames of interface {number} include their FCS; capture without FCS"
    if resolution & 0x7F > (63 if resolution & 0x80 else 18) or abs(offset_s) > MAX_SECONDS:
        raise CaptureError(
            f"interface {number} has an impossible clock (if_tsresol {resolution:#x}, if_tsoffset {offset_s}); "
            "the file is damaged"
        )
    return Interface(snaplen, resolution, offset_s, refusal)


def options_of(data: bytes, at: int, end: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option in [at, end)."""
    while at + 4 <= end:
        code, length = struct.unpack_from(order + "HH", data, at)
        if code == OPTION_END:
            return
        yield code, data[at + 4 : min(at + 4 + length, end)]
        at += 4 + (length + 3 & ~3)


def packet_layout(kind: int, order: str) -> np.dtype[np.void]:
    """The fixed part of a packet block of this kind."""
    u2, u4 = order + "u2", order + "u4"
    if kind == SIMPLE:
        return np.dtype([("type", u4), ("total", u4), ("wire", u4)])
    interface = [("interface", u4)] if kind == ENHANCED else [("interface", u2), ("drops", u2)]
    return np.dtype(
        [("type", u4), ("total", u4), *interface, ("high", u4), ("low", u4), ("captured", u4), ("wire", u4)]
    )


def decode_packets(data: bytes, section: Section, kind: int, positions: npt.NDArray[np.int64]) -> Frames:
    """Frames of all blocks of one kind in one section, with all lengths checked. Raises CaptureError."""
    layout = packet_layout(kind, section.order)
    blocks = gather(data, layout, positions)
    wire = blocks["wire"].astype(np.int64)
    if kind == SIMPLE:
        interface = np.zeros(len(blocks), np.int64)
    else:
        interface = blocks["interface"].astype(np.int64)
    if (i := first_true(interface >= len(section.interfaces))) is not None:
        raise CaptureError(
            f"the packet at byte {positions[i]} is of interface {interface[i]}, which has no description; "
            "the file is damaged"
        )
    for number, described in enumerate(section.interfaces):
        if described.refusal and (interface == number).any():
            raise CaptureError(described.refusal)
    if kind == SIMPLE:  # the block has no captured length: the snaplen of interface 0 limits it
        captured = np.minimum(wire, section.interfaces[0].snaplen or NO_SNAPLEN)
        times = np.zeros(len(blocks), np.int64)
    else:
        captured = blocks["captured"].astype(np.int64)
        times = timestamps(blocks["high"], blocks["low"], interface, section.interfaces, positions)
    check_packets(data, section.order, positions, blocks["total"].astype(np.int64), layout.itemsize, captured)
    return Frames(positions + layout.itemsize, captured, wire, times, np.full(len(blocks), kind != SIMPLE))


def check_packets(
    data: bytes,
    order: str,
    positions: npt.NDArray[np.int64],
    total: npt.NDArray[np.int64],
    header: int,
    captured: npt.NDArray[np.int64],
) -> None:
    """Raises CaptureError for impossible lengths."""
    if (i := first_true(captured > MAX_FRAME)) is not None:
        raise CaptureError(f"the packet at byte {positions[i]} {bad_length(int(captured[i]))}")
    if (i := first_true(captured > total - header - 4)) is not None:
        raise CaptureError(
            f"the packet at byte {positions[i]} has {captured[i]} bytes in a block of {total[i]}; the file is damaged"
        )
    trailer = gather(data, np.dtype([("total", order + "u4")]), positions + total - 4)["total"]
    if (i := first_true(trailer != total)) is not None:
        raise CaptureError(
            f"the packet block at byte {positions[i]} has length {total[i]} at its start and {trailer[i]} at its end; "
            "the file is damaged"
        )


def timestamps(
    high: npt.NDArray[np.uint32],
    low: npt.NDArray[np.uint32],
    interface: npt.NDArray[np.int64],
    interfaces: Sequence[Interface],
    positions: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Nanoseconds since 1970 of each packet. Raises CaptureError."""
    ticks = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
    seconds, nanoseconds = np.zeros(len(ticks), np.int64), np.zeros(len(ticks), np.int64)
    for number, described in enumerate(interfaces):
        mine = interface == number
        whole, nanoseconds[mine] = split_ticks(ticks[mine], described.resolution)
        seconds[mine] = np.minimum(whole, MAX_SECONDS * 2).astype(np.int64) + described.offset_s
    if (i := first_true(np.abs(seconds) > MAX_SECONDS)) is not None:
        raise CaptureError(
            f"the packet at byte {positions[i]} has a timestamp {seconds[i]} seconds from 1970; the file is damaged"
        )
    return seconds * NS + nanoseconds


def split_ticks(
    ticks: npt.NDArray[np.uint64], resolution: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Whole seconds and remaining nanoseconds of ticks in units of if_tsresol."""
    exponent = resolution & 0x7F
    a_second = np.uint64(2**exponent if resolution & 0x80 else 10**exponent)
    seconds, rest = ticks // a_second, ticks % a_second
    if not resolution & 0x80:
        up, down = 10 ** max(9 - exponent, 0), 10 ** max(exponent - 9, 0)
        return seconds, rest * np.uint64(up) // np.uint64(down)
    kept = min(exponent, 30)  # 2^-30 s is finer than a nanosecond, and a larger product would overflow
    return seconds, (rest >> np.uint64(exponent - kept)) * np.uint64(NS) >> np.uint64(kept)
