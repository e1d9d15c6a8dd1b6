"""Trials of RFC 2544: frames are sent at a rate for a time, and counted where they come back. Each knows its trial."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from select import POLLIN

from meter import FRAME_ERRORS  # first: it makes Ctrl-C quiet while the other modules load
from packets import HEADERS, SHORTEST, udp_frame

import numpy as np
import numpy.typing as npt

from ixrings import LinkDown, NotOffered, Port
from ixrings.driver.rates import LEAST_MBPS
from ixrings.rings import Span

SIGNATURE = b"IX25"
# In the payload of each frame. run tells two testers apart, and a tester from an earlier run of the same.
TAG = np.dtype([("signature", "S4"), ("run", ">u4"), ("trial", ">u4"), ("number", ">u4")])
TAGGED = HEADERS + TAG.itemsize
CRC, PREAMBLE_AND_GAP = 4, 20
BATCH = 2048
LEARNING, LEARNING_FRAMES = 0, 3  # their run, and how many
CATCH_UP_S = 0.01  # of sending by the clock: time that was lost beyond this is not made up by a burst
SPACING = 1.5  # times the rate: the NIC's gaps within frames that the clock released, so that none waits long
LATE = 1.1  # no frame is sent after this part of the trial's time
IDLE_S = 0.0002
LOOK_S = 0.5  # between two looks at the links
PROBES = 10_000  # frames of a trial whose latency is measured, at most
LEAST_SENT = 0.98  # of the wanted rate; with less, the tester itself was too slow

IMIX = (64, 594, 64, 64, 594, 64, 64, 594, 64, 64, 594, 1518)  # 7 : 4 : 1, IP packets of 40, 576 and 1500 bytes
Endpoint = tuple[bytes, int]


@dataclass(frozen=True)
class Mix:
    """A stream of frames. sizes: bytes with CRC of the frames, in the order in which they are repeated."""

    name: str
    sizes: tuple[int, ...]

    @property
    def size(self) -> float:
        """Bytes of a frame with CRC, on average."""
        return sum(self.sizes) / len(self.sizes)

    def line_rate(self, mbps: float) -> float:
        """Frames a second that a link of this speed can carry."""
        return mbps * 1e6 / 8 / (self.size + PREAMBLE_AND_GAP)

    def mbps(self, rate: float) -> float:
        """Mbit/s of the bytes that the NIC's own rate counts: frames with CRC (`ring.rate_mbps`)."""
        return rate * self.size * 8 / 1e6


@dataclass(frozen=True)
class Addresses:
    """What the frames of one direction have in their headers."""

    source_mac: bytes
    destination_mac: bytes
    source: Endpoint
    destination: Endpoint


@dataclass
class Outcome:
    """What one direction of a trial saw. Rates are in frames a second.

    received: different frames of this trial. foreign: frames without this tester's tag. earlier: frames of an earlier
    trial. missed: what the tester's receiving NIC had no room for; None if the NIC does not count it. errors: frames
    that came with a wrong CRC or length. unsent: frames that the trial did not send in its time.
    """

    way: str
    asked: float
    pacing: str
    sent: int = 0
    unsent: int = 0
    seconds: float = 0.0
    received: int = 0
    duplicates: int = 0
    foreign: int = 0
    earlier: int = 0
    missed: int | None = None
    errors: int | None = None
    latencies_us: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def rate(self) -> float:
        """At which the frames were sent."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def lost(self) -> int:
        """Frames that did not come back, without those that the tester itself missed."""
        return max(0, self.sent - self.received - (self.missed or 0))

    @property
    def loss(self) -> float:
        """Part of the sent frames that the device lost."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def slow(self) -> bool:
        """Whether the tester did not send at the wanted rate."""
        return self.unsent > 0 or self.rate < LEAST_SENT * self.asked

    def facts(self) -> Mapping[str, object]:
        """As JSON has it."""
        return {
            "direction": self.way,
            "asked_fps": self.asked,
            "sent_fps": self.rate,
            "pacing": self.pacing,
            "seconds": self.seconds,
            "sent": self.sent,
            "unsent": self.unsent,
            "received": self.received,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "foreign": self.foreign,
            "earlier": self.earlier,
            "missed_by_tester": self.missed,
            "errors": self.errors,
        }


class Way:
    """One direction through the device under test: frames leave at `sender` and are expected at `receiver`."""

    def __init__(self, name: str, sender: Port, receiver: Port, addresses: Addresses) -> None:
        self.name, self.sender, self.receiver, self._addresses = name, sender, receiver, addresses
        self._run = int.from_bytes(os.urandom(4), "big") | 1  # never LEARNING
        self.rings: int | None = None  # of the receiver, from the first on, that have these frames; None: all
        self._trial = 0

    def begin(self, mix: Mix, rate: float, seconds: float, *, by_clock: bool) -> None:
        """Prepare a trial. by_clock: hand frames to the NIC when they are due, so that their send time is known."""
        self._trial += 1
        if self.rings is not None:
            for ring in self.receiver.rx_rings[self.rings :]:  # others' messages, where probes will arrive
                ring.advance(ring.space)
        self._mix, self._rate = mix, rate
        self._total = max(1, round(rate * seconds))
        self._lengths = np.array([size - CRC for size in mix.sizes], np.uint16)
        self._heads = np.array([self._head(int(length)) for length in self._lengths])
        if len(self._heads) == 1:  # all frames have one header: into every buffer, once
            slots = self.sender.tx_rings[0].slots
            self.sender.buffers[slots["buf_idx"], :HEADERS] = self._heads
            slots["len"] = self._lengths
        self._tags = np.empty(BATCH, TAG)
        self._tags["signature"], self._tags["run"], self._tags["trial"] = SIGNATURE, self._run, self._trial
        self._seen = np.zeros(self._total, np.uint8)
        self._step = -(-self._total // PROBES)
        self._sent_at = np.zeros(-(-self._total // self._step)) if by_clock else None
        self._latencies: list[npt.NDArray[np.float64]] = []
        self._arrived = 0
        self.outcome = Outcome(self.name, rate, self._pace(by_clock))
        self._by_clock = by_clock or not self.outcome.pacing.startswith("NIC")
        self._before = self._losses()
        self.done, self.last_arrival = False, time.monotonic()
        self._start = self._origin = self.last_arrival

    def start(self) -> None:
        self._start = self._origin = time.monotonic()

    def _head(self, length: int) -> npt.NDArray[np.uint8]:
        to = self._addresses
        frame = udp_frame(length, to.source_mac, to.destination_mac, to.source, to.destination)
        return np.frombuffer(frame, np.uint8)[:HEADERS]

    def _pace(self, by_clock: bool) -> str:
        """Let the NIC keep the rate if it can. Returns what keeps it."""
        ring, speed = self.sender.tx_rings[0], self.sender.link.speed_mbps
        mbps = self._mix.mbps(self._rate) * (SPACING if by_clock else 1)
        mbps = min(mbps, speed * 0.9999)  # the speed itself would be no limit
        try:
            ring.rate_mbps = mbps if mbps >= LEAST_MBPS else None
        except (NotOffered, AttributeError):  # a virtual function; a port of a daemon
            return "software"
        if mbps < LEAST_MBPS:
            return "software"
        return "software, gaps by the NIC" if by_clock else "NIC"

    def _losses(self) -> tuple[int, int] | None:
        """Frames so far that the receiving NIC had no room for, and that had errors; None if it does not count them."""
        stats = self.receiver.stats()
        if "MPC" not in stats:
            return None
        missed = stats["MPC"] + sum(queue["QPRDC"] for queue in (*stats.rx[: self.rings], stats.rx_others))
        return int(missed), int(sum(stats[name] for name in FRAME_ERRORS))

    def send(self) -> int:
        """Put frames that are due into the TX ring. Returns how many; `done` is set when the NIC has sent the last."""
        ring, outcome, now = self.sender.tx_rings[0], self.outcome, time.monotonic()
        due = float(self._total)
        if self._by_clock:
            due = (now - self._origin) * self._rate
            late = due - outcome.sent - max(CATCH_UP_S * self._rate, 1)
            if late > 0:
                self._origin += late / self._rate
                due -= late
        n = max(0, int(min(due, self._total)) - outcome.sent)
        span = ring.reserve(min(n, BATCH))
        n = len(span)
        if n:
            self._write(span, np.arange(outcome.sent, outcome.sent + n))
            ring.advance(n)
            outcome.sent += n
        self.finish(outcome.sent == self._total)
        return n

    def finish(self, last: bool) -> None:
        """Note the time if the NIC has sent the last frame. last: no more frames follow."""
        self.sender.txsync()
        if last and not self.done and not self.sender.tx_rings[0].pending:
            self.done = True
            self.outcome.seconds = time.monotonic() - self._start

    def _write(self, span: Span, numbers: npt.NDArray[np.int64]) -> None:
        if len(self._heads) > 1:
            kinds = numbers % len(self._heads)
            span.len[:] = self._lengths[kinds]
            self.sender.write(span, self._heads[kinds])
        tags = self._tags[: len(numbers)]
        tags["number"] = numbers
        self.sender.write(span, tags, HEADERS)
        if self._sent_at is not None:
            probes = numbers[numbers % self._step == 0] // self._step
            self._sent_at[probes] = time.monotonic()

    def stop(self) -> None:
        """The trial is over: end the rate, and count what the NIC did not send in time."""
        ring, outcome = self.sender.tx_rings[0], self.outcome
        if not self.done:
            outcome.seconds = time.monotonic() - self._start
            outcome.sent -= ring.num_slots - 1 - ring.space
        outcome.unsent = self._total - outcome.sent
        if outcome.pacing != "software":
            ring.rate_mbps = None

    def receive(self) -> int:
        """Count what has arrived. Returns how many frames of any kind."""
        arrived = 0
        self.receiver.rxsync()
        now, outcome = time.monotonic(), self.outcome
        for ring in self.receiver.rx_rings[: self.rings]:
            span = ring.reserve(ring.space)
            if not len(span):
                continue
            arrived += len(span)
            tags = self.receiver.read(span, TAG, HEADERS)
            ours = (span.len >= TAGGED) & (tags["signature"] == SIGNATURE) & (tags["run"] == self._run)
            current = ours & (tags["trial"] == self._trial)
            numbers = tags["number"][current].astype(np.int64)
            numbers = numbers[numbers < self._total]
            ring.advance(len(span))
            learning = (tags["signature"] == SIGNATURE) & (tags["run"] == LEARNING)
            outcome.foreign += int(np.count_nonzero(~ours & ~learning))
            outcome.earlier += int(np.count_nonzero(ours & ~current))
            self._take(numbers, now)
        return arrived

    def _take(self, numbers: npt.NDArray[np.int64], now: float) -> None:
        if not len(numbers):
            return
        self.last_arrival = now
        if self._sent_at is not None:
            probes = numbers[(numbers % self._step == 0) & (self._seen[numbers] == 0)]
            self._latencies.append((now - self._sent_at[probes // self._step]) * 1e6)
        self._seen[numbers] = 1
        self._arrived += len(numbers)

    def check_links(self) -> None:
        """Raises LinkDown if a link is down: then nobody knows what the device lost."""
        for port in (self.sender, self.receiver):
            link = port.link
            if not link.up:
                raise LinkDown(f"{port.name}: the link went down in a trial: {link.reason}")

    def end(self) -> Outcome:
        """What this direction saw. Raises LinkDown."""
        self.check_links()
        outcome, losses = self.outcome, self._losses()
        outcome.received = int(np.count_nonzero(self._seen))
        outcome.duplicates = self._arrived - outcome.received
        if losses is not None and self._before is not None:
            outcome.missed, outcome.errors = (after - before for after, before in zip(losses, self._before))
        if self._latencies:
            outcome.latencies_us = np.concatenate(self._latencies)
        return outcome

    def teach(self) -> None:
        """Send a few frames from the receiver's side, so that a switch learns where it is (RFC 2544 section 23)."""
        to = self._addresses
        frame = udp_frame(SHORTEST, to.destination_mac, to.source_mac, to.destination, to.source)[:HEADERS]
        tag = np.array((SIGNATURE, LEARNING, 0, 0), TAG).tobytes()
        self.receiver.send([(frame + tag).ljust(SHORTEST, b"\0")] * LEARNING_FRAMES)


def trial(
    ways: Sequence[Way],
    mix: Mix,
    rate: float,
    seconds: float,
    settle: float,
    *,
    by_clock: bool = False,
    between: Callable[[Callable[[], None]], None] | None = None,
) -> list[Outcome]:
    """Send for `seconds`, wait until nothing arrived for `settle` seconds, and tell what each direction saw.

    between: called again and again while frames are sent, with a function that it has to call meanwhile: each call of
    this function sends and receives a batch.
    Raises LinkDown, and what the ports raise. After Ctrl-C the rates end before KeyboardInterrupt goes on.
    """
    for way in ways:
        if way.sender is not way.receiver:
            way.teach()
    for way in ways:
        way.begin(mix, rate, seconds, by_clock=by_clock)
        way.receive()
    for way in ways:
        way.start()
    look, end = time.monotonic() + LOOK_S, time.monotonic() + seconds * LATE + IDLE_S

    def move() -> None:
        nonlocal look
        if time.monotonic() > look:
            look = time.monotonic() + LOOK_S
            for way in ways:
                way.check_links()
        moved = sum(way.send() for way in ways if not way.done) + sum(way.receive() for way in ways)
        if not moved:
            time.sleep(IDLE_S)

    try:
        while not all(way.done for way in ways) and time.monotonic() < end:
            move()
            if between is not None:
                between(move)
        quiet(ways, settle)
    finally:
        for way in ways:
            way.stop()
    return [way.end() for way in ways]


def quiet(ways: Sequence[Way], settle: float) -> None:
    """Receive until no frame of the trial arrived for `settle` seconds, ten times that long at most."""
    begin = time.monotonic()
    while (now := time.monotonic()) < begin + 10 * settle + 1:
        for way in ways:
            way.finish(last=True)
        moved = sum(way.receive() for way in ways)
        if all(way.done for way in ways) and now > max(begin, *(way.last_arrival for way in ways)) + settle:
            return
        if not moved:
            ways[0].receiver.poll(min(0.01, settle + IDLE_S), POLLIN)
