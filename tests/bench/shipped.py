"""Measures the examples as programs: frames and seconds, from their --json output."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from building import BenchError

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY = Path("/dev/shm")
START_S = 1.0  # for the start of Python and numpy; a program counts its seconds from the time its ports are open
LATEST_S = 30.0  # a program that has not started by then fails
PER_SECOND = {"pktgen tx": 30_000_000, "pktgen rx": 25_000_000, "capture, 64 bytes of a frame": 5_000_000}


@dataclass(frozen=True)
class Shipped:
    """min, median, max: Mpps over runs. frames: of the first run."""

    program: str
    frames: int
    min: float
    median: float
    max: float


def run(arguments: list[str], interrupt_after_s: float | None) -> tuple[int, float]:
    """Frames and seconds from the program's summary."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / ".package"), os.environ.get("PYTHONPATH")))),
    }
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, also in `program`
    with subprocess.Popen(
        [sys.executable, *arguments, "--json"], stdout=subprocess.PIPE, env=environment, text=True
    ) as program:
        if interrupt_after_s is not None:
            time.sleep(interrupt_after_s)
            program.send_signal(signal.SIGINT)
        output = program.communicate()[0]
    if program.returncode in (130, -signal.SIGINT) and interrupt_after_s is not None and interrupt_after_s < LATEST_S:
        return run(arguments, 4 * interrupt_after_s)  # on a busy machine it was still starting
    if program.returncode:
        raise BenchError(f"{arguments[0]} ended with status {program.returncode}")
    summary = json.loads(output)
    frames = next(int(summary[name]) for name in ("sent", "received", "forwarded") if name in summary)
    return frames, float(summary["seconds"])


def measure(runs: int, seconds: float) -> list[Shipped]:
    pktgen, bridge, capture = (str(ROOT / "examples" / f"{name}.py") for name in ("pktgen", "bridge", "capture"))
    count = {program: str(int(rate * seconds)) for program, rate in PER_SECOND.items()}
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        file = str(Path(folder) / "captured.pcap")
        programs: dict[str, tuple[list[str], float | None]] = {
            "pktgen tx": ([pktgen, "-i", "emulated:sink", "-f", "tx", "-n", count["pktgen tx"]], None),
            "pktgen rx": ([pktgen, "-i", "emulated:source", "-f", "rx", "-n", count["pktgen rx"]], None),
            "bridge": ([bridge, "-i", "emulated:source", "-i", "emulated:sink"], START_S + seconds),
            "capture, 64 bytes of a frame": (
                [capture, "-i", "emulated:source", "-w", file, "-s", "64", "-c", count["capture, 64 bytes of a frame"]],
                None,
            ),
        }
        rows = []
        for program, (arguments, interrupt_after_s) in programs.items():
            done = [run(arguments, interrupt_after_s) for _ in range(runs)]
            rates = [frames / spent / 1e6 for frames, spent in done]
            rows.append(
                Shipped(
                    program,
                    done[0][0],
                    *(round(rate, 2) for rate in (min(rates), statistics.median(rates), max(rates))),
                )
            )
    return rows
