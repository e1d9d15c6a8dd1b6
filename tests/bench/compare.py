"""Compares the speed of this checkout with an older commit: both are built, and short runs alternate on one machine.

    python tests/bench/compare.py                     with the last release tag; exit status 1 if something is slower
    python tests/bench/compare.py v0.2.0 --json       with any commit, tag or branch
    python tests/bench/compare.py HEAD --runs 20      with HEAD: what a change that is not committed yet costs

A ratio is the median of this checkout's runs divided by the older one's: Mpps of a Python loop (throughput.py, batches
of 256, flat out), or the older one's cycles of the hot loop divided by this one's (hotloop.py, batches of 32). A ratio
below --threshold is measured again; the exit status is 1 if it stays below. Instruction counts do not see where code
and data lie in the caches; these ratios do. Both builds run this checkout's loops. Where the older build lacks
something that they call, it runs its own, and the row says so.
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
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from building import BenchError
from machine import choose_cpus

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))

from processors import NOTICED, TICK_S, machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORKER = HERE / "compare_worker.py"
WAYS = ("tx", "rx", "loop", "bridge", "bridge_touched")
OPS = tuple(f"{op}, NIC on {nic} core" for nic in ("same", "other") for op in ("tx", "rx", "forward"))
BUILD_TIMEOUT_S = 300.0
ROUNDS = 2


@dataclass(frozen=True)
class Ratio:
    """present, older: medians, in Mpps or cycles a packet. ratio: above 1 if the present build is faster. rounds: how
    often it was measured. own: the older build ran its own benchmark. others: percent of a core for other processes."""

    what: str
    unit: str
    present: float
    older: float
    ratio: float
    rounds: int
    own: bool
    others: float


@dataclass(frozen=True)
class Build:
    """sources: a tree with tests/bench and rings/. package: a folder to import ixrings from."""

    sources: Path
    package: Path


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def last_release() -> str:
    tags = git("tag", "--merged", "HEAD", "--sort=-version:refname", "v*").split()
    if not tags:
        raise BenchError("this checkout has no release tag. Give a commit: compare.py HEAD~10")
    return tags[0]


def commit_of(name: str) -> str:
    try:
        return git("rev-parse", "--verify", f"{name}^{{commit}}")
    except BenchError as error:
        raise BenchError(f"{name!r} is not a commit here; git tag and git log show some ({error})") from None


def export(commit: str, folder: Path) -> None:
    """The files of a commit, or, for "", of the checkout with its changes that are not committed."""
    folder.mkdir(parents=True)
    if commit:
        pipe = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
    else:
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        there = "\n".join(name for name in names if name and (ROOT / name).exists())
        pipe = ["tar", "-C", str(ROOT), "-cf", "-", "--verbatim-files-from", "-T", "-"]
    with subprocess.Popen(pipe, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as source:
        assert source.stdin and source.stdout
        if not commit:
            source.stdin.write(there.encode())
        source.stdin.close()
        done = subprocess.run(["tar", "-C", str(folder), "-xf", "-"], stdin=source.stdout)
    if source.returncode or done.returncode:
        raise BenchError(f"the files of {commit or 'the checkout'} were not copied")


def build(commit: str, folder: Path) -> Build:
    """Build a wheel and unpack it: numpy comes from the environment of this process."""
    made = Build(folder / "sources", folder / "package")
    if made.package.exists():
        return made
    export(commit, made.sources)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(made.sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    if done.returncode:
        raise BenchError(f"{commit or 'the checkout'} did not build:\n{done.stdout}{done.stderr}")
    with zipfile.ZipFile(next(folder.glob("ixrings-*.whl"))) as wheel:
        wheel.extractall(made.package)
    return made


class Worker:
    """A process that imports one build and measures on request (compare_worker.py)."""

    def __init__(self, package: Path, bench: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(package)}
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(bench)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def measure(self, what: str, seconds: float) -> float:
        """Mpps, or cycles a packet. Raises BenchError with the worker's last words."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        try:
            print(what, seconds, sep="\t", file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            last = (self._process.stderr.read().strip().splitlines() or ["it ended"])[-1]
            raise BenchError(f"{what}: {last}")
        return float(answer)

    def used_s(self) -> float:
        """CPU seconds of the worker and of the programs that it has run (proc(5), utime to cstime)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) * TICK_S

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Side:
    """One build and its workers. Where this checkout's benchmark does not run on it, its own one is used."""

    def __init__(self, made: Build, bench: Path) -> None:
        self._made = made
        self._benches = list(dict.fromkeys((bench, made.sources / "tests/bench")))
        self._workers: dict[Path, Worker] = {}
        self._chosen: dict[str, Path] = {}

    def measure(self, what: str, seconds: float) -> float:
        # the hot loop's harness is written for the C sources beside it
        benches = self._benches[-1:] if what in OPS else self._benches
        for bench in [self._chosen[what]] if what in self._chosen else benches:
            try:
                worker = self._workers.get(bench) or Worker(self._made.package, bench)
                self._workers[bench] = worker
                value = worker.measure(what, seconds)
                self._chosen[what] = bench
                return value
            except BenchError as error:
                self._workers.pop(bench).close()
                failed = error
        raise failed

    def used_s(self) -> float:
        return sum(worker.used_s() for worker in self._workers.values())

    def own(self, what: str) -> bool:
        return self._chosen.get(what) != self._benches[0]

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


def compare(what: str, sides: tuple[Side, Side], runs: int, seconds: float) -> Ratio:
    """sides: the present build and the older one. They take turns in starting."""
    found: tuple[list[float], list[float]] = ([], [])
    for side in (0, 1):  # not counted: imports, compilers, the first touch of memory
        sides[side].measure(what, seconds)
    cpus = sorted(os.sched_getaffinity(0))
    start, busy = time.monotonic(), others_s(cpus, sides)
    for run in range(runs):
        for side in (0, 1) if run % 2 else (1, 0):
            found[side].append(sides[side].measure(what, seconds))
    others = max(0.0, 100 * (others_s(cpus, sides) - busy) / (time.monotonic() - start))
    present, older = map(statistics.median, found)
    if not present or not older:
        raise BenchError(f"{what}: most runs moved no packet. Close other programs, or give a longer --seconds")
    ratio = older / present if what in OPS else present / older
    unit = "cycles" if what in OPS else "Mpps"
    own = sides[1].own(what) and what in WAYS
    return Ratio(what, unit, round(present, 2), round(older, 2), round(ratio, 3), 1, own, round(others, 1))


def others_s(cpus: list[int], sides: tuple[Side, Side]) -> float:
    """Busy seconds of these processors so far, without those of the workers and of this process."""
    return machine(cpus)[0] - sum(side.used_s() for side in sides) - time.process_time()


@contextmanager
def both(older: str, keep: Path | None) -> Iterator[tuple[Side, Side]]:
    with tempfile.TemporaryDirectory(prefix="ixrings-compare-") as temporary:
        folder = (keep or Path(temporary)).resolve()
        commit = commit_of(older)
        present = build("", folder / "present")
        sides = (
            Side(present, present.sources / "tests/bench"),
            Side(build(commit, folder / commit[:12]), present.sources / "tests/bench"),
        )
        try:
            yield sides
        finally:
            for side in sides:
                side.close()


def row(ratio: Ratio) -> str:
    own = "  (with its own benchmark)" * ratio.own
    values = f"{ratio.present:9.2f} {ratio.older:9.2f} {ratio.unit:6}"
    busy = f"  {ratio.others:.0f} % of a core for other processes" * (ratio.others >= NOTICED)
    return f"{ratio.what:28} {values} {ratio.ratio:6.2f}  {ratio.rounds}{own}{busy}"


def measure(sides: tuple[Side, Side], whats: Iterable[str], options: argparse.Namespace) -> Iterator[Ratio]:
    for what in whats:
        ratio = compare(what, sides, options.runs, options.seconds)
        if ratio.ratio < options.threshold:
            again = compare(what, sides, options.runs, options.seconds)
            ratio = replace(max(ratio, again, key=lambda each: each.ratio), rounds=ROUNDS)
        yield ratio


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare this checkout's speed with an older commit's, in one run.")
    parser.add_argument("older", nargs="?", help="a commit, tag or branch (default: the last release tag)")
    parser.add_argument("--json", action="store_true", help="print {older, threshold, ratios: [...], slower: [...]}")
    whats = (*WAYS, *OPS)
    parser.add_argument(
        "--what",
        choices=whats,
        action="append",
        metavar="WHAT",
        help=f"only this one; may be repeated: {', '.join(map(repr, whats))}",
    )
    parser.add_argument("--runs", type=int, default=15, help="runs of each build (default: 15)")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a run (default: 0.05)")
    parser.add_argument("--threshold", type=float, default=0.85, help="the least ratio that passes (default: 0.85)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep both builds there, and use those that are there already"
    )
    parser.add_argument("--build-only", action="store_true", help="with --keep: build, and measure later")
    options = parser.parse_args()
    if options.runs < 1 or not 0 < options.seconds <= 60:
        parser.error("--runs must be at least 1, --seconds more than 0 and at most 60")
    if options.build_only and not options.keep:
        parser.error("--build-only needs --keep FOLDER")
    return options


def report(options: argparse.Namespace, older: str, ratios: Iterable[Ratio]) -> int:
    """Print each ratio as soon as it is known. Returns the exit status."""
    found: list[Ratio] = []
    if not options.json:
        print(f"{'':28} {'present':>9} {older:>9.9} {'':6}  ratio  rounds")
    for ratio in ratios:
        found.append(ratio)
        if not options.json:
            print(row(ratio), flush=True)
    slower = [ratio.what for ratio in found if ratio.ratio < options.threshold]
    if options.json:
        facts: Mapping[str, object] = {"older": older, "threshold": options.threshold, "slower": slower}
        print(json.dumps({**facts, "ratios": [asdict(ratio) for ratio in found]}, indent=1))
    for what in slower:
        print(f"compare.py: {what} is slower than {options.threshold:g} of {older}, in two rounds", file=sys.stderr)
    return 1 if slower else 0


def main() -> int:
    options = arguments()
    try:
        older = options.older or last_release()
        with both(older, options.keep) as sides:
            if options.build_only:
                return 0
            one_core = choose_cpus().nic is None
            whats = [what for what in options.what or (*WAYS, *OPS) if not (one_core and what.endswith("other core"))]
            return report(options, older, measure(sides, whats, options))
    except (BenchError, subprocess.TimeoutExpired) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
