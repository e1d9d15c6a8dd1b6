"""Measures what an open port costs: time until its first packet, memory, file descriptors.

Memory is Pss (proc(5), smaps_rollup): a page that both the program and the NIC map counts once.
"""

from __future__ import annotations

import gc
import os
import re
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loops import fill

from ixrings import open_port

PORTS = 4
SLOTS = (64, 1024, 8192)


@dataclass(frozen=True)
class Opening:
    """Times are medians, from the call of open_port(). memory_kb, fds: of one port, after every buffer was used."""

    slots: int
    open_ms: float
    first_packet_ms: float
    close_ms: float
    memory_kb: int
    fds: int


def memory_kb() -> int:
    gc.collect()
    return sum(
        map(
            int,
            re.findall(r"^Pss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(encoding="ascii"), re.MULTILINE),
        )
    )


def times_ms(slots: int) -> tuple[float, float, float]:
    """Milliseconds to open, until the first packet is back, and to close."""
    start = time.perf_counter()
    with open_port("emulated:loop", tx_slots=slots, rx_slots=slots) as port:
        opened = time.perf_counter()
        fill(port)
        port.tx_rings[0].advance(1)
        port.txsync()
        if not port.poll(1.0, busy=True):
            raise RuntimeError("the first packet did not come back within 1 s")
        received = time.perf_counter()
    return 1e3 * (opened - start), 1e3 * (received - start), 1e3 * (time.perf_counter() - received)


def used(slots: int) -> tuple[int, int]:
    """KB and file descriptors of a port, the mean of PORTS ports."""
    with ExitStack() as ports:
        memory, fds = memory_kb(), len(os.listdir("/proc/self/fd"))
        for _ in range(PORTS):
            port = ports.enter_context(open_port("emulated:loop", tx_slots=slots, rx_slots=slots))
            port.buffers[:, 0] = 1  # touches every page: a page holds at most two buffers
        return (memory_kb() - memory) // PORTS, (len(os.listdir("/proc/self/fd")) - fds) // PORTS


def measure(runs: int) -> list[Opening]:
    rows = []
    for slots in SLOTS:
        taken = [times_ms(slots) for _ in range(runs + 1)][1:]  # the first run loads libraries
        opened, first, closed = (round(statistics.median(column), 2) for column in zip(*taken))
        rows.append(Opening(slots, opened, first, closed, *used(slots)))
    return rows
