"""Packets a second from a Python loop through the rings and the emulated NIC: 64-byte frames (60 and CRC), one core for the program,
one for the NIC's engine.

    python tests/bench/throughput.py                a table
    python tests/bench/throughput.py --json         {"tx": Mpps, "rx": ..., "loop": ..., "bridge": ..., "bridge_touched": ..., "machine": {...}, "rows": [...]}
    python tests/bench/throughput.py --require 5    exit status 1 when a median is lower (Mpps, flat out and paced)

  tx              to emulated:sink; frames and lengths are in the buffers, the loop reserves, advances, syncs
  rx              from emulated:source
  loop            tx and rx at once on emulated:loop, one thread, at most a ring of frames under way; Mpps each way
  bridge          emulated:source to emulated:sink in one region, forward(), nothing of a packet looked at
  bridge_touched  the same, and one byte of every packet is read and written

The numbers at the top of the JSON are medians over runs, flat out, batch 256 (or the only batch asked for). "rows" has every
measurement: {"what", "batch", "paced", "min", "median", "max", "lost"}, Mpps and frames lost in all runs. Paced: the engine keeps to
10 Gbit/s, 14.88 Mpps. Each run checks the NIC's own counters: what a run says it carried was carried. The emulated NIC costs the
program no MMIO and no PCIe; its engine copies every received packet, as DMA would.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from driver import Port, open_port, open_ports
from machine import choose_cpus, cpu_model, page_size_kb
from rings import RingError

FRAME = 60  # bytes, without CRC
TOUCHED = 26  # which byte of a packet: the first of an IPv4 source address
ROUNDS = 64  # turns of a loop between looks at the clock
PACED = (False, True)
BATCHES = (256, 32)
DRAIN_S = 5.0
WARM_UP_S = 0.02  # a paced source does not wait for a program that has only just opened the port: let that loss pass
SEQUENCE = slice(42, 50)  # where a source's frames have their number


class BenchError(Exception):
    """A run that is not worth a number; the message says why."""


@dataclass(frozen=True)
class Run:
    frames: int
    seconds: float
    lost: int

    @property
    def mpps(self) -> float:
        return self.frames / self.seconds / 1e6


@dataclass(frozen=True)
class Row:
    """min, median, max: Mpps over runs. lost: frames, all runs together."""

    what: str
    batch: int
    paced: bool
    min: float
    median: float
    max: float
    lost: int


def transmit(port: Port, batch: int, seconds: float) -> int:
    """As pktgen: whole batches, as long as the ring has room for one. Frames handed over."""
    ring, txsync = port.tx_rings[0], port.txsync
    sent, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            if ring.space >= batch:
                count = len(ring.reserve(batch))  # fewer at the ring's end
                ring.advance(count)
                sent += count
            txsync()
    return sent


def receive(port: Port, batch: int, seconds: float) -> int:
    """Takes up to a batch at a time. Frames received."""
    ring, rxsync = port.rx_rings[0], port.rxsync
    received, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            rxsync()
            count = len(ring.reserve(batch))
            ring.advance(count)
            received += count
    return received


def echo(port: Port, batch: int, seconds: float) -> tuple[int, int]:
    """Send and receive in turn, at most a receive ring under way, so that none finds it full. Frames sent, received."""
    tx, rx, txsync, rxsync = port.tx_rings[0], port.rx_rings[0], port.txsync, port.rxsync
    window = rx.num_slots - 1
    sent = received = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            if tx.space >= batch and sent - received + batch <= window:
                count = len(tx.reserve(batch))
                tx.advance(count)
                sent += count
            txsync()
            rxsync()
            count = len(rx.reserve(batch))
            rx.advance(count)
            received += count
    end = time.perf_counter() + DRAIN_S
    while received < sent and time.perf_counter() < end:
        txsync()
        rxsync()
        count = rx.space
        rx.advance(count)
        received += count
    return sent, received


def bridge(source: Port, sink: Port, batch: int, seconds: float) -> int:
    """Frames forwarded; none is looked at."""
    forward = source.forward
    moved, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            moved += forward(sink, batch)
    return moved


def bridge_touched(source: Port, sink: Port, batch: int, seconds: float) -> int:
    """Frames forwarded; a byte of each changes on its way. forward() syncs, so the next batch is there when it returns."""
    ring, column = source.rx_rings[0], source.buffers[:, TOUCHED]
    moved, end = 0, time.perf_counter() + seconds
    touched = 0  # frames from head on whose byte has changed and that have not moved yet
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            if not touched:
                span = ring.reserve(batch)
                touched = len(span)
                if not touched:
                    source.rxsync()
                    continue
                column[span.buf_idx] += 1
            count = source.forward(sink, touched)
            touched -= count
            moved += count
    return moved


def fill(port: Port) -> None:
    """A frame to the port itself in each transmit buffer, so that one that comes back is accepted."""
    ring = port.tx_rings[0]
    frame = bytes.fromhex(port.mac.replace(":", "")) + bytes([2, 0, 0, 0, 0, 9]) + b"\x88\xb5" + bytes(FRAME - 14)
    port.buffers[ring.slots["buf_idx"], :FRAME] = np.frombuffer(frame, np.uint8)
    ring.slots["len"] = FRAME


def name(wire: str, paced: bool) -> str:
    return f"emulated{'@paced' if paced else ''}:{wire}"


@contextmanager
def on_two_cpus() -> Iterator[None]:
    """The program's thread on one, the engine's on the other: left to the scheduler, they share one now and then."""
    allowed = os.sched_getaffinity(0)
    cpus = choose_cpus()
    if cpus.nic is not None:
        os.sched_setaffinity(0, {cpus.program})
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text(encoding="ascii", errors="replace").strip() == "82599":
                os.sched_setaffinity(int(task.name), {cpus.nic})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def check_equal(what: str, expected: int, found: int) -> None:
    if expected != found:
        raise BenchError(f"{what}: the loop counted {expected} frames, the NIC {found}")


def run_tx(batch: int, paced: bool, seconds: float) -> Run:
    with open_port(name("sink", paced)) as port, on_two_cpus():
        fill(port)
        start = time.perf_counter()
        sent = transmit(port, batch, seconds)
        port.flush()
        spent = time.perf_counter() - start
        check_equal("GPTC", sent, port.stats()["GPTC"])
    return Run(sent, spent, 0)


def sequence_at_head(port: Port) -> int:
    """The number of the oldest frame that waits. A source numbers its frames, so what is missing between two was lost."""
    ring, end = port.rx_rings[0], time.perf_counter() + DRAIN_S
    while not ring.space:
        port.rxsync()
        if time.perf_counter() > end:
            raise BenchError(f"no frame came from {port.name} for {DRAIN_S:g} s")
    frame = port.buffers[ring.slots["buf_idx"][ring.head]]
    return int.from_bytes(frame[SEQUENCE].tobytes(), "big")


def run_rx(batch: int, paced: bool, seconds: float) -> Run:
    with open_port(name("source", paced)) as port, on_two_cpus():
        receive(port, batch, WARM_UP_S)
        first = sequence_at_head(port)
        start = time.perf_counter()
        received = receive(port, batch, seconds)
        spent = time.perf_counter() - start
        return Run(received, spent, sequence_at_head(port) - first - received)


def run_loop(batch: int, paced: bool, seconds: float) -> Run:
    with open_port(name("loop", paced)) as port, on_two_cpus():
        fill(port)
        start = time.perf_counter()
        sent, received = echo(port, batch, seconds)
        spent = time.perf_counter() - start
        check_equal("GPTC", sent, port.stats()["GPTC"])
    return Run(received, spent, sent - received)


def run_bridge(loop: Callable[[Port, Port, int, float], int], batch: int, paced: bool, seconds: float) -> Run:
    with open_ports(name("source", paced), name("sink", paced)) as (source, sink), on_two_cpus():
        before = loop(source, sink, batch, WARM_UP_S)
        sink.flush()
        first = sequence_at_head(source)
        start = time.perf_counter()
        moved = loop(source, sink, batch, seconds)
        sink.flush()
        spent = time.perf_counter() - start
        lost = sequence_at_head(source) - first - moved
        check_equal("GPTC", before + moved, sink.stats()["GPTC"])
        return Run(moved, spent, lost)


RUNS: dict[str, Callable[[int, bool, float], Run]] = {
    "tx": run_tx,
    "rx": run_rx,
    "loop": run_loop,
    "bridge": lambda batch, paced, seconds: run_bridge(bridge, batch, paced, seconds),
    "bridge_touched": lambda batch, paced, seconds: run_bridge(bridge_touched, batch, paced, seconds),
}


def measure(what: str, batch: int, paced: bool, runs: int, seconds: float) -> Row:
    done = [RUNS[what](batch, paced, seconds) for _ in range(runs)]
    rates = [run.mpps for run in done]
    return Row(what, batch, paced, round(min(rates), 2), round(statistics.median(rates), 2), round(max(rates), 2),
               sum(run.lost for run in done))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Mpps of a Python loop on the emulated NIC, 64-byte frames.")
    parser.add_argument("--json", action="store_true", help="medians by name, and every measurement under rows")
    parser.add_argument("--what", choices=RUNS, action="append", help="only this one (may be repeated)")
    parser.add_argument("--batch", type=int, action="append", help=f"frames a turn (may be repeated; default: {BATCHES})")
    parser.add_argument("--pace", choices=("flat", "paced"), help="only flat out, or only at 10 Gbit/s")
    parser.add_argument("--runs", type=int, default=5, help="of each measurement (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each run (default: 0.3)")
    parser.add_argument("--require", type=float, metavar="MPPS", help="exit with 1 when a median is lower")
    options = parser.parse_args()
    if options.runs < 1 or not 0 < options.seconds <= 600:
        parser.error("--runs is 1 or more, --seconds up to 600")
    if any(not 1 <= batch <= 1000 for batch in options.batch or ()):
        parser.error("--batch is 1 to 1000: rings have 1024 slots")
    return options


def run(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    paces = PACED if options.pace is None else (options.pace == "paced",)
    if not options.json:
        print(f"{cpu_model()}, pages of {page_size_kb()} KB, {choose_cpus().why_one or 'program and engine on a core each'}; "
              f"{options.runs} runs of {options.seconds:g} s, Mpps")
        print(f"{'':14} {'batch':>5}  {'pace':9} {'min':>6} {'median':>6} {'max':>6}  lost")
    for paced in paces:
        for what in options.what or RUNS:
            for batch in options.batch or BATCHES:
                row = measure(what, batch, paced, options.runs, options.seconds)
                rows.append(row)
                if not options.json:
                    print(f"{what:14} {batch:5}  {'10 Gbit/s' if paced else 'flat out':9} {row.min:6.2f} {row.median:6.2f} {row.max:6.2f}  {row.lost}", flush=True)
    return rows


def as_json(rows: list[Row]) -> str:
    """The first batch and pace measured stand for each at the top."""
    heads: dict[str, float] = {}
    for row in rows:
        heads.setdefault(row.what, row.median)
    machine = {"cpu": cpu_model(), "page_kb": page_size_kb(), "cores": 1 if choose_cpus().nic is None else 2}
    return json.dumps({**heads, "machine": machine, "rows": [asdict(row) for row in rows]}, indent=1)


def too_slow(rows: list[Row], required: float) -> list[str]:
    return [f"{row.what}, batch {row.batch}, {'paced' if row.paced else 'flat out'}: {row.median} Mpps"
            for row in rows if row.median < required]


def main() -> int:
    options = arguments()
    try:
        rows = run(options)
    except (BenchError, RingError) as error:
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
