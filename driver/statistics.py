"""The NIC's counters, kept beyond their 32 and 36 bits (82599 8.2.3.23).

A counter is cleared by its read and sticks at its maximum: whoever reads it owns what was counted, and it must be read before it
is full. A 36-bit pair is read low half first; the read of the high half clears both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hw.register import Row, Word
from hw.registers import COUNTERS, Registers

ACCUMULATE_S = 20.0  # 36 bits of octets last 55 s at 10 Gbit/s
PAIR_BITS = 36
PAIRS = {"GORC": ("GORCL", "GORCH"), "GOTC": ("GOTCL", "GOTCH"), "TOR": ("TORL", "TORH"),
         **{name: (f"{name}L", f"{name}H") for name in ("RXNFGBC", "RXDGBC", "RXDDBC", "RXLPBKBC", "RXDLPBKBC", "TXDGBC")}}
RX_QUEUE = {"QPRC": ("QPRC", ""), "QBRC": ("QBRC_L", "QBRC_H"), "QPRDC": ("QPRDC", "")}
TX_QUEUE = {"QPTC": ("QPTC", ""), "QBTC": ("QBTC_L", "QBTC_H")}
PORT_SECTION = "8.2.3.23."
FLOW_DIRECTOR = ("FDIRMATCH", "FDIRMISS")


@dataclass(frozen=True)
class PortStatistics:
    """Counts since the port was opened, named as in the datasheet.

    port: GPRC, GORC (36-bit pairs under one name), MPC (all eight packet buffers), ... rx: a mapping for each receive queue with
    QPRC (packets), QBRC (bytes), QPRDC (packets dropped for want of a descriptor). tx: for each transmit queue QPTC, QBTC.
    Pause frames that were sent (LXOFFTXC, LXONTXC) are in GPTC, GOTC, MPTC and PTC64, too, and in no queue's counters.
    On silicon GPRC also counts frames that were missed for want of packet buffer (MPC); the sum of QPRC does not.
    """

    port: Mapping[str, int]
    rx: tuple[Mapping[str, int], ...]
    tx: tuple[Mapping[str, int], ...]

    def __getitem__(self, name: str) -> int:
        """A counter of the port: `stats["GPRC"]`."""
        try:
            return self.port[name]
        except KeyError:
            raise KeyError(f"there is no counter {name}; there are {', '.join(sorted(self.port))}") from None


@dataclass
class Counter:
    """One count; `high` is the upper half's offset, or -1."""

    low: int
    high: int = -1
    value: int = 0


def port_counters() -> dict[str, list[Counter]]:
    """Every counter of the table that is not a queue's; the registers of an array are added up."""
    halves = {half for pair in PAIRS.values() for half in pair}
    counters: dict[str, list[Counter]] = {}
    for row in Registers.rows():
        per_queue = row.name.startswith("Q")
        counts = row.section.startswith(PORT_SECTION) or row.name in FLOW_DIRECTOR
        if counts and row.access.read_has_effect and not per_queue and row.name not in halves:
            counters[row.name] = [Counter(row.offset(index)) for index in range(row.count)]
    for name, (low, high) in PAIRS.items():
        counters[name] = [Counter(_row(low).offset(), _row(high).offset())]
    return counters


def queue_counters(names: Mapping[str, tuple[str, str]], queue: int) -> dict[str, Counter]:
    return {name: Counter(_row(low).offset(queue), _row(high).offset(queue) if high else -1) for name, (low, high) in names.items()}


def _row(name: str) -> Row[Word]:
    row: Row[Word] = getattr(Registers, name)
    return row


class Statistics:
    """Accumulates one NIC's counters from now on; queue k is mapped to counter set k."""

    def __init__(self, nic: Registers, rx_queues: int, tx_queues: int) -> None:
        self._nic = nic
        self._port = port_counters()
        self._rx = [queue_counters(RX_QUEUE, queue) for queue in range(rx_queues)]
        self._tx = [queue_counters(TX_QUEUE, queue) for queue in range(tx_queues)]
        self.due_at = 0.0
        self._reading = threading.Lock()  # what a read clears must be added by the one who read it
        map_queues(nic)
        self.accumulate()
        for counter in self._all():
            counter.value = 0

    def accumulate(self) -> None:
        """Read everything once. Raises DeviceGone."""
        with self._reading:
            for counter in self._all():
                counter.value += read_counter(self._nic, counter)
        self.due_at = time.monotonic() + ACCUMULATE_S

    def totals(self) -> PortStatistics:
        """As of the last accumulate()."""
        return PortStatistics({name: sum(counter.value for counter in counters) for name, counters in self._port.items()},
                              tuple({name: counter.value for name, counter in queue.items()} for queue in self._rx),
                              tuple({name: counter.value for name, counter in queue.items()} for queue in self._tx))

    def _all(self) -> Iterable[Counter]:
        for counters in self._port.values():
            yield from counters
        for queue in (*self._rx, *self._tx):
            yield from queue.values()

def map_queues(nic: Registers) -> None:
    """Queues 0..15 to counter sets 0..15 (8.2.3.23.71, 8.2.3.23.73)."""
    for first in range(0, COUNTERS, 4):
        sets = {f"Q_MAP_{queue}": first + queue for queue in range(4)}
        nic.RQSMR[first // 4].write(**sets)
        nic.TQSM[first // 4].write(**sets)


def read_counter(nic: Registers, counter: Counter) -> int:
    """What it counted since it was read last, and clear it. Raises DeviceGone."""
    low = nic.load(counter.low, "a statistics register")
    if counter.high < 0:
        return low
    high = nic.load(counter.high, "a statistics register")
    return low | (high & (1 << PAIR_BITS - 32) - 1) << 32
