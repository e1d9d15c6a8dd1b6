"""Measures what each call of a Python program costs, in nanoseconds: the calls alone, on rings in warm memory.

    python tests/bench/calls.py            a table: call, nanoseconds
    python tests/bench/calls.py --json     [{"call": ..., "ns": ...}, ...]

    python tests/bench/calls.py --received --batch 256     nanoseconds a frame, for frames of a NIC on another core

The NIC is stepped by hand and has nothing to do meanwhile, so a sync finds nothing. Each number is the lowest of
several runs: what the call costs when nothing disturbs it. Calls with a span have --batch frames.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import timeit
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle

import numpy as np
from loops import on_two_cpus
from machine import cpu_model

from ixrings import open_port, open_ports
from ixrings.hw.emulator import Emulated82599
from ixrings.rings import Span

NUMBER, REPEAT = 2000, 30
RECEIVE_S = 2.0


@dataclass(frozen=True)
class Cost:
    """ns: nanoseconds of one call."""

    call: str
    ns: float


CALLS = {
    "ring.space": "ring.space",
    "ring.reserve(batch)": "reserve(batch)",
    "ring.advance(0)": "advance(0)",
    "span.buf_idx": "span.buf_idx",
    "len(span)": "len(span)",
    "port.read(span, 60)": "read(span, 60)",
    "port.read(span, 60, into=rows)": "read(span, 60, into=rows)",
    "port.read(span, 1, 26, into=column)": "read(span, 1, 26, into=column)",
    "port.write(span, column, 26)": "write(span, column, 26)",
    "port.write(span, rows)": "write(span, rows)",
    "port.add(span, 1, 26)": "add(span, 1, 26)",
    "port.txsync()": "txsync()",
    "port.rxsync()": "rxsync()",
    "port.forward(other)": "forward(other)",
}


def measure(batch: int) -> Iterator[Cost]:
    """The cost of each call."""
    with (
        Emulated82599("sink", manual=True) as left,
        Emulated82599("sink", manual=True) as right,
        open_ports(left, right, link_timeout=0) as (port, other),
    ):
        ring = port.tx_rings[0]
        names = {
            "ring": ring, "reserve": ring.reserve, "advance": ring.advance, "span": ring.reserve(batch),
            "batch": batch, "port": port, "other": other, "txsync": port.txsync, "rxsync": port.rxsync,
            "forward": port.forward, "read": port.read, "write": port.write, "add": port.add,
            "rows": np.zeros((batch, 60), np.uint8), "column": np.zeros((batch, 1), np.uint8),
        }  # fmt: skip
        for call, statement in CALLS.items():
            timer = timeit.Timer(statement, globals=names)
            yield Cost(call, round(min(timer.repeat(REPEAT, NUMBER)) / NUMBER * 1e9))


def measure_received(batch: int) -> Iterator[Cost]:
    """Nanoseconds a frame to read and to write frames that the emulated NIC has received on another core: medians."""
    rows, numbers = np.empty((batch, 60), np.uint8), np.arange(batch, dtype=np.uint32)
    spent: dict[str, list[int]] = {}
    with open_port("emulated:source") as port, on_two_cpus():
        ring, end = port.rx_rings[0], time.monotonic() + RECEIVE_S
        calls: dict[str, Callable[[Span], object]] = {
            "60 bytes, port.buffers[span.buf_idx, :60]": lambda span: port.buffers[span.buf_idx, :60],
            "60 bytes, port.read(span, 60, into=rows)": lambda span: port.read(span, 60, into=rows),
            "a number, port.write(span, numbers, 48)": lambda span: port.write(span, numbers, 48),
            "a byte, port.add(span, 1, 26)": lambda span: port.add(span, 1, 26),
        }
        turns = cycle(calls.items())
        while time.monotonic() < end:
            port.rxsync()
            span = ring.reserve(batch)
            if len(span) == batch:  # otherwise the ring ends, or the NIC is behind
                name, call = next(turns)
                start = time.perf_counter_ns()
                call(span)
                spent.setdefault(name, []).append(time.perf_counter_ns() - start)
            elif span.stop < ring.num_slots:
                continue
            ring.advance(len(span))
    for name, times in spent.items():
        yield Cost(name, round(statistics.median(times) / batch, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what each call of a Python program costs.")
    parser.add_argument("--json", action="store_true", help="a list of {call, ns}")
    parser.add_argument("--batch", type=int, default=32, help="frames of a span, 1..1000 (default: %(default)s)")
    parser.add_argument("--received", action="store_true", help="nanoseconds a frame, of frames from another core")
    options = parser.parse_args()
    if not 1 <= options.batch <= 1000:
        parser.error("--batch must be 1 to 1000: rings have 1024 slots")
    costs = list((measure_received if options.received else measure)(options.batch))
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=1))
        return
    print(f"{cpu_model()}; spans of {options.batch} frames")
    for cost in costs:
        print(f"{cost.call:45} {cost.ns:6} ns")


if __name__ == "__main__":
    main()
