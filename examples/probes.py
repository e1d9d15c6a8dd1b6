"""Probe frames for latency.py and throughput_test.py: PTP messages that two NICs stamp by their clocks."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from packets import MAX_PORT, UDP, ipv4

import numpy as np
import numpy.typing as npt

from ixrings import EtherTypeFilter, FiveTupleFilter, Offload, Port, PortError, PortTimeout, Protocol

PTP_MULTICAST = "01:1b:19:00:00:00"
PTP_ETHER_TYPE, PTP_EVENT_PORT, SYNC, VERSION = 0x88F7, 319, 0, 2
CYCLE_NS = 6.4  # of the 82599's clock at 10 Gbit/s: a stamp is as old as its cycle
SIGNATURE = b"ixrings!"
MESSAGE = struct.Struct("!BBH26xH2x8sQ")  # header of a Sync, sequenceId in it; then the signature and the number
EXCHANGES, LOOKS = 8, 200
DRIFT_S = 0.05  # clocks that are compared twice in less time show no drift
SLOWER_MBPS = (100, 1000)  # there a cycle of the oscillator is longer (7.9.3.1)
QUEUE = 1  # where probes leave and arrive; load has queue 0


def probe_frame(number: int, sender: Port, udp: tuple[bytes, bytes] | None = None) -> bytes:
    """A Sync message with a number: over UDP from and to two IPv4 addresses, or over Ethernet."""
    body = MESSAGE.pack(SYNC, VERSION, MESSAGE.size, number & MAX_PORT, SIGNATURE, number)
    to, source = (bytes.fromhex(mac.replace(":", "")) for mac in (PTP_MULTICAST, sender.mac))
    if udp is None:
        return to + source + PTP_ETHER_TYPE.to_bytes(2, "big") + body
    datagram = struct.pack("!HHHH", PTP_EVENT_PORT, PTP_EVENT_PORT, 8 + len(body), 0) + body
    return to + source + b"\x08\x00" + ipv4(UDP, *udp, datagram)


def number_in(frame: bytes) -> int | None:
    """The number of a probe; None for another frame."""
    at = frame.find(SIGNATURE)
    if at < 0 or len(frame) < at + len(SIGNATURE) + 8:
        return None
    return int.from_bytes(frame[at + len(SIGNATURE) :][:8], "big")


def prepare(port: Port, *, udp: bool = False) -> None:
    """Start the port's clock, and receive probes and only probes in queue QUEUE. udp: also those over UDP.

    Raises NotOffered on a VF, PortError at a speed for which port.clock is not made.
    """
    if port.link.speed_mbps in SLOWER_MBPS:
        raise PortError(
            f"{port.name}: its clock counts as at 10 Gbit/s, and the link has {port.link.speed_mbps} Mbit/s, so its "
            "stamps would be wrong"
        )
    port.clock.now()
    port.set_multicast([PTP_MULTICAST])
    port.filters.add(EtherTypeFilter(PTP_ETHER_TYPE, queue=QUEUE))
    if udp:
        port.filters.add(FiveTupleFilter(QUEUE, Protocol.UDP, destination_port=PTP_EVENT_PORT))
    port.rss.table = [0]


@dataclass(frozen=True)
class Crossing:
    """One probe. left, came: its stamps in ns, each by its own port's clock; None where the NIC took none."""

    left: int | None
    came: int | None
    arrived: bool


NOTHING = Crossing(None, None, False)


class Way:
    """Probes from one port to another, which may be the same. One is on its way at a time.

    lost: probes that have not arrived. late: those that arrived after their time. unstamped: those that have no stamp
    of departure or of arrival. Under full load 82599s were seen to lose some probes and to leave some unstamped.
    meanwhile: called while a probe is on its way; sends load, takes frames out of queue 0.
    """

    def __init__(
        self,
        sender: Port,
        receiver: Port,
        meanwhile: Callable[[], None],
        timeout: float,
        udp: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.sender, self.receiver = sender, receiver
        self._meanwhile, self._timeout, self._udp = meanwhile, timeout, udp
        self._missing: set[int] = set()
        self._unread = True  # the stamp of a frame that left may wait in the NIC
        self.sent = self.late = self.unstamped = 0

    @property
    def lost(self) -> int:
        return len(self._missing)

    def cross(self) -> Crossing:
        """Send a probe and wait for it. Raises PortTimeout if it cannot be sent."""
        self._release()
        number, self.sent = self.sent, self.sent + 1
        self._missing.add(number)
        frame = probe_frame(number, self.sender, self._udp)
        self.sender.send([frame], timeout=1.0, ring=QUEUE, offload=Offload(timestamp=True))
        try:
            left = self.sender.clock.sent(self._timeout)
        except PortTimeout:
            left, self._unread = None, True
        arrived = self._arrives(number)
        stamp = self.receiver.clock.received() if arrived else None
        came = stamp.ns if stamp is not None and stamp.sequence == number & MAX_PORT else None
        if arrived and (left is None or came is None):
            self.unstamped += 1
        return Crossing(left, came, arrived)

    def _release(self) -> None:
        """Stamps that nobody read: a late probe's, and that of a probe that left after its time. Raises PortTimeout."""
        self.receiver.clock.received()
        if self._unread:
            self.sender.queue(QUEUE).flush(1.0)
            try:
                self.sender.clock.sent(0)
            except PortTimeout:
                pass  # the frame was not stamped
            self._unread = False

    def _arrives(self, number: int) -> bool:
        end = time.monotonic() + self._timeout
        while True:
            over = time.monotonic() >= end
            self._meanwhile()
            self.receiver.rxsync()
            if number in self.take():
                return True
            if over:
                return False

    def take(self) -> list[int]:
        """The numbers of probes that have arrived. Counts those that are late."""
        ring = self.receiver.rx_rings[QUEUE]
        span = ring.reserve(ring.space)
        rows = zip(span.buf_idx.tolist(), span.len.tolist())
        numbers = [number_in(self.receiver.buffers[index, :length].tobytes()) for index, length in rows]
        ring.advance(len(span))
        found = [number for number in numbers if number in self._missing and number is not None]
        self._missing.difference_update(found)
        self.late += sum(number != self.sent - 1 for number in found)
        return found


@dataclass(frozen=True)
class Offset:
    """How far the receiver's clock is ahead of the sender's at `at`, in ns, and how it was found.

    uncertainty_ns: for `both ways`, of the stamps alone: it holds if both ways take equally long.
    """

    at: float
    ns: float
    uncertainty_ns: float
    method: str


def clock_offset(there: Way, back: Way) -> Offset:
    """Compare two clocks by probes both ways, or by reading both if no probe comes back."""
    found: list[tuple[int, Offset]] = []
    for _ in range(EXCHANGES):
        out = there.cross()
        home = back.cross() if out.arrived else NOTHING
        if None in (out.left, out.came, home.left, home.came):
            continue
        t1, t2, t3, t4 = (int(stamp or 0) for stamp in (out.left, out.came, home.left, home.came))
        # While the clocks drift, this is the offset in the middle of the exchange.
        found.append((t4 - t1, Offset((t1 + t4) / 2, ((t2 - t1) - (t4 - t3)) / 2, CYCLE_NS, "probes both ways")))
    if found:
        return min(found, key=lambda each: each[0])[1]
    return read_both(there.sender, there.receiver)


def read_both(one: Port, two: Port) -> Offset:
    """The closest of many readings: one clock, the other, the first again."""
    looks = [(one.clock.now(), two.clock.now(), one.clock.now()) for _ in range(LOOKS)]
    before, between, after = min(looks, key=lambda look: look[2] - look[0])
    return Offset(before, between - (before + after) / 2, (after - before) / 2 + CYCLE_NS, "reading both clocks")


@dataclass
class Latencies:
    """What was measured. ns: of probes with both stamps, float64, shape (n,).

    drift_ppm: of the receiver's clock against the sender's; None if unknown. drift_uncertainty_ppm: of both offsets.
    """

    ns: npt.NDArray[np.float64]
    offset: Offset | None = None
    drift_ppm: float | None = None
    drift_uncertainty_ppm: float | None = None


class Stamps:
    """Stamps of probes on one way, and what two clocks differ by before and after them."""

    def __init__(self, there: Way, compare: tuple[Way, Way]) -> None:
        """compare: ways there and back, for times without load."""
        self.there, self._compare = there, compare
        self._offsets: list[Offset] = []
        self._stamps: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._stamps)

    def compare(self) -> None:
        """Compare two clocks, before the first probe and after the last one."""
        if self.there.sender is not self.there.receiver:
            self._offsets.append(clock_offset(*self._compare))

    def probe(self) -> None:
        crossing = self.there.cross()
        if crossing.left is not None and crossing.came is not None:
            self._stamps.append((crossing.left, crossing.came))

    def latencies(self) -> Latencies:
        stamps = np.array(self._stamps, np.int64).reshape(-1, 2)
        latencies = (stamps[:, 1] - stamps[:, 0]).astype(np.float64)
        if not self._offsets:
            return Latencies(latencies)
        first, last = self._offsets[0], self._offsets[-1]
        latencies -= np.interp(stamps[:, 0], [first.at, last.at], [first.ns, last.ns])
        apart_s = (last.at - first.at) / 1e9
        if apart_s < DRIFT_S:
            return Latencies(latencies, last)
        uncertainty = (first.uncertainty_ns + last.uncertainty_ns) / apart_s / 1e3
        return Latencies(latencies, last, (last.ns - first.ns) / apart_s / 1e3, uncertainty)
