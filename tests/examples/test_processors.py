"""A program that is too slow says what was busy meanwhile, and what to try."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.programs import EXAMPLES, run_example

sys.path.insert(0, str(EXAMPLES))

from processors import Load, Watch, explain

PATIENCE_S = 30.0
BUSY = "import sys; print(flush=True)\nwhile True: pass"


@contextmanager
def on_one_processor() -> Iterator[None]:
    """This process and those that it starts."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def competitor() -> Iterator[None]:
    """A process that never waits, on the same processor."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_a_process_that_competes_is_seen_and_named() -> None:
    with on_one_processor(), competitor():
        watch, end = Watch(), time.monotonic() + PATIENCE_S
        load = watch.read()
        # The kernel counts in ticks of 10 ms, so a share of a short time says little.
        while (load.seconds < 0.5 or load.others < 20 or load.program < 5) and time.monotonic() < end:
            load = watch.read()
    assert load.cores == 1 and load.others >= 20 and load.program >= 5, load
    assert load.program + load.others + load.stolen < 130, load
    assert re.search(r"close other programs \(most: .+, process \d+, \d+ %\)", explain(load, 512)), load


@pytest.mark.slow
def test_line_rate_that_is_short_says_in_one_line_what_was_busy() -> None:
    for seconds in ("0.2", "3"):  # on a loaded machine the engine may get less than a tick of a short run
        with on_one_processor():  # program and engine share it, so the rate is short on any machine
            done = run_example("line_rate", "-t", seconds)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("In that time:")]
        said = re.search(
            r"program \d+ %, engine (\d+) %, other processes \d+ %, stolen by a hypervisor \d+ % of a core"
            r"(; the program was stopped for \d+\.\d % of the time)?\. Try: give it two processors",
            done.stdout,
        )
        assert len(lines) == 1 and said, done.stdout
        engine = int(said[1])
        if engine:
            break
    assert engine, done.stdout


@pytest.mark.parametrize(
    ("load", "batch", "advice"),
    [
        (Load(5, 80, 80, 35, 0, 2, "cc1, process 7, 30 %"), 1024, "close other programs (most: cc1, process 7, 30 %)."),
        (Load(5, 90, 95, 0, 15, 2, ""), 1024, "use a machine whose hypervisor has less to do."),
        (Load(5, 99, 99, 1, 0, 2, ""), 1024, "-b 2048, the program is the slower side."),
        (Load(5, 99, 99, 1, 0, 2, ""), 2048, "again later or a faster machine: the program is at the limit"),
        (
            Load(5, 60, 99, 300, 0, 16, "ffmpeg, process 7, 300 %"),
            1024,
            "again later or a faster machine: the NIC",
        ),
        (Load(5, 50, 50, 0, 0, 1, ""), 1024, "give it two processors"),
    ],
    ids=lambda value: value.split(" (")[0].rstrip(".") if isinstance(value, str) else "",
)
def test_the_advice_is_about_what_was_seen(load: Load, batch: int, advice: str) -> None:
    line = explain(load, batch)
    assert f"Try: {advice}" in line and "\n" not in line


@pytest.mark.parametrize(("short", "stopped", "advice"), [(3, 2.5, "nice -n -20;"), (50, 2.5, "-b 2048,")])
def test_pauses_are_told_and_blamed_only_for_what_they_cost(short: float, stopped: float, advice: str) -> None:
    line = explain(Load(5, 99, 99, 1, 0, 2, ""), 1024, short, stopped)
    assert "the program was stopped for 2.5 % of the time" in line and f"Try: {advice}" in line
