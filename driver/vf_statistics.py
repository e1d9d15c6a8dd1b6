"""A virtual function's counters, extended beyond their 32 and 36 bits (82599 8.3.5.6).

A read does not clear them, and they wrap, so the reader adds the difference to the last value. They also count frames
from other functions of the NIC, and the octets of a CRC.

ASSUMPTION (datasheet not at hand): the low half is read first, and the high half then belongs to it, as for the PF's
pairs and in public drivers.
"""

from __future__ import annotations

import threading
import time

from ixrings.hw.register import Accessor, Word
from ixrings.hw.registers import Registers, VfRegisters

from .statistics import ACCUMULATE_S, PAIR_BITS, RX_QUEUE, TX_QUEUE, PortStatistics

WORD_BITS = 32


class Wrapping:
    """One counter. value: counted since it was made. last: what the registers held at the last look."""

    def __init__(self, low: Accessor[Word], high: Accessor[Word] | None = None) -> None:
        self._low, self._high = low, high
        self._bits = WORD_BITS if high is None else PAIR_BITS
        self.value = 0
        self.last = self._read()

    def add(self) -> None:
        now = self._read()
        more = (now - self.last) % (1 << self._bits)
        # No wire carries half of a counter's range between two looks, so the counter went back: the PF was reset.
        self.value += more if more < 1 << (self._bits - 1) else now
        self.last = now

    def _read(self) -> int:
        low = int(self._low.read())
        return (low if self._high is None else low | int(self._high.read()) << WORD_BITS) % (1 << self._bits)


def counters(nic: VfRegisters) -> dict[str, Wrapping]:
    return {
        "VFGPRC": Wrapping(nic.VFGPRC),
        "VFGORC": Wrapping(nic.VFGORC_LSB, nic.VFGORC_MSB),
        "VFMPRC": Wrapping(nic.VFMPRC),
        "VFGPTC": Wrapping(nic.VFGPTC),
        "VFGOTC": Wrapping(nic.VFGOTC_LSB, nic.VFGOTC_MSB),
    }


def raw_counts(nic: VfRegisters) -> dict[str, int]:
    """What the registers hold. A read changes nothing, so another program may have the function."""
    return {name: counter.last for name, counter in counters(nic).items()}


def hosted_counters(nic: Registers, number: int) -> dict[str, Wrapping]:
    """The same counters of VF `number`, as its PF sees them. They have the VF's names."""
    return {
        "VFGPRC": Wrapping(nic.PVFGPRC[number]),
        "VFGORC": Wrapping(nic.PVFGORC_LSB[number], nic.PVFGORC_MSB[number]),
        "VFMPRC": Wrapping(nic.PVFMPRC[number]),
        "VFGPTC": Wrapping(nic.PVFGPTC[number]),
        "VFGOTC": Wrapping(nic.PVFGOTC_LSB[number], nic.PVFGOTC_MSB[number]),
    }


class VfStatistics:
    """Counts from now on."""

    def __init__(self, nic: VfRegisters) -> None:
        self._reading = threading.Lock()  # a thread that reads a counter also adds to it
        self._counters = counters(nic)
        self.due_at = time.monotonic() + ACCUMULATE_S

    def accumulate(self) -> None:
        """Read everything once. Raises DeviceGone."""
        with self._reading:
            for counter in self._counters.values():
                counter.add()
        self.due_at = time.monotonic() + ACCUMULATE_S

    def totals(self) -> PortStatistics:
        """As of the last accumulate()."""
        with self._reading:
            counts = {name: counter.value for name, counter in self._counters.items()}
        return PortStatistics(counts, (), (), dict.fromkeys(RX_QUEUE, 0), dict.fromkeys(TX_QUEUE, 0))
