"""What the processors did while a program ran: the program, an emulated NIC's engine, other processes, a hypervisor.

Source: proc(5), /proc/stat and /proc/PID/stat. Processors that this process may not use are not counted.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

ENGINE = "82599"  # the name of the thread that moves the frames of emulated NICs
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
NOTICED = 10  # percent of a core; less than that changes no rate
SPARE = 50  # percent of a core; with more idle time than that, other processes were in nobody's way
FULL = 90  # percent of a core, of a thread that never waits
LONGER_BATCH = 2048
STOPPED = 1  # percent of the time


@dataclass(frozen=True)
class Load:
    """Percent of one core in `seconds`. others: other processes and the kernel's interrupts. stolen: a hypervisor ran
    something else. cores: processors that this process may use. busiest: the other process that used most, if any."""

    seconds: float
    program: float
    engine: float
    others: float
    stolen: float
    cores: int
    busiest: str

    @property
    def idle(self) -> float:
        return max(0.0, 100 * self.cores - self.program - self.engine - self.others - self.stolen)

    def __str__(self) -> str:
        return (
            f"program {self.program:.0f} %, engine {self.engine:.0f} %, other processes {self.others:.0f} %, "
            f"stolen by a hypervisor {self.stolen:.0f} % of a core"
        )


class Watch:
    """Counts from its creation on. read() may be called again and again; it looks at each process once."""

    def __init__(self) -> None:
        self._cpus = sorted(os.sched_getaffinity(0))
        self._processes = processes()
        self._machine, self._threads, self._start = machine(self._cpus), threads(), time.monotonic()

    def read(self) -> Load:
        seconds = max(time.monotonic() - self._start, TICK_S)
        busy, stolen = (now - before for now, before in zip(machine(self._cpus), self._machine))
        program, engine = (now - before for now, before in zip(threads(), self._threads))
        share = 100 / seconds
        return Load(
            seconds,
            max(0.0, program * share),
            max(0.0, engine * share),
            max(0.0, (busy - program - engine) * share),
            stolen * share,
            len(self._cpus),
            self._busiest(share),
        )

    def _busiest(self, share: float) -> str:
        used = {
            key: (spent - self._processes.get(key, (0.0, ""))[0], name) for key, (spent, name) in processes().items()
        }
        if not used:
            return ""
        (pid, _), (spent, name) = max(used.items(), key=lambda item: item[1][0])
        return f"{name}, process {pid}, {spent * share:.0f} %" if spent * share >= NOTICED else ""


def machine(cpus: list[int]) -> tuple[float, float]:
    """Seconds in which these processors were busy, and in which they were stolen, since the system started."""
    wanted = {f"cpu{cpu}" for cpu in cpus}
    busy = stolen = 0
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return busy * TICK_S, stolen * TICK_S


def threads() -> tuple[float, float]:
    """Seconds that this process used: the engine's thread, and all others. The latter come first."""
    engine = 0.0
    for task in Path("/proc/self/task").iterdir():
        name, spent, _ = times(task / "stat")
        if name == ENGINE:
            engine += spent
    return time.process_time() - engine, engine


def processes() -> dict[tuple[int, int], tuple[float, str]]:
    """Seconds used and the name of every other process, by its id and start time."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            name, spent, started = times(Path("/proc", entry, "stat"))
            found[int(entry), started] = (spent, name)
    return found


def times(file: Path) -> tuple[str, float, int]:
    """Name, seconds used, and start of a process or thread; zeros if it has ended."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", 0.0, 0
    head, _, tail = text.rpartition(")")  # a name may contain spaces and parentheses
    fields = tail.split()
    return head.partition("(")[2], (int(fields[11]) + int(fields[12])) * TICK_S, int(fields[19])


def explain(load: Load, batch: int, short: float = 0.0, stopped: float = 0.0) -> str:
    """What was busy, and what to try: one line for a program that was too slow with batches of `batch` frames.

    short: percent of the rate that are missing. stopped: percent of the time in which the program did not run, although
    it never sleeps for so long.
    """
    advice = []
    if load.cores < 2:
        advice.append("give it two processors (it may use one; see taskset -p $$)")
    if load.others >= NOTICED and load.idle < SPARE:
        advice.append("close other programs" + f" (most: {load.busiest})" * bool(load.busiest))
    if load.stolen >= NOTICED:
        advice.append("use a machine whose hypervisor has less to do")
    if not advice and stopped >= max(STOPPED, short / 2):
        advice.append("nice -n -20; if that changes nothing, a hypervisor stops it")
    if not advice and load.program >= FULL and batch < LONGER_BATCH:
        advice.append(f"-b {LONGER_BATCH}, the program is the slower side")
    if not advice:
        slower = "the program" if load.program >= FULL else "the NIC"
        advice.append(f"again later or a faster machine: {slower} is at the limit, see tests/bench/machine.py")
    pauses = f"; the program was stopped for {stopped:.1f} % of the time" * (stopped >= STOPPED)
    return f"In that time: {load}{pauses}. Try: {'; '.join(advice)}."
