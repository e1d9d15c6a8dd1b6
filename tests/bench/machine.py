"""The machine on which a benchmark runs, and the CPUs that it may use."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cpus:
    """program: the CPU for the timed thread. nic: a CPU on another core for the NIC's thread, or None."""

    program: int
    nic: int | None
    why_one: str  # the reason if there is no other core


def cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def page_size_kb() -> int:
    return os.sysconf("SC_PAGE_SIZE") // 1024


def choose_cpus() -> Cpus:
    """Two CPUs of different cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    siblings = siblings_of(allowed[0])
    others = [cpu for cpu in allowed[1:] if cpu not in siblings]
    if others:
        return Cpus(allowed[0], others[0], "")
    if len(allowed) == 1:
        return Cpus(allowed[0], None, f"this process may use CPU {allowed[0]} only (see: taskset -p $$)")
    return Cpus(allowed[0], None, f"CPUs {', '.join(map(str, allowed))} are threads of one core")


def siblings_of(cpu: int) -> set[int]:
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return {cpu}
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
