"""Tells quiet runs from loud ones. A neighbour on the other thread of a core slows everything, and no counter shows it.

A loop of NOPs runs at a speed that depends on nothing but the core, its clock and its neighbour. A reading of 0.3 ms on
each CPU before and after a run is compared with the best reading of that CPU so far.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from probe import Probe

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))

from processors import Load, Watch

T = TypeVar("T")

LOUD = 1.25  # best reading divided by the present one; a neighbour makes it up to 2
FIRST_READINGS = 20
BETWEEN_S = 0.005  # the first readings take 0.1 s in all, to find a quiet moment


class Ear:
    """Listens on these CPUs."""

    def __init__(self, probe: Probe, cpus: Sequence[int]) -> None:
        self._probe, self._cpus = probe, cpus
        self.best = dict.fromkeys(cpus, 0.0)  # NOPs a counter tick, by CPU
        self._watch = Watch()
        for _ in range(FIRST_READINGS):
            self.noise()
            time.sleep(BETWEEN_S)

    def noise(self) -> float:
        """1.0 on quiet CPUs. The worse of the two CPUs counts."""
        ratios = []
        for cpu in self._cpus:
            reading = self._probe.nops(cpu)
            self.best[cpu] = max(self.best[cpu], reading)
            ratios.append(self.best[cpu] / reading)
        return max(ratios)

    def around(self, run: Callable[[], T]) -> tuple[T, float]:
        """The result of `run`, and the noise before or after it, whichever is worse."""
        before = self.noise()
        result = run()
        return result, max(before, self.noise())

    def load(self) -> Load:
        """What the processors did since the last call."""
        load, self._watch = self._watch.read(), Watch()
        return load


def quiet_median(values: Sequence[float], noises: Sequence[float]) -> float | None:
    """The median of the quiet runs' values; None if all runs were loud."""
    quiet = [value for value, noise in zip(values, noises) if noise < LOUD]
    return round(statistics.median(quiet), 2) if quiet else None
