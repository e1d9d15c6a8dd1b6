"""The phases of an engine step, by the processor's counter: a build of the engine with the marks of phase.h."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from building import compile_c

from ixrings.hw.emulator.engine import header, library

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parent.parent / "hw/emulator/engine"
FLAGS = ("-shared", "-fvisibility=hidden", "-Wl,-Bsymbolic", "-D_POSIX_C_SOURCE=200809L", "-DIXRINGS_PHASES")

# in the order of `enum phase` in phase.h
PHASES = (
    "lock and round",
    "tx tail read",
    "tx descriptor fetch",
    "tx gather",
    "tx checks, offload decision",
    "tx counters",
    "tx wire",
    "tx head write-back",
    "rx offer",
    "rx classify, checksums",
    "rx accept, filters",
    "rx descriptor",
    "rx copy",
    "rx write-back",
    "rx counters, causes",
    "messages",
)


@dataclass(frozen=True)
class Phase:
    """ns: nanoseconds a frame, the marks' own cost taken off."""

    name: str
    ns: float
    marks: int


def build(folder: Path) -> Path:
    """Compile the engine with marks into `folder`. Raises BenchError."""
    header.write_headers(folder)
    includes = (f"-I{folder}", f"-I{ENGINE}", f"-I{HERE}")
    sources = [HERE / "phases.c", *sorted(ENGINE.glob("*.c"))]
    return compile_c(folder / "libengine.so", sources, *FLAGS, *includes)


class Marks:
    """The marks of the engine with which this process emulates from now on."""

    def __init__(self, built: Path) -> None:
        library.LIBRARY = built
        self._calls = ctypes.CDLL(str(built))
        self._calls.phases_mark_cost.restype = ctypes.c_double
        self._calls.phases_ticks_a_second.restype = ctypes.c_double
        self._ticks_a_ns = self._calls.phases_ticks_a_second() / 1e9
        self._cost = self._calls.phases_mark_cost()

    @property
    def cost_ns(self) -> float:
        """What one mark costs."""
        return float(self._cost / self._ticks_a_ns)

    def clear(self) -> None:
        self._calls.phases_clear()

    def read(self, frames: int) -> list[Phase]:
        """All phases since clear(); those that were not entered have no marks."""
        table = (ctypes.c_uint64 * (2 * len(PHASES)))()
        self._calls.phases_read(table)
        ticks, marks = table[: len(PHASES)], table[len(PHASES) :]
        return [
            Phase(name, max(0.0, spent - count * self._cost) / self._ticks_a_ns / frames, count)
            for name, spent, count in zip(PHASES, ticks, marks)
        ]
