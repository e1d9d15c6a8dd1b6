"""A device under test, as a program: two emulated ports, each at a socket, and between them a device with known faults.

device_under_test.py FOLDER [--rate R] [--drop N] [--duplicate N] [--silent]

It prints "ready" once FOLDER/left.sock and FOLDER/right.sock listen, and runs until it is killed. A tester opens
`vfio-user:FOLDER/left.sock` and `vfio-user:FOLDER/right.sock`. The frames of each direction wait in an RX ring of QUEUE
slots. With --rate the device takes R frames a second out of it, and the NIC drops what finds no free slot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ixrings import Port, open_ports
from ixrings.hw.emulator import Emulated82599
from tests.support.vfio_user_peer import served

BATCH, IDLE_S = 256, 0.0005
CREDIT_S = 0.2  # a device that the machine stopped while frames waited makes up for so long
IDLE_CREDIT_S = 0.001  # and for so long if none waited: an idle device saves nothing


class Direction:
    """What arrives at `source` leaves at `target`."""

    def __init__(self, source: Port, target: Port, options: argparse.Namespace) -> None:
        self._source, self._target, self._options = source, target, options
        self._credit, self._last, self._count = 0.0, time.monotonic(), 0

    def move(self) -> int:
        """Forward what the rate allows. Returns how many frames left the queue."""
        options, now = self._options, time.monotonic()
        ring = self._source.rx_rings[0]
        allowed = BATCH
        if options.rate:
            saved_s = CREDIT_S if ring.space else IDLE_CREDIT_S
            self._credit = min(self._credit + (now - self._last) * options.rate, saved_s * options.rate)
            self._last = now
            allowed = min(BATCH, int(self._credit))
        self._source.rxsync()
        if options.silent:
            moved = ring.space
            ring.advance(moved)
            return moved
        period = options.drop or options.duplicate
        if period:
            allowed = min(allowed, period - self._count % period)
        last = bool(period) and allowed == period - self._count % period and ring.space >= allowed
        moved = self._source.forward(self._target, allowed - last) if allowed > last else 0
        if last and moved == allowed - 1:
            moved += self._last_of_period(ring.space)
        self._count += moved
        self._credit -= moved
        return moved

    def _last_of_period(self, waiting: int) -> int:
        """Drop the frame, or send it twice."""
        ring = self._source.rx_rings[0]
        if not waiting:
            return 0
        span = ring.reserve(1)
        frame = self._source.read(span, int(span.len[0]))[0].tobytes()
        ring.advance(1)
        if self._options.duplicate:
            self._target.send([frame, frame])
        return 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, default=0, help="frames a second in each direction (default: no limit)")
    parser.add_argument("--queue", type=int, default=512, help="slots of the RX rings (default: %(default)s)")
    parser.add_argument("--drop", type=int, default=0, help="drop each Nth frame")
    parser.add_argument("--duplicate", type=int, default=0, help="send each Nth frame twice")
    parser.add_argument("--silent", action="store_true", help="return nothing")
    options = parser.parse_args()
    with (
        Emulated82599("cable=left") as left_nic,
        Emulated82599("cable=right") as right_nic,
        served(left_nic, options.folder / "left.sock"),
        served(right_nic, options.folder / "right.sock"),
        open_ports(
            "emulated:cable=left",
            "emulated:cable=right",
            promiscuous=True,
            rx_slots=options.queue,
            drop=True,
            link_timeout=0,
        ) as (left, right),
    ):
        print("ready", flush=True)
        directions = Direction(left, right, options), Direction(right, left, options)
        while True:
            if not sum(direction.move() for direction in directions):
                time.sleep(IDLE_S)


if __name__ == "__main__":
    main()
