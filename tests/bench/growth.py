"""Measures how cost grows with the slots of a ring, the length of a frame, the number of queues and the batch.

One of them varies at a time; the others stay at 1024 slots, 60 bytes, one queue, and 256 frames (or half the ring). One
thread serves all queues, one batch each in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from loops import FRAME, ROUNDS, fill, on_two_cpus

from ixrings import Port, open_port

ETHERNET, TAG_AND_CRC, UNIT = 14, 8, 1024
OVERHEAD = 24  # bytes on the wire in addition to a frame: CRC, preamble and gap


@dataclass(frozen=True)
class Shape:
    slots: int = 1024
    length: int = FRAME
    queues: int = 1
    batch: int = 256


@dataclass(frozen=True)
class Cost:
    """Medians over runs. gbit: Gbit/s on the wire, with preamble and gap."""

    varied: str
    value: int
    tx_mpps: float
    rx_mpps: float
    tx_gbit: float
    rx_gbit: float


VARIED = {
    "slots": (64, 256, 1024, 4096, 8192),
    "length": (60, 124, 252, 508, 1020, 1514, 4000, 9000),
    "queues": (1, 2, 4, 8, 16),
    "batch": (1, 4, 16, 32, 64, 256, 1024),
}


def transmit(port: Port, batch: int, seconds: float) -> int:
    sent, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            for ring in port.tx_rings:
                if ring.space >= batch:
                    ring.advance(batch)
                    sent += batch
            port.txsync()
    return sent


def receive(port: Port, batch: int, seconds: float) -> int:
    received, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            port.rxsync()
            for ring in port.rx_rings:
                count = min(ring.space, batch)
                ring.advance(count)
                received += count
    return received


def rate_mpps(what: str, shape: Shape, seconds: float) -> float:
    """Mpps of one run. Each frame is in one buffer, whatever its length."""
    wire = "emulated:sink" if what == "tx" else f"emulated:source={shape.length}"
    buffer = max(2, -(-(shape.length + TAG_AND_CRC) // UNIT)) * UNIT
    with (
        open_port(
            wire,
            tx_slots=shape.slots,
            rx_slots=shape.slots,
            tx_queues=shape.queues,
            rx_queues=shape.queues,
            buf_size=buffer,
            mtu=max(1500, shape.length - ETHERNET),
        ) as port,
        on_two_cpus(),
    ):
        fill(port, shape.length)
        start = time.perf_counter()
        frames = (transmit if what == "tx" else receive)(port, shape.batch, seconds)
        if what == "tx":
            port.flush()
        return frames / (time.perf_counter() - start) / 1e6


def shapes() -> Iterator[tuple[str, int, Shape]]:
    for varied, values in VARIED.items():
        for value in values:
            shape = replace(Shape(), **{varied: value})
            if varied == "batch":
                shape = replace(shape, slots=max(1024, 2 * value))
            yield varied, value, replace(shape, batch=min(shape.batch, shape.slots // 2))


def measure(runs: int, seconds: float) -> Iterator[Cost]:
    for varied, value, shape in shapes():
        tx, rx = (statistics.median(rate_mpps(what, shape, seconds) for _ in range(runs)) for what in ("tx", "rx"))
        gbit = (shape.length + OVERHEAD) * 8 / 1000
        yield Cost(varied, value, round(tx, 2), round(rx, 2), round(tx * gbit, 1), round(rx * gbit, 1))
