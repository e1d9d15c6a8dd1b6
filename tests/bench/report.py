"""Writes what this machine measures as one Markdown file, to compare machines or to send to the project.

    python tests/bench/report.py                          report.md, all benchmarks (5 minutes)
    python tests/bench/report.py --quick -o quick.md      fewer and shorter runs (under a minute)
    python tests/bench/report.py -i 0000:01:00.0          also this port: its cable leads back to it
    python tests/bench/report.py -i 0000:01:00.0 -i 0000:01:00.1
                                                          also these two, with a cable between them

Close other programs first. The report has the machine's load before and after, and marks loud runs (quiet.py). It has
no name, address or serial number of the machine. SILICON.md says what else to run on a real 82599.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TIMEOUT_S = 600.0
LINE_RATE = "../../examples/line_rate.py"


@dataclass(frozen=True)
class Part:
    """A program of this folder, with its arguments for a whole and for a quick report. table: it prints Markdown."""

    title: str
    program: str
    whole: str
    quick: str
    table: bool = False


PARTS = (
    Part("What the machine allows", "machine.py", "--allowed", "--allowed", table=True),
    Part("The main job", LINE_RATE, "-t 5", "-t 1"),
    Part("The hot loop, cycles a packet", "hotloop.py", "", "--batch 32 --regions 500"),
    Part("A Python loop, flat out", "throughput.py", "--pace flat", "--pace flat --runs 3 --seconds 0.1 --batch 256"),
    Part("A Python loop, paced", "throughput.py", "--pace paced", "--pace paced --runs 2 --seconds 0.1 --batch 256"),
    Part("10 Gbit/s held", "throughput.py", "--hold 10", "", table=True),
    Part("Round trips", "throughput.py", "--latency", "--latency 2000", table=True),
    Part("Opening a port", "throughput.py", "--open", "--open --runs 2", table=True),
    Part("How cost grows", "throughput.py", "--grow --runs 3", "--grow --runs 1 --seconds 0.02", table=True),
    Part("The examples, as programs", "throughput.py", "--examples --runs 3", "", table=True),
    Part("The cost of each call", "calls.py", "", ""),
    Part("The engine alone", "engine.py", "", "--steps 100"),
    Part("The engine's phases", "engine.py", "--phases", "--phases --steps 100"),
    Part("More than one core", "scaling.py", "", "--runs 1 --seconds 0.3 --most 2"),
)
ONLY_WHOLE = ("10 Gbit/s held", "The examples, as programs")


def parts(quick: bool, nics: list[str]) -> Iterator[Part]:
    for part in PARTS:
        if not (quick and part.title in ONLY_WHOLE):
            yield part
    if nics:
        ports = " ".join(f"-i {shlex.quote(nic)}" for nic in nics)
        yield Part("These ports", "throughput.py", ports, f"{ports} --runs 2 --seconds 0.1")
        yield Part("Round trips of these ports", "throughput.py", f"{ports} --latency", f"{ports} --latency 2000", True)
    if len(nics) == 1:
        yield Part("The main job on this port", LINE_RATE, f"{ports} -t 5", f"{ports} -t 1")


def text_of(part: Part, quick: bool) -> str:
    """What the program prints, as Markdown; its error if it fails."""
    arguments = shlex.split(part.quick if quick else part.whole)
    path = os.pathsep.join(filter(None, (str(ROOT / ".package"), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, str((HERE / part.program).resolve()), *arguments]
    heading = f"## {part.title}\n\n`{shlex.join(['python', os.path.relpath(command[1], ROOT), *arguments])}`\n"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env={**os.environ, "PYTHONPATH": path}
        )
    except subprocess.TimeoutExpired:
        return f"{heading}\nIt took more than {TIMEOUT_S:g} s.\n"
    text = done.stdout.strip()
    body = text if part.table else f"```\n{text}\n```"
    failed = f"\n\nIt ended with status {done.returncode}: {done.stderr.strip()}" if done.returncode else ""
    return f"{heading}\n{body}{failed}\n"


def facts(title: str) -> str:
    rows = "\n".join(f"| {name} | {value.replace('|', '/')} |" for name, value in machine.facts().items())
    return f"## {title}\n\n| | |\n|---|---|\n{rows}\n"


def commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown (no git here)"


def write(file: Path, quick: bool, nics: list[str]) -> bool:
    """Write the parts as they come, so that an interrupted report keeps what it has. Returns whether all succeeded."""
    start, good = time.monotonic(), True
    with file.open("w", encoding="utf-8") as out:
        kind = "quick report" if quick else "report"
        print(f"# ixrings: {kind} of {time.strftime('%Y-%m-%d')}, commit {commit()}\n", file=out)
        print(facts("The machine"), file=out, flush=True)
        for part in parts(quick, nics):
            print(f"{time.monotonic() - start:4.0f} s  {part.title}", file=sys.stderr, flush=True)
            text = text_of(part, quick)
            good = good and "\nIt ended with status" not in text and "\nIt took more than" not in text
            print(text, file=out, flush=True)
        print(f"Load at the end: {machine.load()}. It took {time.monotonic() - start:.0f} s.", file=out)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="Write all benchmarks of this machine as one Markdown file.")
    parser.add_argument("-o", dest="file", type=Path, default=Path("report.md"), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, under a minute")
    parser.add_argument(
        "-i", dest="nics", action="append", default=[], metavar="NIC", help="also this port (twice: two)"
    )
    options = parser.parse_args()
    if len(options.nics) > 2:
        parser.error("-i names one port, or two")
    try:
        good = write(options.file, options.quick, options.nics)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        parser.error(f"-o: {error}")
    print(f"{options.file} is written." if good else f"{options.file} is written; a part failed and says why.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
