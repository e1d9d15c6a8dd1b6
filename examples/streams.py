"""Frames of pktgen.py whose fields vary: numpy writes the headers of a batch at once.

A source of frames numbers its flows. Frame k of flow f has addresses, ports and tag number f, and size number f + k.
A Lane gives the flows of one TX ring a frame each in turn, or draws them. If the pattern repeats within the ring, every
buffer is written once, and after that only `head` moves. Otherwise each batch is written anew.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any, Protocol

from fields import LATER, Endpoints, Ints, Rows
from numbered import NUMBER, folded, sum_of_words, write_numbers
from packets import ETHERTYPE_IPV4, SHORTEST, UDP

import numpy as np
import numpy.typing as npt

from ixrings import Port
from ixrings.rings import Context, Span, TxRing
from ixrings.rings.layout import SlotFlag

ETHERTYPE_VLAN, ETHERTYPE_IPV6 = 0x8100, 0x86DD
CONTEXT = int(SlotFlag.NS_CONTEXT)
LONGEST_TABLE, LARGEST_TABLE = 1 << 16, 1 << 25  # frames, bytes
LONGEST_BLOCK, LARGEST_BLOCK = 1 << 11, 1 << 19
NOTHING = np.empty(0, np.int64)
SLOTS, MOST_SLOTS, SLOTS_STEP, LEAST_SLOTS = 1024, 8192, 8, 64


class Source(Protocol):
    """Frames. flows: how many. sizes: how many sizes each flow takes in turn. longest: bytes of the longest frame."""

    flows: int
    sizes: int
    longest: int

    def rows(self, flow: Ints, turn: Ints) -> tuple[Rows, Ints]:
        """The first bytes of frames, and their lengths; the rest of each frame is zeros.

        flow: of each frame; turn: its size is number flow + turn.
        """


class Template:
    """UDP frames over IPv4 or IPv6, with right checksums. The payload is zeros, or a number (numbered.py).

    Flows are combinations of source, destination, VLAN and MAC addresses; the ones named first change first. lengths:
    None for the shortest frames that have room for headers and `room` bytes more. flows: at most so many flows.
    offload: the NIC fills in the checksums; `context` is its word. Raises ValueError if addresses do not go together.
    """

    def __init__(
        self,
        source: Endpoints,
        destination: Endpoints,
        source_macs: Rows,
        destination_macs: Rows,
        vlans: Rows | None,
        lengths: Ints | None = None,
        room: int = 0,
        flows: int = LATER,
        offload: bool = False,
    ) -> None:
        if source.width != destination.width:
            raise ValueError(f"-s {source.text} is {source.name} and -d {destination.text} is {destination.name}")
        self._source, self._destination = source, destination
        self._ip = 14 + (0 if vlans is None else 4)
        self._udp = self._ip + (20 if source.width == 4 else 40)
        self.headers = self._udp + 8
        self._lengths = np.array([max(SHORTEST, self.headers + room)]) if lengths is None else lengths
        self.sizes, self.shortest, self.longest = len(self._lengths), int(self._lengths.min()), int(self._lengths.max())
        self._tables = [
            (at, table) for at, table in ((14, vlans), (6, source_macs), (0, destination_macs)) if table is not None
        ]
        self.combinations = source.count * destination.count
        for _, table in self._tables:
            self.combinations *= len(table)
        self.flows = min(flows, self.combinations, LATER)
        self._base = self._first_headers(source.width == 4, vlans is not None)
        self._offload = offload
        self.context = (
            Context(self._ip, self._udp - self._ip, 8, ipv4=source.width == 4, ip_checksum=source.width == 4,
                    l4_checksum=True).word() if offload else 0
        )  # fmt: skip

    def _first_headers(self, ipv4: bool, tagged: bool) -> Rows:
        """Headers in which every varied field and checksum is zero."""
        tag = struct.pack("!HH", ETHERTYPE_VLAN, 0) if tagged else b""
        ethertype = ETHERTYPE_IPV4 if ipv4 else ETHERTYPE_IPV6
        # Don't fragment and a TTL of 64; IPv6: a hop limit of 64.
        ip = struct.pack("!BBHHHBBH8x", 0x45, 0, 0, 0, 0x4000, 64, UDP, 0) if ipv4 else struct.pack(
            "!BBHHBB32x", 0x60, 0, 0, 0, UDP, 64)  # fmt: skip
        return np.frombuffer(bytes(12) + tag + struct.pack("!H", ethertype) + ip + bytes(8), np.uint8)

    def rows(self, flow: Ints, turn: Ints) -> tuple[Rows, Ints]:
        out = np.empty((len(flow), self.headers), np.uint8)
        out[:] = self._base
        lengths = self._lengths[(flow + turn) % self.sizes]
        width, ip, udp = self._source.width, self._ip, self._udp
        rest, which = np.divmod(flow, self._source.count)
        out[:, udp - 2 * width : udp - width], out[:, udp : udp + 2] = split(self._source.rows(which), width)
        rest, which = np.divmod(rest, min(self._destination.count, LATER))
        out[:, udp - width : udp], out[:, udp + 2 : udp + 4] = split(self._destination.rows(which), width)
        for at, table in self._tables:
            rest, which = np.divmod(rest, len(table))
            out[:, at : at + table.shape[1]] = table[which]
        words = out.view(">u2")
        words[:, (ip + 2) // 2 if width == 4 else (ip + 4) // 2] = lengths - (ip if width == 4 else udp)
        words[:, udp // 2 + 2] = lengths - udp
        self._write_checksums(out.view(np.uint16), width == 4)
        return out, lengths

    def _write_checksums(self, words: npt.NDArray[np.uint16], ipv4: bool) -> None:
        """With offload, the NIC adds the UDP packet to the sum of the pseudo header that it finds in the field."""
        ip, udp = self._ip // 2, self._udp // 2
        if ipv4 and not self._offload:
            words[:, ip + 5] = ~folded(sum_of_words(words[:, ip:udp]))
        sums = sum_of_words(words[:, udp - self._source.width : udp])  # two addresses
        sums += words[:, udp + 2]
        sums += int.from_bytes(bytes([0, UDP]), "little")
        if self._offload:
            words[:, udp + 3] = folded(sums)
            return
        sums += sum_of_words(words[:, udp : udp + 3])
        total = ~folded(sums) & 0xFFFF
        words[:, udp + 3] = np.where(total == 0, 0xFFFF, total)  # 0 would say that there is no checksum (RFC 768)

    def words(self, flow: int) -> Mapping[str, object]:
        """What tells a flow from the others."""
        rest, source = divmod(flow, self._source.count)
        rest, destination = divmod(rest, self._destination.count)
        found: dict[str, object] = {
            "source": self._source.words(source), "destination": self._destination.words(destination)
        }  # fmt: skip
        for at, table in self._tables:
            rest, which = divmod(rest, len(table))
            if at == 14:
                found["vlan"] = int.from_bytes(table[which].tobytes(), "big")
        return found


def split(rows: Rows, width: int) -> tuple[Rows, Rows]:
    return rows[:, :width], rows[:, width:]


@dataclass(frozen=True)
class Numbering:
    """sender: of every frame of this run. first: the first number of each stream. offset: bytes before the number."""

    sender: int
    first: int
    offset: int


class Lane:
    """One TX ring and its flows: `first`, `first` + `step`, and so on.

    random: flows and sizes are drawn by it, not taken in turn. numbering: each frame gets a number, its flow is the
    stream. context: the word for the NIC's work on each frame; it takes a slot before the frame's.

    Frames that are not in the ring's buffers from the start are made in blocks, because numpy takes as long for 50
    frames as for one. If the pattern is short enough, its headers are made once.
    """

    def __init__(
        self,
        port: Port,
        ring: TxRing,
        source: Source,
        first: int = 0,
        step: int = 1,
        random: np.random.Generator | None = None,
        numbering: Numbering | None = None,
        context: int = 0,
    ) -> None:
        self._port, self._ring, self._source, self._random = port, ring, source, random
        self._first, self._step = first, step
        self._flows = flows_of(source.flows, first, step)
        self._numbering, self._context = numbering, context
        self._slots = 2 if context else 1  # of a frame
        self._sent = 0
        period = self._flows * source.sizes
        self._prepared = random is None and ring.num_slots // self._slots % period == 0
        short = period <= LONGEST_TABLE and period * source.longest <= LARGEST_TABLE
        self._table = self._pattern(period) if short and not self._prepared else None
        # The block: frames to hand over next are those from `_at` on.
        self._count = min(max(LARGEST_BLOCK // source.longest, 64), LONGEST_BLOCK)
        self._which = NOTHING
        self._rows, self._lengths = self._table or self._pattern(0)
        self._numbers = np.empty(self._count, NUMBER)
        self._made_of = np.zeros(self._flows if numbering else 0, np.int64)  # frames made of each flow that is drawn
        # Without numbers, and in turn, one block is all there is: the pattern, or nothing to write.
        self._repeats = not random and not numbering and (self._prepared or self._table is not None)
        if self._repeats:
            self._count = len(self._lengths) if self._table else ring.num_slots
        self._at = self._count
        self._prepare()
        self._plain = self._prepared and self._repeats and not context

    def _pattern(self, count: int) -> tuple[Rows, Ints]:
        """The first frames in turn."""
        which, turn = self._in_turn(0, count)
        return self._source.rows(self._first + self._step * which, turn)

    def _in_turn(self, begin: int, count: int) -> tuple[Ints, Ints]:
        """Flow of this lane, and turn, of frames from number `begin` on."""
        frames = begin + np.arange(count)
        if self._flows == 1:
            return np.zeros(count, np.int64), frames
        turn, which = np.divmod(frames, self._flows)
        return which, turn

    def _prepare(self) -> None:
        """Zeros into every buffer; and the frames, if the ring repeats them."""
        slots = (
            self._ring.head + np.arange(self._ring.num_slots)
        ) % self._ring.num_slots  # a daemon's head is anywhere
        frames = slots[self._slots - 1 :: self._slots]
        buffers = self._ring.slots["buf_idx"][frames]
        self._port.buffers[buffers, : self._source.longest] = 0
        if self._context:
            self._ring.slots["ptr"][slots[::2]] = self._context
        if self._prepared:
            rows, self._ring.slots["len"][frames] = self._pattern(len(frames))
            self._port.buffers[buffers, : rows.shape[1]] = rows

    def send(self, most: int) -> int:
        """Hand over up to `most` frames. Returns their number."""
        count = 0
        if self._plain:
            ring = self._ring
            count = ring.space
            if count > most:  # min() takes longer
                count = most
            ring.advance(count)
            return count
        while count < most and (written := self._write(most - count)):
            count += written
        return count

    def _write(self, most: int) -> int:
        """Write up to `most` frames, before the ring's or the block's end, and hand them over. Returns their number."""
        if self._at == self._count:
            self._next_block()
        span = self._ring.reserve(min(most, self._count - self._at) * self._slots)
        count = len(span) // self._slots
        if not count:
            return 0
        these = slice(self._at, self._at + count)
        if not self._prepared:
            self._put(span, self._rows[these], 0)
            span.len[self._slots - 1 :: self._slots] = self._lengths[these]
        if self._numbering:
            self._put(span, self._numbers[these], self._numbering.offset)
        if self._context:
            span.flags[::2] = CONTEXT  # the sync that hands a context over has cleared its flag
        self._ring.advance(count * self._slots)
        self._at += count
        self._sent += count
        return count

    def _put(self, span: Span, rows: npt.NDArray[Any], offset: int) -> None:
        if self._slots == 1:
            self._port.write(span, rows, offset)
        else:
            whole = rows.view(np.uint8).reshape(len(rows), -1)
            self._port.buffers[span.buf_idx[1::2], offset : offset + whole.shape[1]] = whole

    def _next_block(self) -> None:
        """Make the frames after those that were handed over."""
        self._at = 0
        if self._repeats:
            return
        if self._random is None:
            which, turn = self._in_turn(self._sent, self._count)
        else:
            which = self._random.integers(self._flows, size=self._count)
            turn = self._random.integers(self._source.sizes, size=self._count)
        if self._table is not None:
            index = which + self._flows * (turn % self._source.sizes)
            self._rows, self._lengths = self._table[0][index], self._table[1][index]
        elif not self._prepared:
            self._rows, self._lengths = self._source.rows(self._first + self._step * which, turn)
        if self._numbering:
            self._number(which, turn, self._numbering)

    def _number(self, which: Ints, turn: Ints, numbering: Numbering) -> None:
        if self._random is not None:
            turn = self._made_of[which] + how_often_before(which)
            self._made_of += np.bincount(which, minlength=self._flows)
            self._which = which
        streams = self._first + self._step * which
        write_numbers(self._numbers, numbering.sender, streams, numbering.first + turn)

    def sent_of(self) -> dict[int, int]:
        """Frames of each flow that were handed over; only for numbered frames."""
        flows = np.arange(self._flows)
        if self._random is None:
            sent = (self._sent - flows + self._flows - 1) // self._flows
        else:
            sent = self._made_of - np.bincount(self._which[self._at :], minlength=self._flows)
        return dict(zip((self._first + self._step * flows).tolist(), sent.tolist(), strict=True))


def how_often_before(which: Ints) -> Ints:
    """How many elements before each one are equal to it, shape (n,)."""
    order = np.argsort(which, kind="stable")
    begins = np.flatnonzero(np.concatenate(([True], np.diff(which[order]) != 0)))
    ranks = np.arange(len(which)) - np.repeat(begins, np.diff(begins, append=len(which)))
    found = np.empty_like(ranks)
    found[order] = ranks
    return found


def flows_of(flows: int, first: int, step: int) -> int:
    """How many of 0..flows-1 are `first`, `first` + `step`, and so on."""
    return -(-(flows - first) // step)


def shares(flows: int, rings: int) -> tuple[list[int], int]:
    """First flow of each ring, and the step to its next one. With fewer flows than rings, each ring sends all flows."""
    return (list(range(rings)), rings) if flows >= rings else ([0] * rings, 1)


def slots_for(source: Source, rings: int, offload: bool) -> int:
    """Slots of a TX ring in which the pattern of frames repeats; the usual number if none does."""
    firsts, step = shares(source.flows, rings)
    periods = [flows_of(source.flows, first, step) * source.sizes for first in firsts]
    repeats = lcm(SLOTS_STEP, *((2 if offload else 1) * period for period in periods))
    if repeats * rings > MOST_SLOTS:
        return SLOTS
    return max(-(-LEAST_SLOTS // repeats), SLOTS // repeats) * repeats
