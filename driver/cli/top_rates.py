"""Rates of a port between two looks, for `ixrings top`: in numbers, and as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .processes import Cpu, Used, cpu_of, usage_of
from .top_sources import Fill, Look, Source, Traffic

NOTHING = Traffic((0, 0), (0, 0))
ON_THE_WIRE = 20  # bytes of preamble and gap that a frame takes besides its own


@dataclass(frozen=True)
class Rate:
    """One direction: frames and bits (with CRC) a second, percent of the line (with preamble and gap), and totals.

    line: None if the link's speed is not known.
    """

    frames: float
    bits: float
    line: float | None
    total_frames: int
    total_bytes: int


@dataclass(frozen=True)
class Sight:
    """A port as it is shown. drops: for each reason frames a second (None: not known yet), and in all."""

    name: str
    what: str
    look: Look
    rx: Rate | None = None
    tx: Rate | None = None
    drops: Mapping[str, tuple[float | None, int]] | None = None
    fills: tuple[tuple[Fill, int | None], ...] = ()
    cpu: Cpu | None = None
    users: tuple[tuple[Mapping[str, Any], Cpu | None], ...] = ()
    ended: str = ""

    @property
    def dropped(self) -> float:
        """Frames a second, for all reasons."""
        return sum(rate or 0 for rate, _ in (self.drops or {}).values())


@dataclass
class Watched:
    """A port that is looked at again and again."""

    source: Source
    sight: Sight | None = None
    _before: Look | None = None
    _drops: tuple[float, Mapping[str, int]] | None = None  # of the answer before the last one
    _drop_rates: Mapping[str, float] = field(default_factory=dict)
    _most: dict[tuple[bool, int], int] = field(default_factory=dict)
    _usage: dict[int, dict[int, Used]] = field(default_factory=dict)
    _usage_at: float = 0.0

    @property
    def ended(self) -> bool:
        return self.sight is not None and bool(self.sight.ended)

    def look(self) -> None:
        """Raises what Source.look() raises."""
        look = self.source.look()
        self._note(look.fills)
        before = self._before or look
        seconds = look.at_s - before.at_s
        now, old = look.traffic, before.traffic
        cpus = self._cpus(look)
        self.sight = Sight(
            self.source.name,
            self.source.what,
            look,
            rate(old.rx, now.rx, seconds, look.speed_mbps, old.wire_rx, now.wire_rx) if seconds else None,
            rate(old.tx, now.tx, seconds, look.speed_mbps) if seconds else None,
            self._rates_of_drops(look),
            tuple((fill, self._most.get((fill.transmits, fill.queue))) for fill in look.fills),
            cpus.get(self.source.pid or 0),
            tuple((user, cpus.get(user["pid"])) for user in look.users),
        )
        self._before = look
        self._most.clear()

    def end(self, sentence: str) -> None:
        """The port has ended. What was seen last stays."""
        last = self.sight.look if self.sight else Look(time.monotonic(), NOTHING, "nobody")
        self.sight = Sight(self.source.name, self.source.what, last, ended=sentence)

    def glance(self) -> None:
        """Note how full the rings are between two looks."""
        self._note(self.source.fills())

    def _note(self, fills: tuple[Fill, ...]) -> None:
        for fill in fills:
            if fill.filled is not None:
                key = (fill.transmits, fill.queue)
                self._most[key] = max(fill.filled, self._most.get(key, 0))

    def _rates_of_drops(self, look: Look) -> dict[str, tuple[float | None, int]] | None:
        """An answer that has not changed since the last look has the same rates."""
        if look.drops is None:
            return None
        if self._drops is not None and look.drops_at_s > self._drops[0]:
            before_at, before = self._drops
            past = look.drops_at_s - before_at
            self._drop_rates = {name: (count - before.get(name, 0)) / past for name, count in look.drops.items()}
        if self._drops is None or look.drops_at_s > self._drops[0]:
            self._drops = look.drops_at_s, look.drops
        return {name: (self._drop_rates.get(name), count) for name, count in look.drops.items()}

    def _cpus(self, look: Look) -> dict[int, Cpu]:
        now_s = time.monotonic()
        pids = {pid for pid in (self.source.pid, *(user["pid"] for user in look.users)) if pid}
        usage = {pid: usage_of(pid) for pid in pids}
        cpus = {pid: cpu_of(pid, self._usage.get(pid, {}), usage[pid], now_s - self._usage_at) for pid in pids}
        self._usage, self._usage_at = usage, now_s
        return {pid: cpu for pid, cpu in cpus.items() if cpu is not None}


def rate(
    before: tuple[int, int],
    now: tuple[int, int],
    seconds: float,
    speed_mbps: int,
    wire_before: tuple[int, int] | None = None,
    wire_now: tuple[int, int] | None = None,
) -> Rate:
    """wire: what was on the cable, if that may be more than the port took."""
    frames, octets = now[0] - before[0], now[1] - before[1]
    on_wire, wire_octets = frames, octets
    if wire_before and wire_now:
        on_wire, wire_octets = wire_now[0] - wire_before[0], wire_now[1] - wire_before[1]
    wire_bits = 8 * (wire_octets + ON_THE_WIRE * on_wire)
    line = 100 * wire_bits / seconds / (speed_mbps * 1e6) if speed_mbps else None
    return Rate(frames / seconds, 8 * octets / seconds, line, *now)


def facts(sight: Sight) -> dict[str, object]:
    """A port for JSON."""
    look = sight.look
    found: dict[str, object] = {"port": sight.name, "who": sight.what}
    if sight.ended:
        return {**found, "ended": sight.ended}
    return {
        **found,
        "counted_by": look.counted_by,
        "link": look.link or None,
        "speed_mbps": look.speed_mbps or None,
        "mac": look.mac or None,
        "received": direction(sight.rx),
        "sent": direction(sight.tx),
        "drops": None
        if sight.drops is None
        else {name: {"per_s": per_s, "frames": total} for name, (per_s, total) in sight.drops.items()},
        "rings": [
            {
                "side": "tx" if fill.transmits else "rx",
                "queue": fill.queue,
                "slots": fill.slots,
                "filled": fill.filled,
                "most_filled": most,
            }
            for fill, most in sight.fills
        ],
        "cpu": None if sight.cpu is None else cpu_facts(sight.cpu),
        "users": [
            {
                **{name: user.get(name) for name in ("program", "pid", "user", "rings", "syncs", "drops")},
                "cpu_percent": None if cpu is None else round(cpu.percent, 1),
            }
            for user, cpu in sight.users
        ],
        "not_seen": list(look.not_seen),
    }


def direction(rate: Rate | None) -> dict[str, object] | None:
    if rate is None:
        return None
    return {
        "frames_per_s": round(rate.frames, 3),
        "bits_per_s": round(rate.bits, 3),
        "line_percent": None if rate.line is None else round(rate.line, 3),
        "frames": rate.total_frames,
        "bytes": rate.total_bytes,
    }


def cpu_facts(cpu: Cpu) -> dict[str, object]:
    threads = [{"tid": tid, "name": name, "percent": round(percent, 1)} for tid, name, percent in cpu.threads]
    return {
        "pid": cpu.pid,
        "percent": round(cpu.percent, 1),
        "threads": threads,
    }
