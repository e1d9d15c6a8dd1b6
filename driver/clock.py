"""`port.clock`: the NIC's IEEE 1588 clock, and time stamps of PTP messages sent and received (82599 7.9, 8.2.3.26)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ixrings.hw.attributes import GuardedReads, always
from ixrings.hw.errors import RegisterTimeout
from ixrings.hw.registers import Registers

from .errors import PortTimeout
from .steering import PTP_ETHER_TYPE, ether_type_entry

EVENT_PORT = 319
EVENTS_V2 = 5  # TSYNCRXCTL.TYPE
CYCLE_NS = 6.4  # at 10 Gbit/s, and without a link
FRACTION = 21  # bits of SYSTIM below a nanosecond: INCVALUE's 24 bits hold a cycle and leave room for adjust()
NOMINAL = round(CYCLE_NS * (1 << FRACTION))
LARGEST = (1 << 24) - 1
WRAP = 1 << 64  # of SYSTIM: every 2 hours and 27 minutes


@dataclass(frozen=True)
class Stamp:
    """When a message arrived, in nanoseconds, and its sequenceId."""

    ns: int
    sequence: int


class Clock(GuardedReads):
    """Counts nanoseconds by the NIC's oscillator, from 0 at its first use.

    The first use of `port.clock` starts it, and with it the time stamps of PTP version 2 event messages: EtherType
    0x88F7, and UDP to port 319.

        port.set_multicast(["01:1b:19:00:00:00"])         # only frames that are received are stamped
        port.send([sync], offload=Offload(timestamp=True))
        t1 = port.clock.sent()
        t2 = other.clock.received()                       # at the other end
        other.clock.step(...), other.clock.adjust(...)

    For one thread. For other versions and UDP ports, write port.nic.TSYNCRXCTL and port.nic.RXMTRL.
    """

    __slots__ = ("_last", "_nic", "_offset_ns", "_rate", "_seen_s", "_total")

    def __init__(self, nic: Registers) -> None:
        self._nic = nic
        self._offset_ns, self._rate = 0, 1.0
        nic.TIMINCA.write(INCPERIOD=1, INCVALUE=NOMINAL)
        nic.RXMTRL.write(UDPT=EVENT_PORT)
        ether_type_entry(nic, PTP_ETHER_TYPE)
        nic.TSYNCRXCTL.write(EN=1, TYPE=EVENTS_V2)
        nic.TSYNCTXCTL.write(EN=1)
        nic.RXSTMPH.read()  # releases a stamp that an earlier user did not read
        nic.TXSTMPH.read()
        self._last, self._seen_s = self._systim(), time.monotonic()
        self._total = 0

    def now(self) -> int:
        """Nanoseconds, in steps of a cycle (6.4 ns)."""
        self._catch_up()
        return (self._total >> FRACTION) + self._offset_ns

    def set(self, ns: int) -> None:
        """Set the time to `ns` (settime)."""
        self.step(ns - self.now())

    def step(self, ns: int) -> None:
        """Step the time by `ns`, which may be negative (adjtime).

        SYSTIM has no room for a date, so software adds the offset, also to pending stamps.
        """
        self._offset_ns += ns

    def adjust(self, ppm: float) -> None:
        """Run `ppm` parts per million faster than the oscillator, or slower if negative (adjfine).

        In steps of 0.075 ppm. Raises ValueError.
        """
        increment = round(NOMINAL * (1 + ppm / 1e6))
        if not 0 < increment <= LARGEST:
            raise ValueError(
                f"the clock cannot go {ppm:g} ppm faster; choose -999999 to {int((LARGEST / NOMINAL - 1) * 1e6)} "
                "(82599 8.2.3.26)"
            )
        self._catch_up()  # otherwise the change of rate would look like a wrap
        self._nic.TIMINCA.write(INCPERIOD=1, INCVALUE=increment)
        self._rate = increment / NOMINAL

    @property
    def ppm(self) -> float:
        """The rate that adjust() has set, after rounding."""
        return (self._nic.TIMINCA.read().INCVALUE / NOMINAL - 1) * 1e6

    def sent(self, timeout: float = 0.1) -> int:
        """When the last frame sent with Offload(timestamp=True) left, in nanoseconds. Releases the stamp.

        Call it before the next such frame is sent; otherwise that frame gets no stamp (7.9.3.2). timeout: seconds.
        Raises PortTimeout.
        """
        try:
            self._nic.TSYNCTXCTL.wait(TXTT=1, timeout=timeout, section="7.9.3.2")
        except RegisterTimeout:
            raise PortTimeout(
                f"no frame was stamped within {timeout:g} s. Use port.clock once to start it, then send a frame with "
                "Offload(timestamp=True), and check that the link is up (port.link)"
            ) from None
        return self._stamp(self._nic.TXSTMPL.read() | self._nic.TXSTMPH.read() << 32)

    def received(self) -> Stamp | None:
        """When an event message arrived; None if none did. Releases the stamp.

        The NIC keeps one stamp: that of the first message since the last release. The stamp may belong to a frame that
        was dropped for lack of a slot, so compare the sequenceId. Port.received(ring, span).stamped marks the frame
        that has the stamp.
        """
        if not self._nic.TSYNCRXCTL.read().RXTT:
            return None
        sequence = int.from_bytes(self._nic.RXSATRH.read().SEQUENCE_ID.to_bytes(2, "little"), "big")
        return Stamp(self._stamp(self._nic.RXSTMPL.read() | self._nic.RXSTMPH.read() << 32), sequence)

    def _systim(self) -> int:
        # In this order: reading SYSTIML latches SYSTIMH (7.9.3.1).
        return self._nic.SYSTIML.read() | self._nic.SYSTIMH.read() << 32

    def _catch_up(self) -> None:
        """Add the time since the last call.

        SYSTIM wraps. The system clock shows how often, precisely enough for months.
        """
        systim, seen_s = self._systim(), time.monotonic()
        went = (systim - self._last) % WRAP
        unseen_ns = (seen_s - self._seen_s) * self._rate * 1e9 - (went >> FRACTION)
        self._total += went + WRAP * max(0, round(unseen_ns / (WRAP >> FRACTION)))
        self._last, self._seen_s = systim, seen_s

    def _stamp(self, systim: int) -> int:
        """The time, in nanoseconds, of a SYSTIM value from the last hour."""
        self._catch_up()
        age = (self._last - systim) % WRAP
        return (self._total - age >> FRACTION) + self._offset_ns

    @always
    def __repr__(self) -> str:
        """Without the time: to read it latches a register, which another thread may read now."""
        return f"<Clock {self.ppm:+.3f} ppm, offset {self._offset_ns} ns; now() has the time>"
