"""The NIC's counters, kept beyond their 32 and 36 bits (82599 8.2.3.23).

A counter is cleared by its read and sticks at its maximum: whoever reads it owns what was counted, and it must be read before it
is full. A 36-bit pair is read low half first; the read of the high half clears both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ixrings.hw.register import Row, Word
from ixrings.hw.registers import COUNTERS, QUEUES, Registers

ACCUMULATE_S = 20.0  # 36 bits of octets last 55 s at 10 Gbit/s
PAIR_BITS = 36
LAST_SET = COUNTERS - 1
PAIRS = {
    "GORC": ("GORCL", "GORCH"),
    "GOTC": ("GOTCL", "GOTCH"),
    "TOR": ("TORL", "TORH"),
    **{name: (f"{name}L", f"{name}H") for name in ("RXNFGBC", "RXDGBC", "RXDDBC", "RXLPBKBC", "RXDLPBKBC", "TXDGBC")},
}
RX_QUEUE = {"QPRC": ("QPRC", ""), "QBRC": ("QBRC_L", "QBRC_H"), "QPRDC": ("QPRDC", "")}
TX_QUEUE = {"QPTC": ("QPTC", ""), "QBTC": ("QBTC_L", "QBTC_H")}
PORT_SECTION = "8.2.3.23."
FLOW_DIRECTOR = ("FDIRMATCH", "FDIRMISS")


@dataclass(frozen=True)
class PortStatistics:
    """Counts since the port was opened, named as in the datasheet.

    port: GPRC, GORC (36-bit pairs under one name), MPC (all eight packet buffers), ... rx: a mapping for each receive queue with
    QPRC (packets), QBRC (bytes), QPRDC (packets dropped for want of a descriptor). tx: for each transmit queue QPTC, QBTC.
    The NIC has 16 sets of these. Of more than 16 queues of a direction, rx or tx has queues 0..14 only, and all from 15 on are counted
    together: rx_others, tx_others. rx_others has also what a FlowFilter drops, and a port with a flow director counts so from 16 queues on.
    Pause frames that were sent (LXOFFTXC, LXONTXC) are in GPTC, GOTC, MPTC and PTC64, too, and in no queue's counters.
    On silicon GPRC also counts frames that were missed for want of packet buffer (MPC); the sum of QPRC does not.
    """

    port: Mapping[str, int]
    rx: tuple[Mapping[str, int], ...]
    tx: tuple[Mapping[str, int], ...]
    rx_others: Mapping[str, int]
    tx_others: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        """A counter of the port: `stats["GPRC"]`."""
        try:
            return self.port[name]
        except KeyError:
            raise KeyError(f"there is no counter {name}; there are {', '.join(sorted(self.port))}") from None

    def __iter__(self) -> Iterator[str]:
        """Names of the port's counters; without it Python would ask for counter 0."""
        return iter(self.port)


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
    return {
        name: Counter(_row(low).offset(queue), _row(high).offset(queue) if high else -1)
        for name, (low, high) in names.items()
    }


def _row(name: str) -> Row[Word]:
    row: Row[Word] = getattr(Registers, name)
    return row


class QueueCounters:
    """Of one direction: each queue's with a set to itself, and those of the last set if that is not one of them. drops: it must not be."""

    def __init__(self, names: Mapping[str, tuple[str, str]], queues: int, drops: bool = False) -> None:
        own = queues if queues + drops <= COUNTERS else LAST_SET
        self.own = [queue_counters(names, queue) for queue in range(own)]
        self.others = queue_counters(names, LAST_SET) if own < COUNTERS else {name: Counter(-1) for name in names}
        self.read = [*self.own, self.others] if own < COUNTERS else self.own


def values(counters: Mapping[str, Counter]) -> Mapping[str, int]:
    return {name: counter.value for name, counter in counters.items()}


class Statistics:
    """Accumulates one NIC's counters from now on. drops: there may be filters that drop, which a set has to count."""

    def __init__(self, nic: Registers, rx_queues: int, tx_queues: int, *, drops: bool = False) -> None:
        self._nic = nic
        self._port = port_counters()
        self._rx = QueueCounters(RX_QUEUE, rx_queues, drops)
        self._tx = QueueCounters(TX_QUEUE, tx_queues)
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
        return PortStatistics(
            {name: sum(counter.value for counter in counters) for name, counters in self._port.items()},
            tuple(values(queue) for queue in self._rx.own),
            tuple(values(queue) for queue in self._tx.own),
            values(self._rx.others),
            values(self._tx.others),
        )

    def _all(self) -> Iterable[Counter]:
        for counters in self._port.values():
            yield from counters
        for queue in (*self._rx.read, *self._tx.read):
            yield from queue.values()


def map_queues(nic: Registers) -> None:
    """Queues 0..14 to counter sets of their own, all others to the last (8.2.3.23.71, 8.2.3.23.73)."""
    for first in range(0, QUEUES, 4):
        sets = {f"Q_MAP_{queue}": min(first + queue, LAST_SET) for queue in range(4)}
        nic.RQSMR[first // 4].write(**sets)
        nic.TQSM[first // 4].write(**sets)


def read_counter(nic: Registers, counter: Counter) -> int:
    """What it counted since it was read last, and clear it. Raises DeviceGone."""
    low = nic.load(counter.low, "a statistics register")
    if counter.high < 0:
        return low
    high = nic.load(counter.high, "a statistics register")
    return low | (high & (1 << PAIR_BITS - 32) - 1) << 32
