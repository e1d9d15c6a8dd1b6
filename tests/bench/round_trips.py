"""Measures round trips of one 64-byte frame at a time through the emulated wire: send, loop back, receive.

busy: the program spins in poll(). interrupts: it sleeps in select() until the NIC's message, which is not moderated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from select import POLLIN, select

import numpy as np
from building import BenchError
from loops import fill, name, on_two_cpus

from ixrings import Port, open_ports

WARM_UP_TRIPS = 200
PATIENCE_S = 1.0


@dataclass(frozen=True)
class Trips:
    """Microseconds for a round trip."""

    mode: str
    trips: int
    min_us: float
    p50_us: float
    p99_us: float
    p99_9_us: float
    max_us: float


def wait(port: Port, busy: bool) -> None:
    """Wait until there is a frame, for PATIENCE_S at most."""
    if busy:
        port.poll(PATIENCE_S, POLLIN, busy=True)
        return
    end = time.monotonic() + PATIENCE_S
    while not port.rx_rings[0].space and time.monotonic() < end:
        select([port], [], [], PATIENCE_S)
        port.rxsync()


def trip(sender: Port, receiver: Port, busy: bool) -> int:
    """Send one frame and receive it. Returns nanoseconds."""
    tx, rx = sender.tx_rings[0], receiver.rx_rings[0]
    while not tx.space:
        sender.txsync()
    start = time.perf_counter_ns()
    tx.advance(1)
    sender.txsync()
    wait(receiver, busy)
    if not rx.space:
        raise BenchError(f"a frame did not come back within {PATIENCE_S:g} s")
    rx.advance(1)
    return time.perf_counter_ns() - start


def measure(trips: int, nics: Sequence[str] = ()) -> list[Trips]:
    """nics: one looped port, or two ports with a cable between them; none: an emulated one."""
    rows = []
    for mode in ("busy", "interrupts"):
        busy = mode == "busy"
        with (
            open_ports(*(nics or [name("loop", paced=False)]), interrupt_interval_us=0, busy_poll=busy) as ports,
            on_two_cpus(),
        ):
            sender, receiver = ports[0], ports[-1]
            fill(sender, destination_mac=receiver.mac)
            times = (
                np.array([trip(sender, receiver, busy) for _ in range(WARM_UP_TRIPS + trips)][WARM_UP_TRIPS:]) / 1000
            )
        p50, p99, p99_9 = np.percentile(times, (50, 99, 99.9))
        rows.append(Trips(mode, trips, *(round(float(us), 1) for us in (times.min(), p50, p99, p99_9, times.max()))))
    return rows
