"""Measures the emulated NIC's engine alone, for a 64-byte frame: CPU time, or instructions, which vary less.

    python tests/bench/engine.py                   nanoseconds a frame, min and median over steps of 512 frames
    python tests/bench/engine.py --instructions    instructions a frame, counted by valgrind (apt install valgrind)
    python tests/bench/engine.py --phases          nanoseconds a frame of each phase of a step (phases.py)

tx: frames to a sink. rx: UDP frames from a source, checked and hashed. rx8: the same, into eight queues. loop: frames
sent, looped back and received. vf-: the same with a port on a virtual function. idle-: with a port on the PF, while two
virtual functions are there without a port. switch: from one virtual function to another.

The program's thread steps the NIC, so descriptors do not cross cores. The driver works between the steps and is not
counted. Phases are minima over steps. The counter between two phases waits until the first one has ended, while the
shipped engine overlaps phases and frames. So the phases' sum exceeds a frame's time: it shows what waits.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from building import BenchError
from machine import cpu_model
from phases import Marks, Phase, build
from scenes import WAYS, scene

from ixrings.hw.emulator import Emulated82599

STEP = 512  # frames, half a ring
STEP_FUNCTIONS = ("transmit_step", "receive_step")
COUNTED_STEPS = 40  # enough, because counts do not vary


def step_costs_ns(what: str, steps: int) -> list[float]:
    """Nanoseconds a frame, for each step."""
    costs = []

    def timed(nic: Emulated82599) -> int:
        start = time.thread_time_ns()
        moved = nic.step(STEP)
        costs.append((time.thread_time_ns() - start) / STEP)
        return moved

    steps_of(what, steps, timed)
    return costs


def phase_costs(what: str, steps: int, marks: Marks) -> list[Phase]:
    """Each phase as it was in the step where it was quickest."""
    found: list[list[Phase]] = []

    def timed(nic: Emulated82599) -> int:
        marks.clear()
        moved = nic.step(STEP)
        found.append(marks.read(STEP))
        return moved

    steps_of(what, steps, timed)
    quickest = [min(same, key=lambda phase: phase.ns) for same in zip(*found)]
    return [phase for phase in quickest if phase.marks]


def steps_of(what: str, steps: int, step: Callable[[Emulated82599], int]) -> None:
    """Call `step`, which steps the NIC and returns the frames moved, when STEP frames are ready to move."""
    with scene(WAYS[what], manual=True) as found:
        sender, receiver = found.sender, found.receiver
        for _ in range(steps):
            if WAYS[what].wire != "source":
                sender.tx_rings[0].advance(STEP)
                sender.txsync()
            moved = step(found.nic)
            if moved < STEP:
                raise BenchError(f"{what}: a step moved {moved} frames instead of {STEP}")
            sender.txsync()
            receiver.rxsync()
            received = sum(ring.space for ring in receiver.rx_rings)
            if received != (0 if WAYS[what].only_sends else STEP):
                raise BenchError(f"{what}: {received} frames came of {STEP}")
            for ring in receiver.rx_rings:
                ring.advance(ring.space)
            receiver.rxsync()


def instructions(what: str) -> float:
    """Instructions a frame, over all steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "callgrind"
        command = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={file}",
            sys.executable,
            __file__,
            "--what",
            what,
            "--steps",
            str(COUNTED_STEPS),
            "--inside-callgrind",
        ]
        subprocess.run(command, check=True, capture_output=True)
        return inclusive(file.read_text(encoding="utf-8"), STEP_FUNCTIONS) / (COUNTED_STEPS * STEP)


def be_counted(what: str, steps: int) -> None:
    """Run the steps inside callgrind, which counts from the first one on: what comes before takes ten times as long
    when it is counted."""
    counting = False

    def counted(nic: Emulated82599) -> int:
        nonlocal counting
        if not counting:
            switch = subprocess.Popen(["callgrind_control", "-i", "on", str(os.getpid())], stdout=subprocess.DEVNULL)
            while switch.poll() is None:  # callgrind answers while this process runs, and not while it waits
                pass
            counting = True
        return nic.step(STEP)

    steps_of(what, steps, counted)


def inclusive(profile: str, functions: tuple[str, ...]) -> int:
    """Instructions in calls of these functions: callgrind writes them in the line after `calls=`. It writes a
    function's name once, and after that only its number."""
    names: dict[str, str] = {}
    total, callee, is_call = 0, "", False
    for line in profile.splitlines():
        named = re.match(r"c?fn=\((\d+)\)(?: (.*))?", line)
        if named:
            names.setdefault(named[1], named[2])
            callee = names[named[1]]
        elif is_call and callee in functions:
            total += int(line.split()[-1])
        is_call = line.startswith("calls=")
    return total


def print_phases(ways: list[str], steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        marks = Marks(build(Path(folder)))
        print(f"one mark costs {marks.cost_ns:.1f} ns, which is taken off")
        for what in ways:
            phases = phase_costs(what, steps, marks)
            print(f"{what}: {sum(phase.ns for phase in phases):.1f} ns a frame")
            for phase in phases:
                print(f"    {phase.name:28} {phase.ns:5.1f}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the cost of the emulated NIC's engine for a 64-byte frame.")
    parser.add_argument("--what", choices=WAYS, action="append", help="measure only this (may be repeated)")
    parser.add_argument(
        "--steps", type=int, default=400, help=f"number of steps of {STEP} frames (default: %(default)s)"
    )
    parser.add_argument("--instructions", action="store_true", help="count instructions instead of time")
    parser.add_argument("--inside-callgrind", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--phases", action="store_true", help="divide the time into the phases of a step")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error("--steps must be at least 1")
    if options.instructions and not shutil.which("valgrind"):
        parser.error("valgrind is not installed. Run: apt install valgrind")
    return options


def print_costs(options: argparse.Namespace) -> None:
    if options.inside_callgrind:
        be_counted(options.what[0], options.steps)
        return
    print(cpu_model())
    if options.phases:
        print_phases(options.what or list(WAYS), options.steps)
        return
    for what in options.what or WAYS:
        if options.instructions:
            print(f"{what:9} {instructions(what):6.0f} instructions a frame", flush=True)
        else:
            costs = step_costs_ns(what, options.steps)
            print(f"{what:9} {min(costs):6.1f} ns min {statistics.median(costs):6.1f} median", flush=True)


def main() -> int:
    try:
        print_costs(arguments())
    except BenchError as error:
        print(f"engine.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
