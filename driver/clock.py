"""`port.clock`: the NIC's IEEE 1588 clock, and when frames of the protocol left and came by it (82599 7.9, 8.2.3.26)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ixrings.hw.errors import RegisterTimeout
from ixrings.hw.registers import Registers

from .errors import PortTimeout
from .steering import PTP_ETHER_TYPE, ether_type_entry

EVENT_PORT = 319
EVENTS_V2 = 5  # TSYNCRXCTL.TYPE
CYCLE_NS = 6.4  # at 10 Gbit/s, and without a link
FRACTION = 21  # bits of SYSTIM below a nanosecond: as many as let INCVALUE's 24 bits hold a cycle, and more of them for adjust()
NOMINAL = round(CYCLE_NS * (1 << FRACTION))
LARGEST = (1 << 24) - 1
WRAP = 1 << 64  # of SYSTIM: each 2 hours and 27 minutes


@dataclass(frozen=True)
class Stamp:
    """When a message came, and its sequenceId."""

    ns: int
    sequence: int


class Clock:
    """Counts nanoseconds, from 0 at its first use, by the NIC's oscillator. It goes on when the program does not look; after open_port() it
    stands, so `port.clock` starts it, and time-stamping of version 2's event messages with it: of EtherType 0x88F7, and of UDP to port 319.

        port.set_multicast(["01:1b:19:00:00:00"])         # stamped is what is received
        port.send([sync], offload=Offload(timestamp=True))
        t1 = port.clock.sent()
        t2 = other.clock.received()                       # where it came
        other.clock.step(...), other.clock.adjust(...)

    For one thread. Other versions and ports: the registers, port.nic.TSYNCRXCTL and port.nic.RXMTRL.
    """

    def __init__(self, nic: Registers) -> None:
        self._nic = nic
        self._offset_ns, self._rate = 0, 1.0
        nic.TIMINCA.write(INCPERIOD=1, INCVALUE=NOMINAL)
        nic.RXMTRL.write(UDPT=EVENT_PORT)
        ether_type_entry(nic, PTP_ETHER_TYPE)
        nic.TSYNCRXCTL.write(EN=1, TYPE=EVENTS_V2)
        nic.TSYNCTXCTL.write(EN=1)
        nic.RXSTMPH.read()  # lets go of what somebody before us did not read
        nic.TXSTMPH.read()
        self._last, self._seen_s = self._systim(), time.monotonic()
        self._total = 0

    def now(self) -> int:
        """Nanoseconds, to those of a cycle: 6.4."""
        self._catch_up()
        return (self._total >> FRACTION) + self._offset_ns

    def set(self, ns: int) -> None:
        """Now it is `ns`: settime."""
        self.step(ns - self.now())

    def step(self, ns: int) -> None:
        """`ns` further on, or back: adjtime. SYSTIM has no room for a date, so this is added to what it shows; to stamps that wait, too."""
        self._offset_ns += ns

    def adjust(self, ppm: float) -> None:
        """Parts per million faster than the oscillator, or slower: adjfine, in steps of 0.075. Raises ValueError."""
        increment = round(NOMINAL * (1 + ppm / 1e6))
        if not 0 < increment <= LARGEST:
            raise ValueError(
                f"the clock cannot go {ppm:g} ppm faster; choose -999999 to {int((LARGEST / NOMINAL - 1) * 1e6)} (82599 8.2.3.26)"
            )
        self._catch_up()  # or what follows would be taken for part of a wrap
        self._nic.TIMINCA.write(INCPERIOD=1, INCVALUE=increment)
        self._rate = increment / NOMINAL

    @property
    def ppm(self) -> float:
        """What adjust() came to."""
        return (self._nic.TIMINCA.read().INCVALUE / NOMINAL - 1) * 1e6

    def sent(self, timeout: float = 0.1) -> int:
        """When the last frame left that was sent with Offload(timestamp=True), in nanoseconds; takes the stamp away.

        Take it before the next such frame is sent, which gets none otherwise (7.9.3.2). Raises PortTimeout.
        """
        try:
            self._nic.TSYNCTXCTL.wait(TXTT=1, timeout=timeout, section="7.9.3.2")
        except RegisterTimeout:
            raise PortTimeout(
                f"no frame has been stamped within {timeout:g} s: send one with Offload(timestamp=True), after port.clock was started by a first "
                "look at it, and see that the link is up (port.link)"
            ) from None
        return self._stamp(self._nic.TXSTMPL.read() | self._nic.TXSTMPH.read() << 32)

    def received(self) -> Stamp | None:
        """When an event message came, None when none did; takes the stamp away.

        The NIC keeps one, the first since the last was taken, be it of a frame that was then lost for want of a slot: the sequenceId tells.
        Messages that came meanwhile have none. Which frame of a ring has it: Port.received(ring, span).stamped.
        """
        if not self._nic.TSYNCRXCTL.read().RXTT:
            return None
        sequence = int.from_bytes(self._nic.RXSATRH.read().SEQUENCE_ID.to_bytes(2, "little"), "big")
        return Stamp(self._stamp(self._nic.RXSTMPL.read() | self._nic.RXSTMPH.read() << 32), sequence)

    def _systim(self) -> int:
        return (
            self._nic.SYSTIML.read() | self._nic.SYSTIMH.read() << 32
        )  # in this order: the first holds the second (7.9.3.1)

    def _catch_up(self) -> None:
        """SYSTIM goes round; how often it did since the last look, this machine's own clock tells well enough for months."""
        systim, seen_s = self._systim(), time.monotonic()
        went = (systim - self._last) % WRAP
        unseen_ns = (seen_s - self._seen_s) * self._rate * 1e9 - (went >> FRACTION)
        self._total += went + WRAP * max(0, round(unseen_ns / (WRAP >> FRACTION)))
        self._last, self._seen_s = systim, seen_s

    def _stamp(self, systim: int) -> int:
        """Of an hour ago at most."""
        self._catch_up()
        age = (self._last - systim) % WRAP
        return (self._total - age >> FRACTION) + self._offset_ns

    def __repr__(self) -> str:
        return f"<Clock {self.now()} ns, {self.ppm:+.3f} ppm>"
