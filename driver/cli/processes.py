"""How much processor time programs take, by /proc/PID/stat and those of their threads (proc(5))."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
UTIME, STIME, STARTED = 11, 12, 19  # behind the name, which may contain spaces


@dataclass(frozen=True)
class Used:
    """Seconds of processor time so far, and when the task started, in ticks: a number may be given again."""

    name: str
    seconds: float
    started: int


@dataclass(frozen=True)
class Cpu:
    """Percent of one processor over some time. threads: (number, name, percent), the busiest first."""

    pid: int
    percent: float
    threads: tuple[tuple[int, str, float], ...]


def used(stat: Path) -> Used:
    """Of the process or thread with this file. Raises OSError, ValueError."""
    text = stat.read_text(encoding="utf-8", errors="replace")
    begin, end = text.index("("), text.rindex(")")
    fields = text[end + 2 :].split()
    return Used(text[begin + 1 : end], (int(fields[UTIME]) + int(fields[STIME])) / TICKS, int(fields[STARTED]))


def program(pid: int) -> str:
    """`pktgen.py (1234)`: what runs, and not only that it is Python."""
    name = ""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        if name.startswith("python") and len(words) > 1 and words[1] and not words[1].startswith("-"):
            name = words[1].rpartition("/")[2]
    return f"{name or 'process'} ({pid})"


def age_s(pid: int) -> float:
    """Seconds since the process started; infinity if there is none."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - used(Path(f"/proc/{pid}/stat")).started / TICKS
    except (OSError, ValueError):
        return math.inf


def usage_of(pid: int) -> dict[int, Used]:
    """The process (key 0) and its threads, by number; nothing if it has ended."""
    found: dict[int, Used] = {}
    folder = Path(f"/proc/{pid}")
    with suppress(OSError, ValueError):
        found[0] = used(folder / "stat")
        for task in (folder / "task").iterdir():
            with suppress(OSError, ValueError):  # a thread that has ended
                found[int(task.name)] = used(task / "stat")
    return found


def cpu_of(pid: int, before: Mapping[int, Used], now: Mapping[int, Used], seconds: float) -> Cpu | None:
    """Between two usage_of(), `seconds` apart; None if the process has ended, or is another one."""
    if 0 not in now or 0 not in before or before[0].started != now[0].started or seconds <= 0:
        return None

    def percent(number: int) -> float:
        earlier = before.get(number)
        begin = earlier.seconds if earlier is not None and earlier.started == now[number].started else 0.0
        return max(0.0, 100 * (now[number].seconds - begin) / seconds)

    threads = [(number, now[number].name, percent(number)) for number in now if number]
    return Cpu(pid, percent(0), tuple(sorted(threads, key=lambda each: (-each[2], each[0]))))
