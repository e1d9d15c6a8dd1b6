"""The registers of the IEEE 1588 clock (82599 7.9, 8.2.3.26). The clock and the time stamps are in timestamp.c."""

from __future__ import annotations

from ... import fields as f
from ...register import ALL_ONES
from .block import Block

HIGH = ALL_ONES << 32


class Clock(Block):
    def read_SYSTIML(self, index: int) -> int:
        time = self.engine.call("nic_time")
        self.raw.SYSTIMH.write(time >> 32)  # latched for the read that follows (7.9.3.1)
        return time & ALL_ONES

    def write_SYSTIML(self, index: int, value: int) -> None:
        self.engine.call("nic_set_time", self.engine.call("nic_time") & HIGH | value)

    def write_SYSTIMH(self, index: int, value: int) -> None:
        self.engine.call("nic_set_time", value << 32 | self.engine.call("nic_time") & ALL_ONES)

    def write_TIMINCA(self, index: int, value: int) -> None:
        self.engine.call("nic_time")  # until now the clock ran at the previous rate
        self.raw.TIMINCA.write(value)

    def write_TIMADJH(self, index: int, value: int) -> None:
        """Adjust the time.

        ASSUMPTION (datasheet not at hand): at once, not in steps, because no source gives the time that it takes.
        """
        asked = f.TIMADJH(value)
        change = asked.TADJH << 32 | self.raw.TIMADJL.read()
        time = self.engine.call("nic_time") + (-change if asked.SIGN else change)
        self.engine.call("nic_set_time", time & (HIGH | ALL_ONES))
        self.raw.TIMADJH.write(value)

    def read_RXSTMPH(self, index: int) -> int:
        self.raw.TSYNCRXCTL.update(RXTT=0)
        return self.raw.RXSTMPH.read()

    def read_TXSTMPH(self, index: int) -> int:
        self.raw.TSYNCTXCTL.update(TXTT=0)
        return self.raw.TXSTMPH.read()
