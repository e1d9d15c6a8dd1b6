"""Measures virtual functions of the emulated NIC.

    python tests/bench/virtual.py               a port on a VF beside one on the PF, and two VFs, in alternating runs
    python tests/bench/virtual.py --many 63     so many VFs with traffic in one process: time, memory, descriptors

A run opens its ports anew. Ratios are medians over pairs of runs, one on the PF and one on the VF. A source
waits for both. `engine.py --what vf-tx --instructions` counts what the emulated
NIC does for a frame; the driver's loop has the same instructions on both kinds of ports.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from building import BenchError
from loops import echo, fill, on_two_cpus, receive, transmit
from machine import cpu_model
from scenes import WAYS, Scene, scene

from ixrings import Port, open_port
from ixrings.hw.emulator import Emulated82599, PfAgent

BATCH = 256
PAIRS = ("tx", "rx", "loop")
MOST_VFS = 63
FRAMES, ROUNDS = 64, 20  # each of many VFs sends so many frames, so many times
Row = dict[str, Any]


def carried(what: str, found: Scene, seconds: float) -> int:
    """Frames that the receiver got, or the NIC where nobody receives."""
    if what.endswith("tx"):
        frames = transmit(found.sender, BATCH, seconds)
        found.sender.flush()
        return frames
    if what.endswith("rx"):
        return receive(found.receiver, BATCH, seconds)
    return echo(found.sender, found.receiver, BATCH, seconds)[1]


def cost_ns(what: str, seconds: float) -> float:
    """Nanoseconds a packet of a Python loop, the engine on another CPU if there is one."""
    with scene(WAYS[what]) as found, on_two_cpus():
        carried(what, found, seconds / 10)
        start = time.perf_counter()
        frames = carried(what, found, seconds)
        spent = time.perf_counter() - start
    if not frames:
        raise BenchError(f"{what}: no frame came")
    return spent / frames * 1e9


def row(what: str, costs: list[float], **more: Any) -> Row:
    return {"what": what, "ns": statistics.median(costs), "lowest": min(costs), "runs": len(costs), **more}


def compare(runs: int, seconds: float) -> list[Row]:
    rows = []
    for what in PAIRS:
        pairs = [(cost_ns(what, seconds), cost_ns(f"vf-{what}", seconds)) for _ in range(runs)]
        port, vf = (list(costs) for costs in zip(*pairs))
        rows.append(row(what, port))
        rows.append(row(f"vf-{what}", vf, ratio=statistics.median(b / a for a, b in pairs)))
    rows.append(row("switch", [cost_ns("switch", seconds) for _ in range(runs)]))
    return rows


def resident_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else 0.0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def microseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def send_to_next(nic: Emulated82599, ports: list[Port]) -> Row:
    """Each VF sends FRAMES to the next one. The lowest time of each part, over ROUNDS rounds."""
    for port, following in zip(ports, ports[1:] + ports[:1]):
        fill(port, destination_mac=following.mac)

    def send() -> None:
        for port in ports:
            port.tx_rings[0].advance(FRAMES)
            port.txsync()

    def take() -> None:
        for port in ports:
            port.txsync()
            port.rxsync()
            port.rx_rings[0].advance(FRAMES)
            port.rxsync()

    rounds = [
        (microseconds(nic.step), microseconds(send), microseconds(lambda: nic.step(FRAMES)), microseconds(take))
        for _ in range(ROUNDS)
    ]
    idle, sent, moved, taken = (min(times) for times in zip(*rounds))
    return {
        "idle_step_us": idle,
        "frame_ns": moved * 1e3 / (len(ports) * FRAMES),
        "txsync_us": sent / len(ports),
        "take_us": taken / len(ports),
    }


def many(count: int) -> Row:
    """Open `count` VFs one after the other, and let each send to the next one. The NIC is stepped by hand."""
    opened: list[float] = []
    with ExitStack() as stack:
        before = resident_mb(), descriptors(), threading.active_count()
        nic = stack.enter_context(Emulated82599("sink", vfs=count, manual=True))
        stack.enter_context(PfAgent(nic))
        ports = []
        for number in range(count):
            start = time.perf_counter()
            ports.append(stack.enter_context(open_port(nic.vf(number), link_timeout=0)))
            opened.append((time.perf_counter() - start) * 1e3)
        nic.step(0)
        costs = send_to_next(nic, ports)
        after = resident_mb(), descriptors(), threading.active_count()
        start = time.perf_counter()
    quarter = max(1, count // 4)
    return {
        "vfs": count,
        "open_ms_first_quarter": statistics.median(opened[:quarter]),
        "open_ms_last_quarter": statistics.median(opened[-quarter:]),
        "close_ms": (time.perf_counter() - start) * 1e3 / count,
        "mb_each": (after[0] - before[0]) / count,
        "descriptors_each": (after[1] - before[1]) / count,
        "threads": after[2] - before[2],
        **costs,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure virtual functions of the emulated NIC.")
    parser.add_argument("--runs", type=int, default=9, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="duration of a run (default: %(default)s)")
    parser.add_argument("--many", type=int, metavar="COUNT", help="open so many VFs instead")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args()
    if options.runs < 1 or options.seconds <= 0:
        parser.error("--runs and --seconds must be more than 0")
    if options.many is not None and not 1 <= options.many <= MOST_VFS:
        parser.error(f"--many must be 1 to {MOST_VFS}")
    return options


def print_rows(rows: list[Row]) -> None:
    for each in rows:
        ratio = f"   VF/PF {each['ratio']:.2f}" if "ratio" in each else ""
        print(f"{each['what']:8} {each['ns']:6.1f} ns a packet, lowest {each['lowest']:6.1f}{ratio}")


def main() -> int:
    options = arguments()
    try:
        found = [many(options.many)] if options.many else compare(options.runs, options.seconds)
    except BenchError as error:
        print(f"virtual.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps({"machine": cpu_model(), "rows": found}))
        return 0
    print(cpu_model())
    if options.many:
        print("\n".join(f"{name:22} {value:10.2f}" for name, value in found[0].items()))
    else:
        print_rows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
