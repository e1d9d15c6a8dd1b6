"""Rates of transmit queues, which the NIC keeps (82599 8.2.3.10.13, 8.2.3.10.16): `port.tx_rings[k].rate_mbps`."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

from ixrings.hw.rate import MAKES_UP_KB, SPEEDS_MBPS, write_rate
from ixrings.hw.registers import Registers

from .checks import require
from .errors import NotOffered, PortClosed
from .gate import closed

LEAST_MBPS = 10  # RF_INT has ten bits: a factor of 1000 at 10 Gbit/s
TEN_GIGABIT = 10_000  # the speed of a link that is down
USUAL_FRAME = 1522
MAKES_UP_LONG_KB = 20  # MMW_SIZE for jumbo frames, as Linux and DPDK have it


class Rates:
    """The rates of a NIC's queues; threads may use it side by side. longest: bytes of a frame. port: its name.

    first: the NIC's number of the port's queue 0. lock: of who else writes rates.
    """

    def __init__(
        self,
        nic: Registers,
        longest: int,
        port: str,
        *,
        first: int = 0,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._nic, self.port, self._first = nic, port, first
        self._lock = lock or threading.Lock()  # a queue is chosen in one register, and its rate is written to another
        self._makes_up_kb = MAKES_UP_KB if longest <= USUAL_FRAME else MAKES_UP_LONG_KB
        self._ended = ""  # the name of the closed port
        self._rates: dict[int, float] = {}
        self._speed = TEN_GIGABIT

    @property
    def any(self) -> bool:
        """Whether any queue has a rate."""
        return bool(self._rates)

    def rate_of(self, queue: int) -> float | None:
        return self._rates.get(queue)

    def set_rate(self, queue: int, mbps: float | None) -> None:
        """Raises ValueError for a rate that the NIC cannot keep, PortClosed."""
        if self._ended:
            raise PortClosed(closed(self._ended))
        require("rate_mbps", mbps, float | None, "Mbit/s, or None for no limit")
        self.follow(SPEEDS_MBPS.get(self._nic.LINKS.read().SPEED, 0))
        speed = self._speed
        if mbps is not None and not LEAST_MBPS <= mbps <= speed:
            raise ValueError(
                f"rate_mbps={mbps:g}: the NIC keeps rates from {LEAST_MBPS} Mbit/s to the speed of the link, {speed} "
                "Mbit/s. None ends the limit"
            )
        with self._lock:
            if mbps is None:
                self._rates.pop(queue, None)
            else:
                self._rates[queue] = mbps
            self._write(queue)

    def follow(self, speed: int) -> None:
        """The link has this speed now. The NIC knows rates as parts of it, so they are written again after a change."""
        with self._lock:
            if speed not in (0, self._speed):
                self._speed = speed
                for queue in self._rates:
                    self._write(queue)

    def end(self) -> None:
        """End all limits: a reset does not."""
        with self._lock:
            self._ended = self.port
            for queue in list(self._rates):
                del self._rates[queue]
                self._write(queue)

    def _write(self, queue: int) -> None:
        nic, mbps = self._nic, self._rates.get(queue)
        if mbps is not None:
            nic.RTTBCNRM.write(MMW_SIZE=self._makes_up_kb)
        write_rate(nic, self._first + queue, mbps, self._speed)


class RefusedRates:
    """Of a virtual function: the sentence says who has them."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def rate_of(self, queue: int) -> float | None:
        raise NotOffered(self._sentence)

    def set_rate(self, queue: int, mbps: float | None) -> None:
        raise NotOffered(self._sentence)
