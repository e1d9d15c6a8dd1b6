"""What a sync costs that a program asks of the daemon's service, beside a sync in the program's own process.

    python tests/bench/service.py            a table: who, sync, frames, nanoseconds
    python tests/bench/service.py --json     [{"who", "sync", "frames", "ns", "lowest"}, ...]

The NIC is plain memory: it has sent each frame at once, and receives none. With 256 frames the program also moves head.

  own process     TxSync or RxSync of Python, as port.txsync() calls it, on the program's CPU
  no ring         a handle without rings: only the request and its answer cross between the CPUs
  both spin       a program in C and the service, each on a CPU of its own; neither ever sleeps
  64 handles      the same, and 63 other handles whose programs ask for nothing
  program sleeps  the service spins; the program waits in the kernel at once
  1 us            both spin for a microsecond, then let others run for up to 50 us, as where there are few cores
  both sleep      both sleep at once, on any CPU; the service's thread is woken in Python

ns: the median over all runs of the median of each. lowest: a tenth of the syncs took less in the best run. The runs of
all rows alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import Cpus, choose_cpus, cpu_model
from probe import on_cpu

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from ixrings.rings.service import Handle
from tests.support.rings_nic import Bench
from tests.support.service_daemon import Daemon, build_client, finished, handle_of, started

SLOTS = 1024
ALWAYS = 3600 * 10**9
CHUNK = 50  # as in service_client.c


@dataclass(frozen=True)
class Way:
    """service_ns, program_ns: how long each spins; None: no service. handles: with rings, of the service."""

    who: str
    service_ns: int | None
    program_ns: int = 0
    handles: int = 1
    syncs: int = 5000


WAYS = (
    Way("own process", None),
    Way("no ring", ALWAYS, ALWAYS, handles=0),
    Way("both spin", ALWAYS, ALWAYS),
    Way("64 handles", ALWAYS, ALWAYS, handles=64),
    Way("program sleeps", ALWAYS, 0, syncs=1000),
    Way("1 us", 1000, 1000, syncs=300),
    Way("both sleep", 0, 0, syncs=150),
)
SYNCS = (("tx", 0), ("rx", 0), ("tx", 256))


@dataclass(frozen=True)
class Cost:
    """ns, lowest: nanoseconds a sync."""

    who: str
    sync: str
    frames: int
    ns: float
    lowest: float


def nic() -> Bench:
    """A NIC that has sent every frame at once: its head write-back is its tail register."""
    bench = Bench(SLOTS, name="ix0")
    bench.tx.queue._head_writeback = bench.tx.words.ctypes.data
    bench.tx.ring.slots["len"][:] = 60
    return bench


def in_this_process(sync: str, frames: int, count: int) -> tuple[float, float]:
    """The tenth and the half of the chunks took at most so many nanoseconds a sync."""
    bench = nic()
    ring, call = (bench.tx.ring, bench.tx.sync) if sync == "tx" else (bench.rx.ring, bench.rx.sync)
    chunks: list[float] = []
    clock = min(-(time.perf_counter_ns() - time.perf_counter_ns()) for _ in range(1000))
    for _ in range(count // CHUNK):
        spent = 0
        for _ in range(CHUNK):
            if frames:
                ring.advance(min(frames, ring.space))
            start = time.perf_counter_ns()
            call()
            spent += time.perf_counter_ns() - start - clock
        chunks.append(spent / CHUNK)
    chunks.sort()
    return chunks[len(chunks) // 10], chunks[len(chunks) // 2]


def by_the_service(program: Path, way: Way, sync: str, frames: int, cpus: Cpus) -> tuple[float, float]:
    """The same, as the program prints it."""
    assert way.service_ns is not None
    bench = nic()
    handles = [handle_of(bench) if way.handles else Handle([], [])]
    handles += [handle_of(Bench(64)) for _ in range(way.handles - 1)]
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(handles, spin_ns=way.service_ns))
        if way.service_ns and (cpu := cpus.nic) is not None:
            daemon.call(lambda: os.sched_setaffinity(0, {cpu}))
        command = ("time", sync, way.syncs, frames)
        process = stack.enter_context(
            started(program, bench.region, bench.interface, handles[0], *command, spin_ns=way.program_ns)
        )
        if way.service_ns:
            os.sched_setaffinity(process.pid, {cpus.program})
        lowest, median = map(float, finished(process).split())
    return lowest, median


def measure(runs: int) -> list[Cost]:
    cpus = choose_cpus()
    found: dict[tuple[Way, str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        program = build_client(Path(folder))
        for _ in range(runs):
            for way in WAYS:
                for sync, frames in SYNCS:
                    if way.service_ns is None:
                        with on_cpu(cpus.program):
                            result = in_this_process(sync, frames, way.syncs)
                    elif way.handles or not frames:
                        result = by_the_service(program, way, sync, frames, cpus)
                    else:
                        continue  # nothing to move
                    found.setdefault((way, sync, frames), []).append(result)
    return [
        Cost(
            way.who,
            sync,
            frames,
            round(statistics.median(median for _, median in results)),
            round(min(lowest for lowest, _ in results)),
        )
        for (way, sync, frames), results in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a sync costs that the daemon's service does.")
    parser.add_argument("--json", action="store_true", help="a list of {who, sync, frames, ns, lowest}")
    parser.add_argument("--runs", type=int, default=5, help="of each row (default: %(default)s)")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if choose_cpus().nic is None:
        parser.exit(1, f"The service needs a core of its own, but {choose_cpus().why_one}.\n")
    costs = measure(options.runs)
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=1))
        return
    print(f"{cpu_model()}; nanoseconds a sync: the median (the lowest tenth)")
    for way in WAYS:
        rows = [cost for cost in costs if cost.who == way.who]
        texts = (f"{cost.sync} {cost.frames:3}: {cost.ns:6} ({cost.lowest})" for cost in rows)
        print(f"{way.who:15} " + "  ".join(f"{text:24}" for text in texts))


if __name__ == "__main__":
    main()
