"""Measures netmap programs on the daemon's ports: a client in C in the shape of pkt-gen, run as `ixrings run` does.

    python tests/bench/netmap.py                a table: what, unit, lowest, median, highest, goal
    python tests/bench/netmap.py --quick        short runs: whether it works, in some seconds
    python tests/bench/netmap.py --json         {"machine": ..., "rows": [{"part", "what", "unit", "median", ...}]}
    python tests/bench/netmap.py --part pipe    only this part (may be repeated)

  native    the client on emulated:sink and emulated:source, beside open_port() in one Python process: runs alternate
  pipe      one client sends to another one. "rewritten": each exchanged buffer gets its frame again, as in pkt-gen
  switch    the same through a VALE switch, beside memcpy of as many bytes on one core
  monitors  a client that receives, with and without two copying monitors that read: runs alternate
  host      frames from a client to Linux and back, through the TAP (root)
  handles   what a handle costs: the daemon's memory and descriptors, and a sync beside 0, 7 and 63 idle handles
  idle      the daemon's processor time with one NIC and 8 handles whose programs do nothing

In the rows for native, where there are two CPUs, the client and the daemon have one each, as the program and the
emulated NIC have in one process. Elsewhere the scheduler decides. Rates are from the client's own counts, read while it
runs. others: percent of a core that other processes took during the row. loud: a loop of NOPs was slow before or after
a run (quiet.py). service.py measures a delegated sync alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from building import BenchError, compile_c
from loops import run_rx, run_tx
from machine import choose_cpus, cpu_model
from netmap_world import BENCH, Cost, Others, World, rate, world
from probe import Probe
from quiet import LOUD, Ear
from service import ALWAYS, Way, by_the_service
from throughput import machine

from tests.support.namespaces import namespace, why_not
from tests.support.service_daemon import build_client

BATCH = 256
HANDLES = (1, 8, 64)
IDLE_HANDLES = 8
MONITORED = "emulated@paced:source", "emulated:source"


@dataclass(frozen=True)
class Length:
    """How many runs of how many seconds a row has; idle: seconds in which the idle daemon is watched."""

    runs: int
    seconds: float
    idle: float


FULL, QUICK = Length(15, 0.1, 10.0), Length(1, 0.05, 0.5)


@dataclass(frozen=True)
class Row:
    """lowest, median, highest: of the runs. goal: in the same unit; None: there is none. loud: how many of `runs`; a
    ratio has two runs each."""

    part: str
    what: str
    unit: str
    lowest: float
    median: float
    highest: float
    goal: float | None = None
    others: float = 0.0
    loud: int = 0
    runs: int = 1

    @property
    def text(self) -> str:
        goal = "" if self.goal is None else f"goal {self.goal:g}"
        beside = f"  others {self.others:.0f} %" if self.others >= 10 else ""
        return (
            f"{self.part:9} {self.what:46} {self.lowest:9.2f} {self.median:9.2f} {self.highest:9.2f} {self.unit:10}"
            f" {self.loud}/{self.runs} loud  {goal}{beside}"
        ).rstrip()


@dataclass
class Bench:
    """Measures rows; `noises` and others are those since the last row."""

    length: Length
    ear: Ear
    noises: list[float] = field(default_factory=list)
    others: Others = field(default_factory=Others)

    def run(self, measure: Callable[[], float]) -> float:
        value, noise = self.ear.around(measure)
        self.noises.append(noise)
        return value

    def begin(self) -> None:
        self.noises, self.others = [], Others()

    def row(self, part: str, what: str, unit: str, values: Sequence[float], goal: float | None = None) -> Row:
        lowest, median, highest = (round(of(values), 3) for of in (min, statistics.median, max))
        others, loud = round(self.others.percent(), 1), sum(noise >= LOUD for noise in self.noises)
        return Row(part, what, unit, lowest, median, highest, goal, others, loud, len(self.noises))


# ---- the parts ----


def native(bench: Bench) -> Iterator[Row]:
    """A client of the daemon, and the same loop in Python with the port in its own process."""

    def in_python(way: str) -> float:
        return (run_tx if way == "tx" else run_rx)(BATCH, False, bench.length.seconds).mpps

    for way, wire in (("tx", "sink"), ("rx", "source")):
        alone, served = list[float](), list[float]()
        with world(f"ix0=emulated:{wire}") as here:
            bench.begin()
            for _ in range(bench.length.runs):
                alone.append(bench.run(partial(in_python, way)))
                with here.client(way, "ix0", options=["-b", BATCH]) as client:
                    here.on_two_cpus(client)
                    here.wait_for_frames(client)
                    served.append(bench.run(lambda: rate(client, bench.length.seconds) / 1e6))
            ratios = [theirs / own for own, theirs in zip(alone, served)]
            yield bench.row("native", f"{way}, Python in one process", "Mpps", alone)
            yield bench.row("native", f"{way}, client of the daemon", "Mpps", served)
            yield bench.row("native", f"{way}, client / Python", "times", ratios, 0.8)


def between(
    bench: Bench, here: World, sends: str, receives: str, tx: Sequence[object], rx: Sequence[object]
) -> list[float]:
    """Mpps that a client receives from another one."""
    with here.client("rx", receives, options=rx) as receiver, here.client("tx", sends, options=tx):
        here.wait_for_frames(receiver)
        bench.begin()
        return [bench.run(lambda: rate(receiver, bench.length.seconds) / 1e6) for _ in range(bench.length.runs)]


def pipe(bench: Bench) -> Iterator[Row]:
    with world("ix0=emulated:sink") as here:
        for what, options in (("in place", ["-k"]), ("rewritten", [])):
            values = between(bench, here, "x{1", "x}1", [*options, "-b", BATCH], ["-b", BATCH])
            yield bench.row("pipe", f"60 bytes, {what}", "Mpps", values, 20 if options else None)


def switch(bench: Bench) -> Iterator[Row]:
    with world("ix0=emulated:sink") as here:
        for length, goal in ((60, 10), (1514, None)):
            values = between(bench, here, "vale0:a", "vale0:b", ["-l", length, "-b", BATCH], ["-H", "-b", BATCH])
            yield bench.row("switch", f"{length} bytes", "Mpps", values, goal)
            if goal:
                continue
            with here.client("copy", options=["-l", length]) as copier:
                here.wait_for_frames(copier)
                bench.begin()
                copied = [bench.run(lambda: rate(copier, bench.length.seconds) / 1e6) for _ in range(len(values))]
            yield bench.row("switch", f"{length} bytes, memcpy alone", "Mpps", copied)
            beside = [theirs / statistics.median(copied) for theirs in values]
            yield bench.row("switch", f"{length} bytes, switch / memcpy", "times", beside)


def monitors(bench: Bench) -> Iterator[Row]:
    for target in MONITORED:
        without, with_two = list[float](), list[float]()
        with world(f"ix0={target}") as here, here.client("rx", "ix0", options=["-b", BATCH]) as client:
            here.wait_for_frames(client)
            bench.begin()
            for _ in range(bench.length.runs):
                without.append(bench.run(lambda: rate(client, bench.length.seconds) / 1e6))
                with ExitStack() as stack:
                    for _ in range(2):
                        one = stack.enter_context(here.client("rx", "ix0/r", options=["-n", 1000, "-b", 1024]))
                        here.wait_for_frames(one, 1)
                    with_two.append(bench.run(lambda: rate(client, bench.length.seconds) / 1e6))
            what = "10 Gbit/s" if "paced" in target else "flat out"
            yield bench.row("monitors", f"rx, {what}, none", "Mpps", without)
            yield bench.row("monitors", f"rx, {what}, two copying", "Mpps", with_two)
            cost = [100 * (1 - two / none) for none, two in zip(without, with_two)]
            yield bench.row("monitors", f"rx, {what}: cost of two", "%", cost, 10)


@contextmanager
def sending(name: str, inside: Sequence[str], interface: str) -> Iterator[None]:
    """host_sender.c on an interface, within the context."""
    process = subprocess.Popen([*inside, name, interface], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchError(f"host_sender cannot send to {interface}")
        yield
    finally:
        process.kill()
        process.communicate()


def host(bench: Bench) -> Iterator[Row]:
    """Nothing where the TAP cannot be made: the reason goes to stderr."""
    if reason := why_not():
        print(f"netmap.py: host rings are not measured: it {reason}", file=sys.stderr)
        return
    with namespace("bench") as here, tempfile.TemporaryDirectory() as folder:
        sender = compile_c(Path(folder, "host_sender"), [BENCH / "host_sender.c"])
        inside = here.command()
        with world("ix0=emulated:sink", host=True, inside=inside) as there:
            here.run("ip", "link", "set", "ix0", "up")
            with there.client("tx", "ix0^", options=["-b", BATCH]) as client:
                there.wait_for_frames(client)
                bench.begin()
                values = [bench.run(lambda: rate(client, bench.length.seconds) / 1e6) for _ in range(bench.length.runs)]
            yield bench.row("host", "client to Linux", "Mpps", values, 0.5)
            with there.client("rx", "ix0^", options=["-b", BATCH]) as client, sending(str(sender), inside, "ix0"):
                there.wait_for_frames(client)
                bench.begin()
                values = [bench.run(lambda: rate(client, bench.length.seconds) / 1e6) for _ in range(bench.length.runs)]
            yield bench.row("host", "Linux to client", "Mpps", values, 0.5)


def handles(bench: Bench) -> Iterator[Row]:
    with world("ix0=emulated:sink", memory=128) as here:
        bench.begin()
        with here.client("hold", "ix0"):
            memory, descriptors = here.memory_kb(), here.descriptors()
            with here.client("hold", *["ix0"] * HANDLES[-1]):
                more = HANDLES[-1]
                kb, fds = (here.memory_kb() - memory) / more, (here.descriptors() - descriptors) / more
        yield bench.row("handles", "memory of the daemon", "KB", [kb])
        yield bench.row("handles", "descriptors of the daemon", "fds", [fds])
    if choose_cpus().nic is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        program = build_client(Path(folder))
        for count in HANDLES:
            way = Way("both spin", ALWAYS, ALWAYS, handles=count)
            bench.begin()
            values = [by_the_service(program, way, "tx", 0, choose_cpus())[1] for _ in range(bench.length.runs)]
            yield bench.row("handles", f"a sync, handles: {count}", "ns", values)


def idle(bench: Bench) -> Iterator[Row]:
    """The engine of the emulated NIC, which looks at its registers all the time, counts apart."""
    with world("ix0=emulated:sink") as here, here.client("hold", *["ix0"] * IDLE_HANDLES):
        bench.begin()
        time.sleep(min(1.0, bench.length.idle))
        start = here.cost()
        time.sleep(bench.length.idle)
        share: Cost = here.cost() - start
        yield bench.row("idle", "daemon", "% of core", [100 * share.daemon / bench.length.idle], 1)
        yield bench.row("idle", "engine of the emulated NIC", "% of core", [100 * share.engine / bench.length.idle])


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "native": native, "pipe": pipe, "switch": switch, "monitors": monitors, "host": host, "handles": handles,
    "idle": idle,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure netmap programs on the daemon's ports.")
    parser.add_argument("--json", action="store_true", help="print {machine, rows}")
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--part", choices=PARTS, action="append", help="measure only this (may be repeated)")
    options = parser.parse_args()
    bench = Bench(QUICK if options.quick else FULL, Ear(Probe(), sorted(os.sched_getaffinity(0))[:2]))
    rows: list[Row] = []
    if not options.json:
        print(f"{cpu_model()}, {len(os.sched_getaffinity(0))} CPUs; lowest, median, highest")
    try:
        for part in options.part or PARTS:
            for row in PARTS[part](bench):
                rows.append(row)
                if not options.json:
                    print(row.text, flush=True)
    except (BenchError, AssertionError) as error:
        print(f"netmap.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
