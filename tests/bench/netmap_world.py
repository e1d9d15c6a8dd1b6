"""A daemon as a process and netmap programs on its ports, whose frames are counted while they run."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from building import compile_c
from machine import choose_cpus

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))
sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))

from processors import ENGINE, TICK_S

from tests.support.netmap_client import RunningDaemon, daemon
from tests.support.netmap_programs import HEADER, SOURCES, Program, environment
from tests.support.programs import wait_for

BENCH = Path(__file__).resolve().parent
CLIENT = BENCH / "netmap_client.c"


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time: the daemon's threads, and the engine of its emulated NICs."""

    daemon: float
    engine: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.daemon - other.daemon, self.engine - other.engine)


class Others:
    """What processes besides this one and its children take of the processors, from now on."""

    def __init__(self) -> None:
        self._start, self._busy, self._own = time.monotonic(), busy_s(), own_s()

    def percent(self) -> float:
        """Of a core."""
        others = busy_s() - self._busy - (own_s() - self._own)
        return max(0.0, 100 * others / max(time.monotonic() - self._start, TICK_S))


def busy_s() -> float:
    """Seconds in which the processors were busy or stolen, proc(5), /proc/stat."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * TICK_S


def own_s() -> float:
    """Processor time of this process and its children, also of those that have ended."""
    times = os.times()
    found = times.user + times.system + times.children_user + times.children_system
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = each.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found += (int(fields[11]) + int(fields[12])) * TICK_S
    return found


class Running:
    """A netmap program that counts its frames."""

    def __init__(self, program: Program, counter: mmap.mmap) -> None:
        self._program, self._counter = program, counter

    @property
    def pid(self) -> int:
        return self._program.process.pid

    @property
    def frames(self) -> int:
        """So far."""
        return int(struct.unpack_from("<Q", self._counter)[0])

    def end(self) -> None:
        """Ctrl-C. Raises AssertionError with its error output if it does not end in order."""
        self._program.interrupt()


class World:
    """The daemon, and the program that its clients run. folder: for its files."""

    def __init__(self, running: RunningDaemon, program: Path, folder: Path) -> None:
        self.daemon = running
        self.program, self._folder = program, folder

    @property
    def pid(self) -> int:
        """Of the daemon."""
        return self.daemon.process.pid

    @contextmanager
    def client(self, what: str, *names: str, options: Sequence[object] = ()) -> Iterator[Running]:
        """netmap_client.c on these ports, as soon as they are open. It ends with the context."""
        fd, path = tempfile.mkstemp(dir=self._folder)
        os.ftruncate(fd, mmap.PAGESIZE)
        with mmap.mmap(fd, mmap.PAGESIZE) as counter:
            os.close(fd)
            process = subprocess.Popen(
                [str(self.program), "-c", path, *map(str, options), what, *names],
                env=environment(self.daemon.path),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                program = Program(process)
                program.wait_until_open()
                running = Running(program, counter)
                yield running
                running.end()
            finally:
                if process.poll() is None:
                    process.kill()
                process.communicate()

    def on_two_cpus(self, client: Running) -> None:
        """Bind the client and the daemon to a CPU each, if there are two. The scheduler would sometimes let them share
        one."""
        cpus = choose_cpus()
        if cpus.nic is not None and len(os.sched_getaffinity(0)) == 2:
            os.sched_setaffinity(client.pid, {cpus.program})
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {cpus.nic})

    def memory_kb(self) -> int:
        """Of the daemon that is its own: VmRSS without shared memory, proc(5)."""
        found = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(found["RssAnon"].split()[0])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cost(self) -> Cost:
        """Processor time of the daemon so far."""
        times = {True: 0.0, False: 0.0}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            spent = int((task / "schedstat").read_text().split()[0]) / 1e9
            times[(task / "comm").read_text().strip() == ENGINE] += spent
        return Cost(times[False], times[True])

    def wait_for_frames(self, client: Running, frames: int = 1000) -> None:
        wait_for(lambda: client.frames >= frames, f"{frames} frames have not come", 20)


def rate(client: Running, seconds: float) -> float:
    """Frames a second now. Raises AssertionError if none comes."""
    frames, start = client.frames, time.perf_counter()
    time.sleep(seconds)
    wait_for(lambda: client.frames > frames, "no frame has come", 20)
    return (client.frames - frames) / (time.perf_counter() - start)


@contextmanager
def world(*arguments: str, memory: int = 64, host: bool = False, inside: Sequence[str] = ()) -> Iterator[World]:
    """A daemon with these arguments, within the context."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compile_c(
            folder / "netmap_client",
            [CLIENT, SOURCES / "program.c"],
            "-std=gnu11",
            f"-I{SOURCES}",
            f"-I{HEADER}",
        )
        with daemon(folder, *arguments, memory=memory, host=host, inside=inside) as running:
            yield World(running, program, folder)
