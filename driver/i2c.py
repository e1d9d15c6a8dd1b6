"""The two-wire bus to the SFP+ cage, moved bit by bit through I2CCTL (82599 8.2.3.1.4; SFF-8472 4).

Both wires are open drain: CLK_OUT and DATA_OUT let go of a line (1) or pull it low (0), CLK_IN and DATA_IN are the lines.
"""

from __future__ import annotations

import time

from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers

CLOCKS_A_BYTE = 9  # its bits and the acknowledgement
HALF_CLOCK_NS = 5_000  # standard mode, 100 kHz: what every module understands
STRETCH_S = 0.01  # a module may hold the clock back while it fetches a byte


class NobodyAnswers(DeviceError):
    """No device acknowledged its address."""


class I2c:
    """The bus master, which we are alone."""

    def __init__(self, nic: Registers) -> None:
        self._register = nic.I2CCTL
        self._clock = self._data = 1

    def read(self, address: int, first: int, count: int) -> bytes:
        """`count` bytes from `first` on of the device at bus `address` (0xA0, even). Raises NobodyAnswers, DeviceError."""
        try:
            self._free()
            self._start()
            if not self._write(address):
                raise NobodyAnswers(f"no device answers at {address:#x} on the module's two-wire bus")
            acknowledged = self._write(first)
            self._start()
            if not acknowledged or not self._write(address | 1):
                raise DeviceError(f"the module at {address:#x} stopped answering; is it seated well?")
            return bytes(self._read(more=number < count - 1) for number in range(count))
        finally:
            self._stop()

    # ---- bytes ----

    def _write(self, byte: int) -> bool:
        """Whether it was acknowledged."""
        for position in range(7, -1, -1):
            self._bit(byte >> position & 1)
        return not self._bit(1)

    def _read(self, more: bool) -> int:
        byte = 0
        for _ in range(8):
            byte = byte << 1 | self._bit(1)
        self._bit(0 if more else 1)
        return byte

    # ---- bits ----

    def _free(self) -> None:
        """A module whose last reader stopped in the middle of a byte may keep the data line, and then sees no START: clocks end its byte, at
        most nine (UM10204 3.1.16). The line goes up while the clock is high, so START and STOP come before the clock falls again."""
        for _ in range(CLOCKS_A_BYTE):
            self._set(data=1)
            if self._raise_clock():
                break
            self._set(clock=0)
        self._set(data=0)
        self._set(data=1)

    def _start(self) -> None:
        """Data falls while the clock is high."""
        self._set(data=1)
        self._raise_clock()
        self._set(data=0)
        self._set(clock=0)

    def _stop(self) -> None:
        """Data rises while the clock is high."""
        self._set(data=0)
        self._raise_clock()
        self._set(data=1)

    def _bit(self, data: int) -> int:
        """One clock; returns what the line was."""
        self._set(data=data)
        seen = self._raise_clock()
        self._set(clock=0)
        return seen

    def _raise_clock(self) -> int:
        """Returns the data line. Raises RegisterTimeout when the module keeps the clock low."""
        self._set(clock=1)
        return self._register.wait(I2C_CLK_IN=1, timeout=STRETCH_S).I2C_DATA_IN

    def _set(self, *, clock: int | None = None, data: int | None = None) -> None:
        self._clock, self._data = self._clock if clock is None else clock, self._data if data is None else data
        self._register.write(0, I2C_CLK_OUT=self._clock, I2C_DATA_OUT=self._data)
        end = time.perf_counter_ns() + HALF_CLOCK_NS
        while time.perf_counter_ns() < end:  # shorter than any sleep
            pass
