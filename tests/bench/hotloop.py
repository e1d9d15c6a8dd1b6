"""What the hot loop of rings/ costs, in cycles a packet: the driver's own work and nothing else.

    python tests/bench/hotloop.py                   a table, beside the best existing drivers
    python tests/bench/hotloop.py --json            [{"op", "batch", "nic", "min", "median", "noise"}, ...]
    python tests/bench/hotloop.py --svg FILE        and a drawing
    python tests/bench/hotloop.py --op tx --batch 32 --nic same

Method: a fake NIC in plain memory makes its steps outside the timed regions. A region is 256 packets of 60 bytes, a
packet in a slot. Rings have 1024 slots, and buffers 2112 bytes, as open_port() makes them. With --queues each queue has
its own. min and median are over regions. The timed parts, counter fences included:

  tx       for each batch: the application moves head and cur, txsync(). Its buffers keep their bytes and lengths, as in
           a generator; with --write-len it also writes len into each slot.
  rx       for each batch: rxsync(), the application reads len of each slot and moves head and cur. One more rxsync() at
           the end. A sync takes all packets that are there (netmap's contract), so the batch is the number of slots
           released at once.
  forward  for each batch: the application reads and writes one byte of each packet (after an rxsync(), if less than a
           batch waits), then forward() of the batch: its own rxsync, the swap of buffers, txsync.

nic "same": the NIC's steps run on the driver's core, so its lines stay in that core's caches. nic "other": they run on
another core, so descriptors, tail registers and the head write-back move between cores. Before a region the NIC fetches
all TX descriptors and writes its head back, or writes DD and length to 256 RX descriptors; it does not touch packets.
MMIO, PCIe and DDIO are not modelled.
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from building import BenchError, compile_c
from chart import Point, draw
from machine import Cpus, choose_cpus, cpu_model, page_size_kb
from probe import Probe
from quiet import LOUD, Ear

HERE = Path(__file__).resolve().parent
RINGS = HERE.parent.parent / "rings"
OPS = ("tx", "rx", "forward")
NICS = ("same", "other")
BATCHES = (1, 8, 32, 64, 256)
REGION = 256  # packets; as in hotloop_bench.c
PATHS = {0: "scalar C", 4: "AVX2", 8: "AVX-512"}  # by slots at once
TIMEOUT_S = 120.0

# Cycles a packet, min/median, of the best existing driver by the same method on a 2.6 GHz TSC: TinyNF, its flexible
# version.
PEERS = {
    ("tx", 32, "same"): "5.6/5.6",
    ("rx", 32, "same"): "7.8/8.4",
    ("forward", 32, "same"): "14.9/18.7",
    ("tx", 32, "other"): "10.9/12.4",
    ("rx", 32, "other"): "8.8/11.4",
    ("forward", 32, "other"): "34.8/47.6",
}


@dataclass(frozen=True)
class Result:
    """min, median: cycles a packet, over the regions. noise: best NOP rate of the CPUs by the rate before or after the
    measurement (quiet.py)."""

    op: str
    batch: int
    nic: str
    min: float
    median: float
    noise: float = 1.0


@dataclass(frozen=True)
class Setup:
    """The settings of every measurement."""

    regions: int
    slots: int
    buf_size: int
    write_len: bool
    group: int
    hugepages: bool
    queues: int
    cpus: Cpus

    @property
    def packets(self) -> int:
        """Packets in a region."""
        return REGION * self.queues


def build(folder: Path) -> Path:
    """Compile the harness and the C files of rings/ into `folder`. Returns the program."""
    sources = [HERE / "hotloop_bench.c", *sorted(RINGS.glob("*.c"))]
    return compile_c(folder / "hotloop_bench", sources, f"-I{RINGS}")


def measure(program: Path, set_up: Setup, op: str, batch: int, nic: str) -> tuple[Result, float, str]:
    """One line of the table, the counter's frequency in Hz, and the kind of code (PATHS)."""
    nic_cpu = set_up.cpus.program if set_up.cpus.nic is None else set_up.cpus.nic
    command = [
        str(program),
        op,
        str(batch),
        nic,
        str(set_up.regions),
        str(set_up.slots),
        str(set_up.buf_size),
        "len" if set_up.write_len else "head",
        str(set_up.group),
        str(set_up.queues),
        str(set_up.cpus.program),
        str(nic_cpu),
        "huge" if set_up.hugepages else "plain",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{shlex.join(command)} took more than {TIMEOUT_S:g} s") from None
    if done.returncode:
        raise BenchError(done.stderr.strip() or f"{shlex.join(command)} ended with {done.returncode}")
    frequency, group, *ticks = map(int, done.stdout.split())
    least, median = min(ticks) / set_up.packets, statistics.median(ticks) / set_up.packets
    return Result(op, batch, nic, round(least, 2), round(median, 2)), frequency, PATHS[group]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Cycles a packet of the hot loop of rings/, with a fake NIC in plain memory."
    )
    parser.add_argument("--json", action="store_true", help="a list of {op, batch, nic, min, median, noise}")
    parser.add_argument("--op", choices=OPS, action="append", help="only this one; may be repeated")
    parser.add_argument("--batch", type=int, choices=BATCHES, action="append", help="only this one; may be repeated")
    parser.add_argument("--nic", choices=NICS, action="append", help="only this one; may be repeated")
    parser.add_argument("--regions", type=int, default=3000, help="timed regions of 256 packets (default: 3000)")
    parser.add_argument("--slots", type=int, default=1024, help="slots of a ring, 520..8192 (default: 1024)")
    parser.add_argument(
        "--buf-size", type=int, default=2112, help="bytes between packet buffers, a multiple of 64 (default: 2112)"
    )
    parser.add_argument(
        "--queues",
        type=int,
        default=1,
        help="1..16, each with a batch in every sync; the result is still cycles a packet (default: 1)",
    )
    parser.add_argument(
        "--group",
        type=int,
        choices=(0, 4, 8),
        default=8,
        help="slots at once by vectors, if the processor has them (default: 8)",
    )
    parser.add_argument("--hugepages", action="store_true", help="rings, descriptors and buffers on pages of 2 MB")
    parser.add_argument("--write-len", action="store_true", help="tx: the application writes len into each slot")
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="also draw medians over batch size, NIC on the same core (chart.py)"
    )
    options = parser.parse_args()
    if not 1 <= options.regions <= 1_000_000:
        parser.error("--regions is 1 to 1000000")
    if not 1 <= options.queues <= 16:
        parser.error("--queues is 1 to 16")
    if not 520 <= options.slots <= 8192 or options.slots % 8:
        parser.error("--slots is 520 to 8192, a multiple of 8: two regions of 256 packets are in a ring at a time")
    if not 64 <= options.buf_size <= 15872 or options.buf_size % 64:
        parser.error("--buf-size is 64 to 15872, a multiple of 64")
    return options


def row(result: Result) -> str:
    peer = PEERS.get((result.op, result.batch, result.nic), "")
    loud = f"   loud: NOPs are {result.noise:.1f} times slower than at their best" * (result.noise >= LOUD)
    cycles = f"{result.min:9.1f} {result.median:7.1f}"
    return f"{result.op:8} {result.batch:5}  {result.nic:5} {cycles}   {peer:10}{loud}".rstrip()


def print_heading(options: argparse.Namespace, frequency: float, path: str) -> None:
    page_kb = 2048 if options.hugepages else page_size_kb()
    print(
        f"{cpu_model()}, counter {frequency / 1e9:.3f} GHz, pages of {page_kb} KB, {path}; "
        f"{options.regions} regions of {REGION} packets, {options.queues} x {options.slots} slots, "
        f"buffers of {options.buf_size} bytes"
    )
    print(f"{'op':8} {'batch':>5}  {'nic':5} {'min':>9} {'median':>7}   best existing (TinyNF, min/median)")


def run(options: argparse.Namespace) -> tuple[list[Result], str]:
    """All measurements that the options select, and the kind of code (PATHS)."""
    set_up = Setup(
        options.regions,
        options.slots,
        options.buf_size,
        options.write_len,
        options.group,
        options.hugepages,
        options.queues,
        choose_cpus(),
    )
    nics = options.nic or NICS
    if set_up.cpus.nic is None and "other" in nics:
        print(f"NIC on the other core is left out: {set_up.cpus.why_one}", file=sys.stderr)
        nics = tuple(nic for nic in nics if nic != "other")
    results: list[Result] = []
    path = ""
    with tempfile.TemporaryDirectory(prefix="hotloop-bench-") as folder:
        program = build(Path(folder))
        ear = Ear(Probe(), set_up.cpus.used)
        for nic in nics:
            for op in options.op or OPS:
                for batch in options.batch or BATCHES:
                    one = functools.partial(measure, program, set_up, op, batch, nic)
                    (result, frequency, path), noise = ear.around(one)
                    result = replace(result, noise=round(noise, 2))
                    if not options.json:
                        if not results:
                            print_heading(options, frequency, path)
                        print(row(result), flush=True)
                    results.append(result)
    return results, path


def main() -> int:
    options = arguments()
    try:
        results, path = run(options)
    except BenchError as error:
        print(f"hotloop.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.svg:
        ours = [Point("", each.op, each.batch, each.median) for each in results if each.nic == "same"]
        options.svg.write_text(draw(ours, f"Cycles a packet, median, NIC on the same core ({path}, 60 bytes)"))
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
