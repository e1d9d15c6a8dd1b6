"""What examples/capture.py costs a frame: CPU time of its own thread, from an emulated NIC, by format and filter.

python tests/bench/capture_cost.py
python tests/bench/capture_cost.py -n 100000 --runs 3 --json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))

from meter import Meter

import capture

CASES = {
    "pcap, to /dev/null": ("-w", "/dev/null"),
    "pcapng, to /dev/null": ("-w", "/dev/null", "-F", "pcapng"),
    "--filter udp, which takes all": ("-w", "/dev/null", "--filter", "udp"),
    "--filter 'udp and not port 53'": ("-w", "/dev/null", "--filter", "udp and not port 53"),
    "pcap, to a file": ("-w", "x.pcap"),
    "ring files, -C 10 -W 3": ("-w", "x.pcap", "-C", "10", "-W", "3"),
    "pcap.gz, to a file": ("-w", "x.pcap.gz"),
}


class Timed(capture.Capture):
    """spent_s: CPU time of the loop, without opening the port."""

    spent_s = 0.0

    def run(self, count: int, busy: bool, meter: Meter) -> None:
        start = time.thread_time()
        super().run(count, busy, meter)
        self.writer.flush()
        Timed.spent_s = time.thread_time() - start


def nanoseconds(options: tuple[str, ...], frames: int, folder: str) -> float:
    """CPU time of one capture, a frame of 60 bytes."""
    options = tuple(option.replace("x.", f"{folder}/x.") for option in options)
    arguments = ["capture.py", "-i", "emulated:source", "-c", str(frames), *options]
    with (
        mock.patch.object(sys, "argv", arguments),
        mock.patch.object(capture, "Capture", Timed),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        capture.main()
    return Timed.spent_s * 1e9 / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", dest="frames", type=int, default=500_000, help="frames a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="the median of so many (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.runs):
            for name, options in CASES.items():
                found[name].append(nanoseconds(options, args.frames, folder))
    medians = {name: statistics.median(values) for name, values in found.items()}
    if args.json:
        print(json.dumps(medians))
        return
    for name, value in medians.items():
        print(f"{name:34} {value:6.0f} ns")


if __name__ == "__main__":
    main()
