"""Measures what a frame of examples/pktgen.py costs its thread, in nanoseconds: made and handed over, or verified.

    python tests/bench/generator.py            a table: options, nanoseconds a frame
    python tests/bench/generator.py --json     [{"options": ..., "ns": ...}, ...]

The NIC is stepped by hand between the measured calls, so nothing disturbs them, and no line comes from another core.
Each number is the lowest mean of a lap of 8192 frames, in batches of --batch; --verify takes batches of its own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import cpu_model

from ixrings import Port, open_port
from ixrings.hw.emulator import Emulated82599

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))

from sending import Sending, add_options
from verify import Verifier

SEND = (
    "",
    "-s 10.0.0.1-10.0.0.64 -l imix",
    "-s 10.0.0.1:1000-10.0.0.9:2000",
    "-s 10.0.0.0-10.255.255.255",
    "-s 10.0.0.0-10.255.255.255 --random",
    "--offload",
    "--number",
    "--number -s 10.0.0.1:1000-10.0.0.9:2000",
)
VERIFY = (("--number", 256), ("--number", 2048), ("--number -s 10.0.0.1-10.0.0.64", 2048))
LAP, SLOTS, STEP = 8192, 4096, 4096


@dataclass(frozen=True)
class Cost:
    """ns: nanoseconds of a frame, on average over a lap."""

    options: str
    ns: float


def sending(text: str) -> Sending:
    parser = argparse.ArgumentParser()
    add_options(parser)
    parser.set_defaults(function="tx", queues=1)
    return Sending(parser.parse_args(shlex.split(text)))


def lowest(lap: Callable[[], float], laps: int) -> float:
    return round(min(lap() for _ in range(laps)), 1)


def measure_send(text: str, batch: int, laps: int) -> Cost:
    frames = sending(text)
    with Emulated82599("sink", manual=True) as nic, open_port(nic, tx_slots=frames.slots, link_timeout=0) as port:
        nic.step(0, 10**9)  # the link comes up
        (lane,) = frames.lanes(port)

        def lap() -> float:
            spent = sent = 0
            while sent < LAP:
                begin = time.perf_counter_ns()
                count = lane.send(batch)
                spent += time.perf_counter_ns() - begin
                sent += count
                port.txsync()
                nic.step(STEP)
                port.txsync()
            return spent / sent

        return Cost(f"-f tx {text}".strip(), lowest(lap, laps))


def measure_verify(text: str, batch: int, laps: int) -> Cost:
    frames = sending(text)
    with (
        Emulated82599("loop", manual=True) as nic,
        open_port(nic, tx_slots=SLOTS, rx_slots=SLOTS, promiscuous=True, link_timeout=0) as port,
    ):
        nic.step(0, 10**9)
        (lane,), verifier = frames.lanes(port), Verifier(port)

        def lap() -> float:
            before, spent = verifier.frames, 0
            while verifier.frames < before + LAP:
                lane.send(batch)
                port.txsync()
                nic.step(STEP)
                port.txsync()
                port.rxsync()
                spent += received(port, verifier)
            return spent / (verifier.frames - before)

        cost = lowest(lap, laps)
        if not verifier.right:
            raise SystemExit(f"generator.py: {verifier.verdict()}")
        return Cost(f"-f rx --verify, of {text}, {batch} frames at once", cost)


def received(port: Port, verifier: Verifier) -> int:
    """Verify what has come. Returns the nanoseconds spent."""
    ring, spent = port.rx_rings[0], 0
    while ring.space:
        span = ring.reserve(ring.num_slots)
        begin = time.perf_counter_ns()
        verifier.look(span)
        spent += time.perf_counter_ns() - begin
        ring.advance(len(span))
    return spent


def measure(batch: int, laps: int) -> Iterator[Cost]:
    for text in SEND:
        yield measure_send(text, batch, laps)
    for text, frames in VERIFY:
        yield measure_verify(text, frames, laps)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a frame of examples/pktgen.py costs its thread.")
    parser.add_argument("--json", action="store_true", help="a list of {options, ns}")
    parser.add_argument("--batch", type=int, default=256, help="frames handed over at once (default: %(default)s)")
    parser.add_argument("--laps", type=int, default=30, help="laps of 8192 frames (default: %(default)s)")
    options = parser.parse_args()
    if not 1 <= options.batch <= 512 or options.laps < 1:
        parser.error("--batch must be 1 to 512, because a ring has 1024 slots, and --laps 1 or more")
    costs = list(measure(options.batch, options.laps))
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=1))
        return
    print(f"{cpu_model()}; nanoseconds a frame")
    for cost in costs:
        print(f"{cost.ns:8.1f}  {cost.options}")


if __name__ == "__main__":
    main()
