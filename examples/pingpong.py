"""Round trips for pktgen.py: one side sends a frame with a number and a time; the other side returns it."""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable, Mapping

from meter import Meter
from packets import HEADERS

from ixrings import Port, PortError

STAMP = struct.Struct("!QQ")  # sequence number and nanoseconds, after the headers
PATIENCE_S = 1.0


class RoundTrips:
    """Measures round trips with one frame on its way at a time. frame: UDP over IPv4; it is sent without a checksum."""

    def __init__(self, port: Port, frame: bytes) -> None:
        self.port = port
        self.frame = (frame[: HEADERS - 2] + bytes(2) + frame[HEADERS:]).ljust(HEADERS + STAMP.size, b"\0")
        self.trips_us: list[float] = []
        self.lost = 0

    def counted(self) -> Mapping[str, float]:
        """Frames that came back, frames that did not, and the shortest, median and longest trip."""
        trips = self.trips_us or [0.0]
        return {
            "sent": len(self.trips_us) + self.lost,
            "received": len(self.trips_us),
            "lost": self.lost,
            "min_us": min(trips),
            "median_us": statistics.median(trips),
            "max_us": max(trips),
        }

    def ping(self, left: Callable[[float], float], meter: Meter) -> None:
        """Send until left(frames sent) is 0. Frames without an answer count, as in netmap's pkt-gen."""
        while left(number := len(self.trips_us) + self.lost) > 0:
            self.port.send(
                [self.frame[:HEADERS] + STAMP.pack(number, time.monotonic_ns()) + self.frame[HEADERS + STAMP.size :]]
            )
            sent_ns = self.answer_to(number)
            if sent_ns is None:
                self.lost += 1
            else:
                self.trips_us.append((time.monotonic_ns() - sent_ns) / 1000)
            meter.tick()

    def check(self) -> None:
        """Raises PortError if every frame was lost."""
        if self.lost and not self.trips_us:
            raise PortError(
                f"{self.port.name}: none of {self.lost} sent frames came back. The far end must return them: run "
                "pktgen.py -f pong there, or use emulated:loop"
            )

    def answer_to(self, number: int) -> int | None:
        """Wait for frame `number` to come back. Returns the time at which it was sent, or None if it does not come."""
        for answer in self.port.recv(timeout=PATIENCE_S):
            if len(answer) >= HEADERS + STAMP.size:
                received, sent_ns = STAMP.unpack_from(answer, HEADERS)
                if received == number:
                    return int(sent_ns)
        return None


def pong(port: Port, left: Callable[[float], float], meter: Meter, counted: dict[str, float]) -> None:
    """Return every frame to its sender until left(answered) is 0."""
    answered = 0
    while left(answered) > 0:
        for frame in port.recv(timeout=PATIENCE_S):
            port.send([frame[6:12] + frame[:6] + frame[12:]])
            answered += 1
            counted["received"] = counted["sent"] = answered
            if left(answered) <= 0:
                return
        meter.tick()
