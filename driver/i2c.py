"""The two-wire bus to the SFP+ cage, driven bit by bit through I2CCTL (82599 8.2.3.1.4; SFF-8472 4).

Both wires are open drain: CLK_OUT and DATA_OUT release a line (1) or pull it low (0); CLK_IN and DATA_IN read the
lines.
"""

from __future__ import annotations

import time

from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers

CLOCKS_A_BYTE = 9  # eight bits and the acknowledgement
HALF_CLOCK_NS = 5_000  # standard mode, 100 kHz: every module supports it
STRETCH_S = 0.01  # a module may stretch the clock while it fetches a byte


class NotAcknowledged(DeviceError):
    """No device acknowledged its address."""


class I2c:
    """The bus master. There is only this one."""

    def __init__(self, nic: Registers) -> None:
        self._register = nic.I2CCTL
        self._clock = self._data = 1

    def read(self, address: int, first: int, count: int) -> bytes:
        """Read `count` bytes from offset `first` of the device at bus `address` (even, such as 0xA0).

        Raises NotAcknowledged, DeviceError.
        """
        try:
            self._free()
            self._start()
            if not self._write(address):
                raise NotAcknowledged(f"no device answers at {address:#x} on the module's two-wire bus")
            acknowledged = self._write(first)
            self._start()
            if not acknowledged or not self._write(address | 1):
                raise DeviceError(f"the module at {address:#x} stopped answering. Is it fully inserted?")
            return bytes(self._read(more=number < count - 1) for number in range(count))
        finally:
            self._stop()

    # ---- bytes ----

    def _write(self, byte: int) -> bool:
        """Write a byte. Returns whether it was acknowledged."""
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
        """Free the data line (UM10204 3.1.16).

        A module whose last reader stopped in mid-byte may hold the data line low, and then it sees no START. At most
        nine clocks end its byte. The line rises while the clock is high, so START and STOP follow before the clock
        falls.
        """
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
        """Clock one bit. Returns the state of the data line."""
        self._set(data=data)
        seen = self._raise_clock()
        self._set(clock=0)
        return seen

    def _raise_clock(self) -> int:
        """Returns the data line. Raises RegisterTimeout if the module holds the clock low."""
        self._set(clock=1)
        return self._register.wait(I2C_CLK_IN=1, timeout=STRETCH_S).I2C_DATA_IN

    def _set(self, *, clock: int | None = None, data: int | None = None) -> None:
        self._clock, self._data = self._clock if clock is None else clock, self._data if data is None else data
        self._register.write(0, I2C_CLK_OUT=self._clock, I2C_DATA_OUT=self._data)
        end = time.perf_counter_ns() + HALF_CLOCK_NS
        while time.perf_counter_ns() < end:  # shorter than any sleep
            pass
