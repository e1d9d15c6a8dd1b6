"""Measures what a machine allows: NOPs a counter tick on each CPU, and cache lines between two cores (probe.c)."""

from __future__ import annotations

import ctypes
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from building import BenchError, compile_c

SOURCE = Path(__file__).resolve().parent / "probe.c"
CHUNKS = 15  # of 20 us: a reading takes 0.3 ms, and a program that is stopped once spoils one chunk
ROUNDS = 50
# The order of `enum access` in probe.c, and of the fields of Lines.
ACCESSES = 8


@dataclass(frozen=True)
class Lines:
    """Nanoseconds for a line of 64 bytes that another core has written, the median over rounds of 256 lines.

    alone: one after the other. many: independent of each other. prefetched: many, each with a prefetch 16 lines before.
    copy: 64 bytes from a line of this core into a line that the other core has written.
    """

    read_alone: float
    read_many: float
    read_prefetched: float
    write_alone: float
    write_many: float
    write_prefetched: float
    copy_many: float
    copy_prefetched: float

    @property
    def read(self) -> float:
        """The best way to read."""
        return min(self.read_many, self.read_prefetched)

    @property
    def write(self) -> float:
        return min(self.write_many, self.write_prefetched)

    @property
    def copy(self) -> float:
        return min(self.copy_many, self.copy_prefetched)


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """Run this thread on one CPU for a while."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Probe:
    """The compiled probe. Raises BenchError if it cannot be compiled."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="ixrings-probe-") as folder:
            self._library = ctypes.CDLL(str(compile_c(Path(folder) / "probe.so", [SOURCE], "-shared")))
        self._library.nop_rates.restype = None
        self._library.ticks_a_second.restype = ctypes.c_double
        self._tick_ns = 1e9 / float(self._library.ticks_a_second())

    def nops(self, cpu: int) -> float:
        """NOPs a counter tick on this CPU now: the median of CHUNKS short loops."""
        rates = (ctypes.c_double * CHUNKS)()
        with on_cpu(cpu):
            self._library.nop_rates(rates, CHUNKS)
        return statistics.median(list[float](rates))

    def lines(self, cpu: int, owner_cpu: int) -> Lines:
        """The costs on `cpu` of lines that `owner_cpu` has written. Takes 30 ms."""
        costs = []
        for access in range(ACCESSES):
            ticks = (ctypes.c_double * ROUNDS)()
            with on_cpu(cpu):
                if self._library.line_costs(access, cpu, owner_cpu, ticks, ROUNDS):
                    raise BenchError(f"there is no thread on CPU {owner_cpu}, or no memory of 600 KB for its lines")
            costs.append(round(statistics.median(ticks) * self._tick_ns, 1))
        return Lines(*costs)
