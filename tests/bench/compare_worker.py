"""Measures one build for compare.py, which starts it:  compare_worker.py FOLDER, a build's or a checkout's tests/bench.

A request is a line on stdin, the name of a measurement and the seconds of a run; the answer is a number on stdout: Mpps
of a way of loops.py, or cycles a packet of an operation of hotloop.py. ixrings comes from PYTHONPATH.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

BATCH, HOTLOOP_BATCH = 256, 32
HOTLOOP_REGIONS = 300
SLOTS, BUF_SIZE, GROUP = 1024, 2112, 8


def mpps(way: str, seconds: float) -> float:
    from loops import RUNS

    return RUNS[way](BATCH, False, seconds).mpps


class HotLoop:
    """Cycles a packet. The harness is compiled at the first request."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program: Path | None = None

    def cycles(self, op: str, nic: str) -> float:
        from hotloop import Setup, build, measure
        from machine import choose_cpus

        if self._program is None:
            self._program = build(self._folder)
        set_up = Setup(HOTLOOP_REGIONS, SLOTS, BUF_SIZE, False, GROUP, False, 1, choose_cpus())
        return measure(self._program, set_up, op, HOTLOOP_BATCH, nic)[0].median


def main() -> None:
    sys.path[0] = sys.argv[1]  # instead of this file's folder
    with tempfile.TemporaryDirectory(prefix="ixrings-compare-") as folder:
        hot_loop = HotLoop(Path(folder))
        for line in sys.stdin:
            what, seconds = line.rstrip("\n").split("\t")
            op, _, nic = what.partition(", NIC on ")
            value = hot_loop.cycles(op, nic.split()[0]) if nic else mpps(what, float(seconds))
            print(value, flush=True)


if __name__ == "__main__":
    main()
