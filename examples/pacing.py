"""Exact gaps between frames, for pktgen.py --gaps: filler frames take the time between them on the wire.

A filler has a wrong CRC, which the driver writes: the NIC appends none (IFCS 0, 82599 7.2.3.2.2). The receiver counts
it in CRCERRS and drops it. The NIC sends without a pause, so a frame leaves when the bytes before it are over: a byte
is 0.8 ns at 10 Gbit/s. MoonGen introduced this (IMC 2015, "MoonGen: A Scriptable High-Speed Packet Generator").

How short a filler may be: an 82599 sends frames of 14 bytes without padding, but at most 15.6 to 16.4 million frames a
second. MoonGen therefore takes 34 bytes of wire and more below half of that rate, and 76 and more above it (libmoon:
minPacketSize and maxPacketRate of ixgbe; MoonGen: sendWithDelay). Here it is always 84 bytes of wire, a frame of 64:
the datasheet wants IFCS for shorter ones, because the NIC pads them, and receivers count them as fragments (RFC). A gap
of 1 to 83 bytes is not filled. It is carried to the next gap, so the rate stays: the frame leaves up to 83 bytes (66
ns) early, which is counted.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from select import POLLOUT

import numpy as np
import numpy.typing as npt

from ixrings import Port
from ixrings.rings.layout import SlotFlag

WIRE_OVERHEAD = 20  # bytes: preamble and start delimiter 8, least gap 12
CRC = 4
SHORTEST_FRAME = 60  # without CRC; the NIC pads to it
SHORTEST, LONGEST = 64 + WIRE_OVERHEAD, 1518 + WIRE_OVERHEAD  # a filler's bytes on the wire
LONGEST_GAP_NS = 10e9
PLANNED = 1 << 15  # slots, about, that are planned at once
FRAME_FLAGS = int(SlotFlag.NS_BUF_CHANGED)
FILLER_FLAGS = int(SlotFlag.NS_BUF_CHANGED | SlotFlag.NS_OWN_CRC)
EXPERIMENTAL = b"\x88\xb5"  # EtherType

Whole = npt.NDArray[np.int64]
Starts = Callable[[int, int], npt.NDArray[np.float64]]  # first, count: where these frames should begin, in bytes


# ---- patterns ----


@dataclass(frozen=True)
class Pattern:
    """constant, poisson, burst:N, or the times of a file. nanoseconds: from each frame's start to the next one's."""

    kind: str
    burst: int = 1
    nanoseconds: npt.NDArray[np.float64] | None = None

    def mean(self, rate: float, bytes_per_ns: float) -> float:
        """Bytes from one start to the next, on average."""
        if self.nanoseconds is not None:
            return float(self.nanoseconds.mean()) * bytes_per_ns
        return 1e9 / rate * bytes_per_ns

    def starts(self, rate: float, bytes_per_ns: float, wire: int, seed: int | None = None) -> Starts:
        """wire: bytes of a frame on the wire. The functions are called with consecutive frames."""
        mean = self.mean(rate, bytes_per_ns)
        if self.nanoseconds is not None:
            return listed(self.nanoseconds * bytes_per_ns)
        if self.kind == "poisson":
            return poisson(mean, np.random.default_rng(seed))
        size = self.burst

        def bursts(first: int, count: int) -> npt.NDArray[np.float64]:
            frames = np.arange(first, first + count)
            return (frames // size * (size * mean) + frames % size * wire).astype(np.float64)

        return bursts


def poisson(mean: float, random: np.random.Generator) -> Starts:
    """Exponential times between starts."""
    position = 0.0

    def starts(first: int, count: int) -> npt.NDArray[np.float64]:
        nonlocal position
        times: npt.NDArray[np.float64] = position + np.cumsum(random.exponential(mean, count))
        position = float(times[-1])
        return times

    return starts


def listed(lengths: npt.NDArray[np.float64]) -> Starts:
    """The list again and again."""
    before = np.concatenate(([0.0], np.cumsum(lengths)))

    def starts(first: int, count: int) -> npt.NDArray[np.float64]:
        rounds, places = np.divmod(np.arange(first, first + count), len(lengths))
        times: npt.NDArray[np.float64] = rounds * before[-1] + before[places]
        return times

    return starts


def pattern(text: str) -> Pattern:
    """The pattern that --gaps names. Raises ValueError."""
    kind, _, size = text.partition(":")
    if text in ("constant", "poisson"):
        return Pattern(text)
    if kind == "burst":
        if not size.isdecimal() or not 1 <= int(size) <= PLANNED:
            raise ValueError(f"{text!r}: write burst:N, with 1 to {PLANNED} frames in a burst")
        return Pattern("burst", int(size))
    return Pattern("file", nanoseconds=read_gaps(Path(text)))


def read_gaps(path: Path) -> npt.NDArray[np.float64]:
    """A file of nanoseconds from one frame's start to the next one's, one a line; # begins a comment.

    Raises ValueError.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; --gaps takes constant, poisson, burst:N or a file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"cannot read {path}: {reason}") from None
    gaps = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].strip()
        try:
            gap = float(words or 0)
        except ValueError:
            gap = math.nan
        if not 0 <= gap <= LONGEST_GAP_NS:
            raise ValueError(
                f"{path}, line {number}: {words!r} is refused; write nanoseconds from one frame's start to the next "
                f"one's, 0 to {LONGEST_GAP_NS:.0f}"
            )
        if words:
            gaps.append(gap)
    if not gaps:
        raise ValueError(f"{path} has no line with nanoseconds")
    return np.array(gaps)


# ---- the plan ----


@dataclass(frozen=True)
class Plan:
    """Slots in the order of the wire. lengths: of a frame without CRC, of a filler with its CRC."""

    lengths: npt.NDArray[np.uint16]
    fillers: npt.NDArray[np.bool_]


class Planner:
    """Turns the times when frames should begin into frames and fillers. Errors are carried, so they do not add up.

    early: frames before their time, because the gap before them was too short for a filler. late: frames after their
    time, because the wire still carried the one before. earliest, latest: by how many bytes at most.
    """

    def __init__(self, starts: Starts, length: int) -> None:
        """length: bytes of each frame without CRC."""
        self._starts, self._length = starts, length
        self._wire = wire_bytes(length)
        self._next = 0  # frame
        self._free = 0  # where the frame before ends, if all gaps are as they should be
        self._carried = 0  # bytes of gaps that are not filled yet
        self.early = self.earliest = self.late = self.latest = 0

    def plan(self, count: int) -> Plan:
        """The next `count` frames."""
        before = np.arange(count) * self._wire
        wanted = np.rint(self._starts(self._next, count)).astype(np.int64)
        # no frame begins before the one before it ends: the larger of both, taken for all frames at once
        begin = before + np.maximum.accumulate(np.maximum(wanted - before, self._free))
        gaps = np.diff(begin, prepend=self._free - self._wire) - self._wire
        filled, ahead = filled_gaps(gaps, self._carried)
        late = begin - ahead - wanted
        self.early += int(np.count_nonzero(late < 0))
        self.late += int(np.count_nonzero(late > 0))
        self.earliest, self.latest = max(self.earliest, int(-late.min())), max(self.latest, int(late.max()))
        self._next += count
        self._free, self._carried = int(begin[-1]) + self._wire, int(ahead[-1])
        return self._slots(filled)

    def _slots(self, filled: Whole) -> Plan:
        """A long gap takes several fillers of about the same length."""
        parts = -(-filled // LONGEST)
        ends = np.cumsum(parts + 1)
        fillers = np.ones(int(ends[-1]), bool)
        fillers[ends - 1] = False
        lengths = np.full(len(fillers), self._length, np.uint16)
        some = np.flatnonzero(parts)
        parts = parts[some]
        each, longer = np.divmod(filled[some], parts)
        order = np.arange(int(parts.sum())) - np.repeat(np.cumsum(parts) - parts, parts)
        lengths[fillers] = np.repeat(each, parts) + (order < np.repeat(longer, parts)) - WIRE_OVERHEAD
        return Plan(lengths, fillers)


def wire_bytes(length: int) -> int:
    """Bytes on the wire of a frame of `length` bytes without CRC."""
    return max(length, SHORTEST_FRAME) + CRC + WIRE_OVERHEAD


def filled_gaps(gaps: Whole, carried: int) -> tuple[Whole, Whole]:
    """Bytes of fillers before each frame, 0 or SHORTEST and more, and the bytes that are carried behind it.

    carried: from the frames before. A gap is filled as soon as it has SHORTEST bytes with what is carried to it.
    """
    owed = carried + np.cumsum(gaps)
    count = len(owed)
    after = np.append(np.searchsorted(owed, owed + SHORTEST), count)  # the next one to be filled after each
    chosen = np.zeros(count + 1, bool)
    chosen[:count] = gaps >= SHORTEST
    chosen[np.searchsorted(owed, SHORTEST)] = True
    known = 0
    while (found := int(np.count_nonzero(chosen))) > known:  # each turn follows twice as many links as the turn before
        known = found
        chosen[after[chosen]] = True
        after = after[after]
    places = np.flatnonzero(chosen[:count])
    filled = np.zeros(count, np.int64)
    filled[places] = np.diff(owed[places], prepend=0)
    return filled, owed - np.cumsum(filled)


# ---- sending ----


def filler_bytes(frame: bytes) -> bytes:
    """The bytes of every filler. Whatever its length, the last four, which are zeros, are a wrong CRC."""
    for number in range(256):
        start = frame[:12] + EXPERIMENTAL + bytes([number])
        filler = start + bytes(LONGEST - WIRE_OVERHEAD - len(start))
        shortest = SHORTEST - WIRE_OVERHEAD - CRC
        crc, right = zlib.crc32(filler[:shortest]), False
        for at in range(shortest, len(filler) - CRC + 1):
            right |= crc == 0
            crc = zlib.crc32(filler[at : at + 1], crc)
        if not right:
            break
    return filler


class Paced:
    """Sends one frame again and again, with fillers between. Two buffers serve all slots of the ring.

    rate: frames a second, unless the pattern has its times. batch: slots in one sync, at most. seed: of poisson. Raises
    ValueError for a rate that the link does not carry.
    """

    def __init__(
        self, port: Port, frame: bytes, chosen: Pattern, rate: float, batch: int, seed: int | None = None
    ) -> None:
        self._port, self._ring, self._batch = port, port.tx_rings[0], batch
        if not port.link.speed_mbps:
            raise ValueError(
                f"{port.name} has no speed, so its bytes take no time: --gaps is for a NIC whose link is up"
            )
        bytes_per_ns = port.link.speed_mbps / 8000
        wire, mean = wire_bytes(len(frame)), chosen.mean(rate, bytes_per_ns)
        if mean < wire:
            raise ValueError(
                f"frames of {len(frame)} bytes take {wire} bytes of wire, and this pattern has {mean:.4g} for each: "
                f"the link carries {bytes_per_ns * 1e9 / wire:.0f} frames a second. Take a lower rate or longer gaps"
            )
        self._planner = Planner(chosen.starts(rate, bytes_per_ns, wire, seed), len(frame))
        self._at_once = max(1, int(PLANNED / (1 + math.ceil(mean / LONGEST))))
        self._buffers = self._ring.slots["buf_idx"].copy()
        self._of_frame, self._of_filler = (int(index) for index in self._buffers[:2])
        port.buffers[self._of_frame, : len(frame)] = np.frombuffer(frame, np.uint8)
        filler = filler_bytes(frame)
        port.buffers[self._of_filler, : len(filler)] = np.frombuffer(filler, np.uint8)

    def send(self, left: Callable[[float], float], counted: dict[str, float], tick: Callable[[], None]) -> None:
        """Until left(sent) is 0. counted: what a Meter shows; frames that were handed over are "sent"."""
        counted.update(sent=0, fillers=0)
        try:
            while (remaining := left(counted["sent"])) > 0:
                plan = self._planner.plan(int(min(self._at_once, remaining)))
                self._hand_over(plan, counted, tick)
                self._count(counted)
        finally:
            try:
                self._port.txsync()  # slots that Ctrl-C left on the ring go with the buffers that they have now
            finally:
                self._ring.slots["buf_idx"] = self._buffers  # no two slots may share a buffer for the next user

    def _hand_over(self, plan: Plan, counted: dict[str, float], tick: Callable[[], None]) -> None:
        port, ring = self._port, self._ring
        buffers = np.where(plan.fillers, self._of_filler, self._of_frame).astype(np.uint32)
        flags = np.where(plan.fillers, FILLER_FLAGS, FRAME_FLAGS).astype(np.uint16)
        at = 0
        while at < len(buffers):
            if counted["sent"] and ring.space == ring.num_slots - 1:
                counted["ring_empty"] = counted.get("ring_empty", 0) + 1  # a wire that waited here has a longer gap
            span = ring.reserve(min(self._batch, len(buffers) - at))
            end = at + len(span)
            if len(span):
                span.buf_idx[:], span.len[:], span.flags[:] = buffers[at:end], plan.lengths[at:end], flags[at:end]
                ring.advance(len(span))
            port.txsync()
            if at == end:
                port.poll(1.0, POLLOUT)
            fillers = int(np.count_nonzero(plan.fillers[at:end]))
            counted["fillers"] += fillers
            counted["sent"] += end - at - fillers
            at = end
            tick()

    def _count(self, counted: dict[str, float]) -> None:
        planner = self._planner
        for name in ("early", "late"):
            if getattr(planner, name):
                counted[name] = getattr(planner, name)
                counted[f"{name}_bytes_at_most"] = planner.earliest if name == "early" else planner.latest


def add_gaps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gaps",
        metavar="PATTERN",
        help="-f tx: gaps that are exact to the byte, by filler frames that the receiver drops: constant, poisson or "
        "burst:N with -R, or a file of nanoseconds from one frame's start to the next one's",
    )


def chosen_pattern(args: argparse.Namespace) -> Pattern | None:
    """The pattern of --gaps, None without it. Raises ValueError for options that do not go with it."""
    if args.gaps is None:
        return None
    if args.function != "tx":
        raise ValueError(f"--gaps is for -f tx, and this is -f {args.function}")
    if args.queues != 1:
        raise ValueError("--gaps needs the order of one queue; leave out -p")
    chosen = pattern(args.gaps)
    if chosen.nanoseconds is not None and args.rate:
        raise ValueError("the file of --gaps has the times already; leave out -R")
    if chosen.nanoseconds is None and args.rate < 1:
        raise ValueError(f"--gaps {args.gaps} needs a rate of 1 frame a second or more: -R 1000000")
    return chosen
