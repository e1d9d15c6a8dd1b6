"""The NIC's counters, extended beyond their 32 and 36 bits (82599 8.2.3.23).

A read clears a counter, so the reader must keep the count. A counter stops at its maximum, so it must be read before
it gets there. The low half of a 36-bit pair is read first; the read of the high half clears both halves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ixrings.hw.attributes import did_you_mean
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
BAD_FRAMES = ("CRCERRS", "RLEC", "RUC", "RFC", "ROC", "RJC")
PAUSE_FRAMES = ("LXONRXCNT", "LXOFFRXCNT")
PORT_SECTION = "8.2.3.23."
FLOW_DIRECTOR = ("FDIRMATCH", "FDIRMISS")


@dataclass(frozen=True, repr=False)
class PortStatistics:
    """Counts since the port was opened, with the datasheet's names.

    port: GPRC, GORC (36-bit pairs have one name), MPC (all eight packet buffers), and so on.
    rx: for each receive queue QPRC (packets), QBRC (bytes), QPRDC (packets dropped for lack of a descriptor).
    tx: for each transmit queue QPTC, QBTC.
    rx_others, tx_others: the NIC has 16 sets of queue counters. If a direction has more than 16 queues, rx or tx has
        only queues 0..14, and the queues from 15 on are counted together here. rx_others also counts frames that a
        FlowFilter drops; therefore a port with a flow director shares this set from 16 receive queues on.

    A port on a virtual function has VFGPRC, VFGORC, VFMPRC, VFGPTC and VFGOTC, and no counters of queues.

    Sent pause frames (LXOFFTXC, LXONTXC) are also in GPTC, GOTC, MPTC and PTC64, but in no queue's counters. On
    silicon GPRC also counts frames missed for lack of packet buffer (MPC); the sum of QPRC does not.
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
            hint = did_you_mean(name, self.port, f"choose one of {', '.join(sorted(self.port))}")
            raise KeyError(f"there is no counter {name}; {hint}") from None

    @property
    def refused(self) -> int:
        """Good frames that the filters refused: for another address, group or VLAN."""
        return refused(self.port)

    @property
    def losses(self) -> tuple[str, ...]:
        """Where frames went that came and did not reach a ring: a sentence for each reason that the counters show."""
        return losses(self.port, sum(queue["QPRDC"] for queue in (*self.rx, self.rx_others)))

    def __repr__(self) -> str:
        """The counters that are not zero."""
        parts = [shown("", self.port)]
        for side, queues, others in (("rx", self.rx, self.rx_others), ("tx", self.tx, self.tx_others)):
            parts += [shown(f"{side}[{queue}]: ", counts) for queue, counts in enumerate(queues)]
            parts.append(shown(f"{side}_others: ", others))
        return f"<PortStatistics {'; '.join(filter(None, parts)) or 'all counters are 0'}>"

    def _repr_html_(self) -> str:
        from .statistics_html import statistics_html

        return statistics_html(self)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.port)

    def __iter__(self) -> Iterator[str]:
        """The names of the port's counters. Without this, Python would iterate over indices."""
        return iter(self.port)


def refused(port: Mapping[str, int]) -> int:
    """Good frames that the filters refused, by a port's counters; 0 for a VF, which has no counter of them.

    ASSUMPTION (datasheet not at hand): TPR counts them, and GPRC does not, also those of the VLAN filter. Pause frames
    end in the MAC.
    """
    return max(0, port.get("TPR", 0) - sum(port.get(name, 0) for name in ("GPRC", *BAD_FRAMES, *PAUSE_FRAMES)))


def lost(port: Mapping[str, int], dropped: int) -> dict[str, int]:
    """How many frames came and did not reach a ring, for each reason that the counters show.

    By a port's counters and the sum of its queues' QPRDC.
    """
    bad = sum(port.get(name, 0) for name in BAD_FRAMES)
    return {"refused": refused(port), "damaged": bad, "missed": port.get("MPC", 0), "dropped": dropped}


def losses(port: Mapping[str, int], dropped: int) -> tuple[str, ...]:
    """PortStatistics.losses, by the arguments of lost()."""
    reasons = {
        "refused": "refused by the filters: for another MAC address, group or VLAN (TPR counts them, GPRC does not). "
        "Receive everything with port.promiscuous = True",
        "damaged": f"damaged or of a wrong length ({shown('', {name: port.get(name, 0) for name in BAD_FRAMES})})",
        "missed": "lost because the packet buffer was full (MPC). Call rxsync(), poll() or recv() more often",
        "dropped": "dropped: the queue had no free slot, or has no ring in this port (QPRDC). Call ring.advance() and "
        "rxsync() more often, or open the port with all its queues",
    }
    return tuple(
        f"{count} {'frame was' if count == 1 else 'frames were'} {reasons[reason]}"
        for reason, count in lost(port, dropped).items()
        if count > 0
    )


def shown(title: str, counts: Mapping[str, int]) -> str:
    """`rx[0]: QPRC=7 QBRC=448`: the counts that are not zero; "" if all are."""
    nonzero = " ".join(f"{name}={count}" for name, count in counts.items() if count)
    return title + nonzero if nonzero else ""


@dataclass
class Counter:
    """One count. high: offset of the upper half, or -1."""

    low: int
    high: int = -1
    value: int = 0


def port_counters() -> dict[str, list[Counter]]:
    """Every counter of the register table except those of queues. The registers of an array are added up."""
    halves = {half for pair in PAIRS.values() for half in pair}
    counters: dict[str, list[Counter]] = {}
    for row in Registers.rows():
        per_queue = row.name.startswith("Q")
        counts = row.section.startswith(PORT_SECTION) or row.name in FLOW_DIRECTOR
        if counts and row.access.read_has_effect and not per_queue and row.name not in halves:
            counters[row.name] = [Counter(row.offset(index)) for index in range(row.count)]
    for name, (low, high) in PAIRS.items():
        counters[name] = [Counter(row_of(low).offset(), row_of(high).offset())]
    return counters


def queue_counters(names: Mapping[str, tuple[str, str]], queue: int) -> dict[str, Counter]:
    """The counters of set `queue`."""
    return {
        name: Counter(row_of(low).offset(queue), row_of(high).offset(queue) if high else -1)
        for name, (low, high) in names.items()
    }


def row_of(name: str) -> Row[Word]:
    """The row of a register, by name."""
    row: Row[Word] = getattr(Registers, name)
    return row


class QueueCounters:
    """The counters of one direction: of each queue that has its own set, and of the last set if several share it.

    drops: the last set also counts drops, so no queue has it for itself.
    """

    def __init__(self, names: Mapping[str, tuple[str, str]], queues: int, drops: bool = False) -> None:
        own = queues if queues + drops <= COUNTERS else LAST_SET
        self.own = [queue_counters(names, queue) for queue in range(own)]
        self.others = queue_counters(names, LAST_SET) if own < COUNTERS else {name: Counter(-1) for name in names}
        self.read = [*self.own, self.others] if own < COUNTERS else self.own


def values(counters: Mapping[str, Counter]) -> Mapping[str, int]:
    return {name: counter.value for name, counter in counters.items()}


class Statistics:
    """Accumulates one NIC's counters from now on. drops: filters may drop frames, so the last set counts them.

    first: the NIC's number of the port's queue 0.
    """

    def __init__(self, nic: Registers, rx_queues: int, tx_queues: int, *, drops: bool = False, first: int = 0) -> None:
        self._nic = nic
        self._port = port_counters()
        self._rx = QueueCounters(RX_QUEUE, rx_queues, drops)
        self._tx = QueueCounters(TX_QUEUE, tx_queues)
        self.due_at = 0.0
        self._reading = threading.Lock()  # a thread that reads and clears a counter also adds it
        map_queues(nic, first)
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
        with self._reading:
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


def map_queues(nic: Registers, first: int) -> None:
    """Give queues 0..14 from `first` on their own counter set, and all others the last (8.2.3.23.71, 8.2.3.23.73)."""
    for register in range(QUEUES // 4):
        numbers = [4 * register + i - first for i in range(4)]
        sets = {f"Q_MAP_{i}": number if 0 <= number < LAST_SET else LAST_SET for i, number in enumerate(numbers)}
        nic.RQSMR[register].write(**sets)
        nic.TQSM[register].write(**sets)


def read_counter(nic: Registers, counter: Counter) -> int:
    """The count since the last read. Clears the counter. Raises DeviceGone."""
    low = nic.load(counter.low, "a statistics register")
    if counter.high < 0:
        return low
    high = nic.load(counter.high, "a statistics register")
    return low | (high & (1 << PAIR_BITS - 32) - 1) << 32
