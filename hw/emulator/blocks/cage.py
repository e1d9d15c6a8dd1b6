"""The SFP+ cage: its two-wire bus in I2CCTL, its signals in ESDP (82599 8.2.3.1.4), connected as on an X520 board."""

from __future__ import annotations

from ... import fields as f
from ..engine.library import Engine
from .block import Block, Chip
from .i2c import Module
from .sfp import A2, AS_USUAL, RX_POWER, TX_POWER, SfpModule


class Cage(Block):
    """I2CCTL and ESDP, the module, the cable, the laser."""

    def __init__(self, nic: Chip, engine: Engine) -> None:
        super().__init__(nic, engine)
        self._module: Module | None = None
        self._cable = True

    def reset(self) -> None:
        if self._module is not None:
            self._module.stop()
        self._signals_changed()

    def insert(self, kind: SfpModule | None) -> None:
        """Put a module in, or (None) take it out. SDP2 shows whether there is one, and can interrupt (GPI_SDP2)."""
        self._module = None if kind is None else Module(kind.pages())
        self._signals_changed()
        if self.raw.GPIE.read().SDP2_GPIEN:
            self.raw.EICR.update(GPI_SDP2=1)  # the engine's next step sends the message

    def plug(self, cable: bool) -> None:
        self._cable = cable
        self._signals_changed()

    def trouble(self) -> str:
        """Why the link is down, or ''."""
        if self._module is None:
            return "there is no SFP+ module in the cage"
        if self.raw.ESDP.read().SDP3_DATA:
            return "the module's laser is off (ESDP.SDP3)"
        return "" if self._cable else "the cable is out"

    def _signals_changed(self) -> None:
        self.raw.ESDP.update(SDP2_DATA=int(self._module is not None))
        # ASSUMPTION (datasheet silent): with the laser off the link is down at both ends, because a link partner that
        # receives no light reports a remote fault. The datasheet is about the NIC, not about modules.
        lit = self._module is not None and not self.raw.ESDP.read().SDP3_DATA
        if self._module is not None:
            self._module.put(A2, TX_POWER, AS_USUAL[3] if lit else 0)
            self._module.put(A2, RX_POWER, AS_USUAL[4] if self._cable else 0)
        self.engine.call("nic_set_cable", self._cable and lit)
        self.engine.call("nic_link_update")

    def write_ESDP(self, index: int, value: int) -> None:
        self.raw.ESDP.write(value)
        self._signals_changed()

    def write_I2CCTL(self, index: int, value: int) -> None:
        """CLK_OUT and DATA_OUT release a line (1) or pull it low (0); CLK_IN and DATA_IN show the lines."""
        before, after = self.raw.I2CCTL.read(), f.I2CCTL(value)
        clock, data = after.I2C_CLK_OUT, after.I2C_DATA_OUT
        if self._module is not None:
            released = not self._module.pulls_low  # else data stays low, and the driver cannot make a START or a STOP
            if clock and before.I2C_CLK_OUT and data != before.I2C_DATA_OUT and released:
                (self._module.stop if data else self._module.start)()
            elif clock and not before.I2C_CLK_OUT:
                self._module.rise(bool(data))
            elif before.I2C_CLK_OUT and not clock:
                self._module.fall()
        low = self._module is not None and self._module.pulls_low
        self.raw.I2CCTL.write(
            0, I2C_CLK_OUT=clock, I2C_CLK_IN=clock, I2C_DATA_OUT=data, I2C_DATA_IN=int(data and not low)
        )
