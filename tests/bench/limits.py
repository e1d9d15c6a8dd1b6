"""How far a rate is from what the machine allows: the cost of the cache lines that have to cross between the two cores.

A way through the rings moves lines between the program's core and the engine's core. Each core pays for the lines that
the other has written, at the best price that probe.py measures; both work at the same time, so the slower one is the
limit. Computing costs on top of it, so no program reaches the limit.

Lines for each packet, of 64 bytes:
  descriptor   16 bytes, so 1/4 line. The engine writes a receive descriptor back, and reads one to send; the program
               writes both kinds anew.
  buffer       1 line. It crosses only if the program reads or writes the frame: the engine then copies the next frame
               into a line that is dirty in the program's cache. A sink reads no byte.
  slot         0 lines. Only the program's core reads and writes slots.
  tail, head   1 line each for a batch; left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe import Lines, Probe

DESCRIPTOR = 16 / 64


@dataclass(frozen=True)
class Crossing:
    """Lines a packet that one core fetches from the other: to read, to write, and to copy 64 bytes into."""

    read: float = 0
    write: float = 0
    copy: float = 0

    def ns(self, lines: Lines) -> float:
        return self.read * lines.read + self.write * lines.write + self.copy * lines.copy

    @property
    def total(self) -> float:
        return self.read + self.write + self.copy


# The engine's side and the program's side of each way (loops.py, examples/line_rate.py).
WAYS = {
    "tx": (Crossing(read=DESCRIPTOR), Crossing(write=DESCRIPTOR)),
    "rx": (Crossing(write=DESCRIPTOR), Crossing(write=DESCRIPTOR)),
    "loop": (Crossing(read=DESCRIPTOR, write=DESCRIPTOR), Crossing(write=2 * DESCRIPTOR)),
    "bridge": (Crossing(read=DESCRIPTOR, write=DESCRIPTOR), Crossing(write=2 * DESCRIPTOR)),
    "bridge_touched": (Crossing(read=DESCRIPTOR, write=DESCRIPTOR, copy=1), Crossing(write=1 + 2 * DESCRIPTOR)),
    # The engine reads each frame sent and copies it into a buffer that the program has read; the program reads each
    # frame received and writes a number into each frame to send.
    "line_rate.py": (
        Crossing(read=1 + DESCRIPTOR, write=DESCRIPTOR, copy=1),
        Crossing(read=1, write=1 + 2 * DESCRIPTOR),
    ),
}


@dataclass(frozen=True)
class Limit:
    """ns: nanoseconds a packet. side: which core pays that. lines: how many lines that core fetches for a packet."""

    ns: float
    side: str
    lines: float

    def distance(self, mpps: float) -> str:
        """In words, for a rate in Mpps. It is 0 if the machine stopped the program or the engine for the whole run."""
        limit = f"the limit of {self.ns:.1f} ns ({self.lines:g} lines a packet to the {self.side}'s core)"
        if not mpps:
            return f"no packet, {limit}"
        ns = 1e3 / mpps
        return f"{ns:.1f} ns a packet, {ns / self.ns:.1f} times {limit}"


def limits(engine: Lines, program: Lines) -> dict[str, Limit]:
    """The limit of each way. engine, program: costs on the engine's core and on the program's core."""
    found = {}
    for way, (engine_side, program_side) in WAYS.items():
        sides = {"engine": (engine_side, engine), "program": (program_side, program)}
        side = max(sides, key=lambda name: sides[name][0].ns(sides[name][1]))
        crossing, lines = sides[side]
        found[way] = Limit(round(crossing.ns(lines), 2), side, crossing.total)
    return found


def measure(probe: Probe, program_cpu: int, nic_cpu: int) -> dict[str, Limit]:
    """The limits between these CPUs now. A hypervisor may move them nearer or farther at any time. Takes 60 ms."""
    return limits(probe.lines(nic_cpu, program_cpu), probe.lines(program_cpu, nic_cpu))
