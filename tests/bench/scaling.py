"""Measures how receiving scales with processes: each has one queue of an emulated NIC, over which RSS spreads 64-byte
frames.

    python tests/bench/scaling.py              print a table
    python tests/bench/scaling.py --json       {"machine": {...}, "rows": [...]}
    python tests/bench/scaling.py --most 4     up to 4 processes (default: as many as CPUs, 2 at least)

For each number of queues the frames are received twice, in turns: by one program that syncs all queues, and by a worker
process a queue. One thread of the NIC's engine feeds them all, and costs more a frame with more queues: so compare
within a row. `kept` is workers / one program: 1 or more when further processes do not slow each other down.

Workers run on all CPUs but the engine's. With fewer CPUs than workers they take turns, and `cpus` says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from growth import receive
from loops import WARM_UP_S, BenchError, on_two_cpus
from machine import choose_cpus, cpu_model, page_size_kb

from ixrings import PortClosed, Share, SharedQueue, open_port

BATCH = 256
SLOTS = 4096  # a worker that waits for its turn on a CPU finds frames in its ring
START_S, END_S = 30.0, 10.0


@dataclass(frozen=True)
class Row:
    """Medians over runs, in Mpps. each: of the workers, the slowest first. kept: workers / one_program.

    cpus: those that the workers may use.
    """

    queues: int
    one_program: float
    workers: float
    each: list[float]
    kept: float
    cpus: int


def work(handle: SharedQueue, cpus: set[int]) -> None:
    """A worker: it receives until its queue is taken back."""
    os.sched_setaffinity(0, cpus)
    try:
        with handle.open() as queue:
            ring = queue.rx_ring
            assert ring is not None, "the port has a receive ring for each queue"
            while True:
                queue.rxsync()
                received = min(ring.space, BATCH)
                if received:
                    ring.advance(received)
                else:
                    queue.poll(1.0)
    except PortClosed:
        pass


def one_program(queues: int, seconds: float) -> float:
    with open_port("emulated:source", rx_queues=queues, tx_queues=queues, rx_slots=SLOTS) as port, on_two_cpus():
        receive(port, BATCH, WARM_UP_S)
        start = time.perf_counter()
        received = receive(port, BATCH, seconds)
        return received / (time.perf_counter() - start) / 1e6


def by_workers(queues: int, seconds: float, cpus: set[int]) -> list[float]:
    """Mpps of each worker."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        port = stack.enter_context(open_port("emulated:source", rx_queues=queues, tx_queues=queues, rx_slots=SLOTS))
        shares = [port.share(queue) for queue in range(queues)]
        workers = [context.Process(target=work, args=(share, cpus), daemon=True) for share in shares]
        for worker in workers:
            worker.start()
            stack.callback(worker.join)
        stack.callback(port.close)  # ends the workers
        end = time.monotonic() + START_S
        while not all(share.rx_packets for share in shares):
            shares[0].wait(0.01)
            if time.monotonic() > end:
                raise BenchError(f"the workers have received nothing for {START_S:g} s")
        stack.enter_context(on_two_cpus())
        return rates(shares, seconds)


def rates(shares: Sequence[Share], seconds: float) -> list[float]:
    """What each worker receives meanwhile, in Mpps. The counters of their C loops are in shared memory."""
    start, before = time.perf_counter(), [share.rx_packets for share in shares]
    shares[0].wait(seconds)
    spent = time.perf_counter() - start
    return [(share.rx_packets - first) / spent / 1e6 for share, first in zip(shares, before)]


def measure(queues: int, runs: int, seconds: float) -> Row:
    cpus = set(os.sched_getaffinity(0)) - {choose_cpus().nic} or set(os.sched_getaffinity(0))
    together: list[float] = []
    apart: list[list[float]] = []
    for _ in range(runs):
        together.append(one_program(queues, seconds))
        apart.append(sorted(by_workers(queues, seconds, {cpu for cpu in cpus if cpu is not None})))
    program, workers = statistics.median(together), statistics.median(map(sum, apart))
    if not program:
        raise BenchError("most runs received no packet. Close other programs, or give a longer --seconds")
    each = [round(statistics.median(run[number] for run in apart), 2) for number in range(queues)]
    return Row(queues, round(program, 2), round(workers, 2), each, round(workers / program, 2), len(cpus))


def arguments(allowed: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how receiving scales with processes.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--most", type=int, default=min(16, max(2, allowed)), help="processes (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each measurement (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of each run (default: %(default)s)")
    options = parser.parse_args()
    if not 1 <= options.most <= 16 or options.runs < 1 or not 0 < options.seconds <= 600:
        parser.error("--most must be 1 to 16 (RSS has 16 queues), --runs at least 1, --seconds more than 0")
    return options


def measure_all(options: argparse.Namespace, allowed: int) -> None:
    """Print each row as soon as it is measured, or all as JSON."""
    where = {"cpu": cpu_model(), "cpus": allowed, "page_kb": page_size_kb()}
    if not options.json:
        print(f"{where['cpu']}, {allowed} CPUs, pages of {where['page_kb']} KB; Mpps, medians of {options.runs} runs\n")
        print("| queues | one program | workers | each worker | kept | CPUs for workers |\n|---|---|---|---|---|---|")
    rows = []
    for queues in range(1, options.most + 1):
        row = measure(queues, options.runs, options.seconds)
        rows.append(row)
        if not options.json:
            each = ", ".join(map(str, row.each))
            print(f"| {queues} | {row.one_program} | {row.workers} | {each} | {row.kept} | {row.cpus} |", flush=True)
    if options.json:
        print(json.dumps({"machine": where, "rows": [asdict(row) for row in rows]}, indent=1))


def main() -> int:
    allowed = len(os.sched_getaffinity(0))
    try:
        measure_all(arguments(allowed), allowed)
    except BenchError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
