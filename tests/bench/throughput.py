"""Measures packets a second of a Python loop through the rings and the emulated NIC: 64-byte frames (60 and CRC), one
core for the program, one for the NIC's engine.

    python tests/bench/throughput.py                print a table
    python tests/bench/throughput.py --json         {"tx": Mpps, "rx": ..., "loop": ..., "bridge": ...,
                                                     "bridge_touched": ..., "machine": {...}, "rows": [...]}
    python tests/bench/throughput.py --require 5    exit with status 1 if a median is lower (Mpps, flat out and paced)
    python tests/bench/throughput.py --hold 60      send, receive 10 Gbit/s for 60 s each: rate, loss, CPU (hold.py)
    python tests/bench/throughput.py --latency      round trips of one frame, busy and by interrupt (round_trips.py)
    python tests/bench/throughput.py --examples     pktgen.py, bridge.py and capture.py as programs (shipped.py)
    python tests/bench/throughput.py --open         time from open_port() to the first packet, memory (opening.py)
    python tests/bench/throughput.py --grow         how cost grows with ring, frame, queues and batch (growth.py)
    python tests/bench/throughput.py -i NIC         tx, loop and --latency on this port; its cable leads back to it, or
                                                     to the second port of -i NIC -i NIC

--hold to --grow print Markdown tables; with --json {"machine": ..., "hold": [...], ...}, one object for each row.

  tx              to emulated:sink; frames and lengths are in the buffers; the loop reads space, advances and syncs
  rx              from emulated:source
  loop            tx and rx in one thread on emulated:loop, at most a ring of frames on the way; Mpps in each direction
  bridge          emulated:source to emulated:sink in one region, forward(), without reading packets
  bridge_touched  the same, with one byte of every packet read and written

The numbers at the top of the JSON are medians over runs, flat out, with batch 256 (or the only batch asked for). "rows"
has every measurement: {"what", "batch", "paced", "min", "median", "max", "lost", ...}, see Row. A run is loud if a loop
of NOPs was slow before or after it (quiet.py). The limit is what cache lines between the two cores cost (limits.py).
Paced means that the engine keeps to 10 Gbit/s, 14.88 Mpps. Each run checks its count by the NIC's counters, or by the
numbers in a source's frames. The emulated NIC costs the program no MMIO and no PCIe; its engine copies every received
packet, as DMA would.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import growth
import hold
import limits
import opening
import round_trips
import shipped
from building import BenchError
from limits import Limit
from loops import RUNS, Run, run_loop, run_tx
from machine import Cpus, choose_cpus, cpu_model, page_size_kb
from probe import Probe
from quiet import LOUD, Ear, quiet_median

from ixrings import ERRORS

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))

from processors import NOTICED

PACED = (False, True)
BATCHES = (256, 32)
ON_A_NIC = ("tx", "loop")


@dataclass(frozen=True)
class Row:
    """min, median, max: Mpps over runs. lost: frames in all runs. quiet: the median of the quiet runs, None if there
    was none. loud: the number of the others. noise: of the loudest run, 1.0 is quiet. others, stolen: percent of a core
    that other processes and a hypervisor took. limit_ns: nanoseconds a packet, None on a single core."""

    what: str
    batch: int
    paced: bool
    min: float
    median: float
    max: float
    lost: int
    quiet: float | None
    loud: int
    noise: float
    others: float
    stolen: float
    limit_ns: float | None


class Bench:
    """Measures rows, and the machine beside each of them."""

    def __init__(self, runs: int, seconds: float, nics: Sequence[str] = ()) -> None:
        """nics: instead of emulated ones (run_loop() in loops.py)."""
        self._runs, self._seconds, self._nics = runs, seconds, nics
        self._cpus: Cpus = choose_cpus()
        self._probe = Probe()
        self._ear = Ear(self._probe, self._cpus.used)

    def limit(self, way: str) -> Limit | None:
        """The limit now: a hypervisor may have moved the CPUs since the last row. It is about the emulated NIC."""
        if self._cpus.nic is None or self._nics:
            return None
        return limits.measure(self._probe, self._cpus.program, self._cpus.nic)[way]

    def _run(self, what: str, batch: int, paced: bool) -> Run:
        if not self._nics:
            return RUNS[what](batch, paced, self._seconds)
        if what == "tx":
            return run_tx(batch, paced, self._seconds, self._nics)
        return run_loop(batch, paced, self._seconds, self._nics)

    def measure(self, what: str, batch: int, paced: bool) -> tuple[Row, Limit | None]:
        limit = self.limit(what)
        self._ear.load()
        done: list[Run] = []
        noises: list[float] = []
        for _ in range(self._runs):
            run, noise = self._ear.around(lambda: self._run(what, batch, paced))
            done.append(run)
            noises.append(noise)
        load = self._ear.load()
        rates = [run.mpps for run in done]
        row = Row(
            what,
            batch,
            paced,
            round(min(rates), 2),
            round(statistics.median(rates), 2),
            round(max(rates), 2),
            sum(run.lost for run in done),
            quiet_median(rates, noises),
            sum(noise >= LOUD for noise in noises),
            round(max(noises), 2),
            round(load.others, 1),
            round(load.stolen, 1),
            None if limit is None else limit.ns,
        )
        return row, limit


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a Python loop with 64-byte frames, on emulated NICs.")
    parser.add_argument("--json", action="store_true", help="print medians by name, and every measurement under rows")
    parser.add_argument(
        "-i",
        dest="nics",
        action="append",
        default=[],
        metavar="NIC",
        help="measure this port; its cable leads back, or to a second -i",
    )
    parser.add_argument("--what", choices=RUNS, action="append", help="measure only this (may be repeated)")
    parser.add_argument(
        "--batch",
        type=int,
        action="append",
        help=f"frames in one turn of the loop (may be repeated; default: {' and '.join(map(str, BATCHES))})",
    )
    parser.add_argument("--pace", choices=("flat", "paced"), help="measure only flat out, or only at 10 Gbit/s")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of each run (default: 0.3)")
    parser.add_argument("--require", type=float, metavar="MPPS", help="exit with status 1 if a median is lower")
    parser.add_argument("--hold", type=float, metavar="SECONDS", help="send and receive 10 Gbit/s for this time")
    parser.add_argument(
        "--latency",
        type=int,
        nargs="?",
        const=20000,
        metavar="TRIPS",
        help="measure this many round trips (default: 20000)",
    )
    parser.add_argument("--examples", action="store_true", help="measure the programs in examples/")
    parser.add_argument("--open", action="store_true", help="measure the time and memory of opening a port")
    parser.add_argument("--grow", action="store_true", help="measure how cost grows")
    options = parser.parse_args()
    if options.hold is not None and not 0 < options.hold <= 86400:
        parser.error("--hold must be more than 0 and at most 86400 seconds")
    if options.latency is not None and options.latency < 1:
        parser.error("--latency must be at least 1 trip")
    if len(options.nics) > 2 or (options.nics and set(options.what or ()) - set(ON_A_NIC)):
        parser.error(f"-i names one port or two, and measures {' and '.join(ON_A_NIC)} only")
    if options.runs < 1 or not 0 < options.seconds <= 600:
        parser.error("--runs must be at least 1, --seconds more than 0 and at most 600")
    if any(not 1 <= batch <= 1000 for batch in options.batch or ()):
        parser.error("--batch must be 1 to 1000: rings have 1024 slots")
    return options


def where() -> str:
    return f"{cpu_model()}, pages of {page_size_kb()} KB, {choose_cpus().why_one or 'program and engine on two cores'}"


def kinds(options: argparse.Namespace) -> dict[str, Callable[[], Iterable[Any]]]:
    """The measurements asked for instead of the rates. Each gives rows of one dataclass."""
    asked: dict[str, tuple[bool, Callable[[], Iterable[Any]]]] = {
        "hold": (options.hold is not None, lambda: hold.measure(options.hold)),
        "latency": (options.latency is not None, lambda: round_trips.measure(options.latency, options.nics)),
        "examples": (options.examples, lambda: shipped.measure(options.runs, options.seconds)),
        "open": (options.open, lambda: opening.measure(options.runs)),
        "grow": (options.grow, lambda: growth.measure(options.runs, options.seconds)),
    }
    return {kind: measure for kind, (wanted, measure) in asked.items() if wanted}


def in_markdown(rows: Iterable[Any]) -> None:
    """Print a table, each line as soon as its row is measured."""
    heads: list[str] = []
    for row in rows:
        cells = asdict(row)
        if not heads:
            heads = list(cells)
            print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        print(f"| {' | '.join(map(str, cells.values()))} |", flush=True)


def run_kinds(asked: dict[str, Callable[[], Iterable[Any]]], as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {"machine": machine(), **{kind: [asdict(row) for row in measure()] for kind, measure in asked.items()}},
                indent=1,
            )
        )
        return
    print(where())
    for kind, measure in asked.items():
        print(f"\n{kind}\n")
        in_markdown(measure())


def line(row: Row, limit: Limit | None, runs: int) -> str:
    """A row of the table."""
    rates = f"{row.min:6.2f} {row.median:6.2f} {row.max:6.2f}"
    quiet = "-" if row.quiet is None else f"{row.quiet:.2f}"
    pace = "10 Gbit/s" if row.paced else "flat out"
    distance = "" if limit is None or row.paced else limit.distance(row.median)
    beside = [
        f"{value:.0f} % of a core {what}"
        for what, value in (("for other processes", row.others), ("stolen", row.stolen))
        if value >= NOTICED
    ]
    remarks = ", ".join(([distance] if distance else []) + beside)
    loud = f"{quiet:>6} {row.loud:4}/{runs}"
    return f"{row.what:14} {row.batch:5}  {pace:9} {rates} {loud}  {row.lost}  {remarks}".rstrip()


def run(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    paces = PACED if options.pace is None else (options.pace == "paced",)
    if options.nics:
        paces = (False,)  # its link is the pace
    if not options.json:
        print(f"{where()}; {options.runs} runs of {options.seconds:g} s, Mpps")
        print(f"{'':14} {'batch':>5}  {'pace':9} {'min':>6} {'median':>6} {'max':>6}  quiet   loud  lost  limit")
    bench = Bench(options.runs, options.seconds, options.nics)
    for paced in paces:
        for what in options.what or (ON_A_NIC if options.nics else RUNS):
            for batch in options.batch or BATCHES:
                row, limit = bench.measure(what, batch, paced)
                rows.append(row)
                if not options.json:
                    print(line(row, limit, options.runs), flush=True)
    return rows


def machine() -> dict[str, str | int]:
    return {"cpu": cpu_model(), "page_kb": page_size_kb(), "cores": 1 if choose_cpus().nic is None else 2}


def as_json(rows: list[Row]) -> str:
    """At the top each loop has the median of its first row."""
    heads: dict[str, float] = {}
    for row in rows:
        heads.setdefault(row.what, row.median)
    return json.dumps({**heads, "machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1)


def too_slow(rows: list[Row], required: float) -> list[str]:
    return [
        f"{row.what}, batch {row.batch}, {'paced' if row.paced else 'flat out'}: {row.median} Mpps"
        for row in rows
        if row.median < required
    ]


def main() -> int:
    options = arguments()
    asked = kinds(options)
    rows: list[Row] = []
    try:
        if asked:
            run_kinds(asked, options.json)
            return 0
        rows = run(options)
    except (BenchError, *ERRORS) as error:
        print(f"throughput.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(as_json(rows))
    slow = too_slow(rows, options.require) if options.require is not None else []
    for line in slow:
        print(f"throughput.py: less than {options.require:g} Mpps: {line}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
