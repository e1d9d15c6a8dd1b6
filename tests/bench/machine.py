"""The machine on which a benchmark runs: what it is, the CPUs that a benchmark may use, and what it allows.

    python tests/bench/machine.py           CPU, caches, kernel; NOPs, cache lines between cores, limits (1 s)
    python tests/bench/machine.py --json    {"facts": {...}, "nops": {...}, "lines": {...}, "limits": {...}}

nops: NOPs a counter tick on each CPU, as quiet.py reads them. lines: nanoseconds for a line that the other core has
written (probe.py). limits: nanoseconds a packet that such lines cost on each way through the rings (limits.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import limits
from building import BenchError
from limits import Limit
from probe import Lines, Probe

SYSTEM_CPUS = Path("/sys/devices/system/cpu")
HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


@dataclass(frozen=True)
class Cpus:
    """program: the CPU for the timed thread. nic: a CPU on another core for the NIC's thread, or None."""

    program: int
    nic: int | None
    why_one: str  # the reason if there is no other core

    @property
    def used(self) -> list[int]:
        return [cpu for cpu in (self.program, self.nic) if cpu is not None]


def read(file: Path) -> str:
    """The text of a file of the kernel, or "" if it is not there."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def cpu_model() -> str:
    """The name and, because a cloud's name may be short, family and model."""
    text = read(Path("/proc/cpuinfo"))
    found = [re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE) for name in ("model name", "cpu family", "model")]
    if not found[0]:
        return platform.machine()
    numbers = "/".join(each.group(1) for each in found[1:] if each)
    return found[0].group(1).strip() + f" (family/model {numbers})" * bool(numbers)


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
    text = read(SYSTEM_CPUS / f"cpu{cpu}/topology/thread_siblings_list")
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found or {cpu}


def caches(cpu: int) -> str:
    """Such as "L1 Data 32K, L2 Unified 1024K"."""
    found = [
        f"L{read(index / 'level')} {read(index / 'type')} {read(index / 'size')}"
        for index in sorted((SYSTEM_CPUS / f"cpu{cpu}/cache").glob("index*"))
    ]
    return ", ".join(found) or "unknown"


def mitigations() -> str:
    """What the kernel does against defects of the processor, the unaffected ones left out."""
    found = [
        f"{file.name}: {read(file)}"
        for file in sorted((SYSTEM_CPUS / "vulnerabilities").glob("*"))
        if read(file) not in ("Not affected", "")
    ]
    return "; ".join(found) or "none"


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg()) + " (1, 5, 15 minutes)"


def facts() -> dict[str, str]:
    """What a reader of numbers has to know about the machine."""
    cpus = choose_cpus()
    huge = " of ".join(read(HUGEPAGES / name) or "0" for name in ("free_hugepages", "nr_hugepages"))
    thread = ", ".join(map(str, sorted(siblings_of(cpus.program) - {cpus.program}))) or "none is visible"
    return {
        "CPU": cpu_model(),
        "CPUs": f"{os.cpu_count()}; this process may use {len(os.sched_getaffinity(0))}",
        "program and engine": f"CPU {cpus.program} and CPU {cpus.nic}" if cpus.nic is not None else cpus.why_one,
        "other threads of the program's core": thread,
        "caches": caches(cpus.program),
        "clock": read(SYSTEM_CPUS / f"cpu{cpus.program}/cpufreq/scaling_governor") or "no governor is visible",
        "hypervisor": "yes" if re.search(r"^flags.*\bhypervisor\b", read(Path("/proc/cpuinfo")), re.M) else "no",
        "kernel": f"{platform.system()} {platform.release()}",
        "mitigations": mitigations(),
        "pages": f"{page_size_kb()} KB; hugepages of 2 MB: {huge} free",
        "Python": f"{platform.python_version()}, numpy {version('numpy')}, ixrings {version('ixrings')}",
        "load": load(),
    }


@dataclass(frozen=True)
class Allowed:
    """What the machine allows. nops: NOPs a counter tick by CPU. lines: costs on the core of "program" and "engine".
    lines and limits are empty on a single core, where no line crosses."""

    nops: Mapping[int, float]
    lines: Mapping[str, Lines]
    limits: Mapping[str, Limit]


def measure() -> Allowed:
    cpus, probe = choose_cpus(), Probe()
    nops = {cpu: round(probe.nops(cpu), 2) for cpu in sorted(os.sched_getaffinity(0))}
    if cpus.nic is None:
        return Allowed(nops, {}, {})
    engine, program = probe.lines(cpus.nic, cpus.program), probe.lines(cpus.program, cpus.nic)
    return Allowed(nops, {"program": program, "engine": engine}, limits.limits(engine, program))


def in_markdown(allowed: Allowed) -> str:
    """The measured part, as tables."""
    lines = [
        "NOPs a counter tick: " + ", ".join(f"CPU {cpu} {rate:.2f}" for cpu, rate in allowed.nops.items()),
    ]
    if allowed.lines:
        lines += ["", "| ns a line that the other core has written | program's core | engine's core |", "|---|---|---|"]
        for field in fields(Lines):
            costs = [getattr(allowed.lines[side], field.name) for side in ("program", "engine")]
            lines.append(f"| {field.name.replace('_', ', ')} | {costs[0]:.1f} | {costs[1]:.1f} |")
        lines += ["", "| way | limit, ns a packet | Mpps | lines a packet |", "|---|---|---|---|"]
        for way, limit in allowed.limits.items():
            lines.append(
                f"| {way} | {limit.ns:.1f} | {1e3 / limit.ns:.0f} | {limit.lines:g} to the {limit.side}'s core |"
            )
    return "\n".join(lines)


def as_json(allowed: Allowed) -> dict[str, Any]:
    return {
        "nops": dict(allowed.nops),
        "lines": {side: asdict(lines) for side, lines in allowed.lines.items()},
        "limits": {way: asdict(limit) for way, limit in allowed.limits.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Say what this machine is, and measure what it allows.")
    parser.add_argument("--json", action="store_true", help="one object: facts, nops, lines, limits")
    parser.add_argument("--allowed", action="store_true", help="print only what was measured")
    options = parser.parse_args()
    try:
        allowed = measure()
    except BenchError as error:
        print(f"machine.py: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"facts": facts(), **as_json(allowed)}, indent=1))
        return 0
    if not options.allowed:
        print("".join(f"{name}: {value}\n" for name, value in facts().items()))
    print(in_markdown(allowed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
