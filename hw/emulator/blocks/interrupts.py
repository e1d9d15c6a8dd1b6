"""Interrupt registers (82599 7.3, 8.2.3.5): what an access does to causes and masks. Their use is in interrupt.c.

The register file keeps causes and masks of vectors 0..63 in EICS_EX and EIMS_EX, other causes in bits 31:16 of EICR and
EIMS. Bits 15:0 of EICR and EIMS show vectors 0..15.
"""

from __future__ import annotations

from ... import fields as f
from .block import Block
from .config_space import VECTORS

QUEUE_BITS = 0xFFFF
OTHER_BITS = 0xFFFF_0000
COUNTER_NS = 4 * 2048  # a unit of ITR_COUNTER: it has the upper seven of nine bits


class Interrupts(Block):
    def _causes(self) -> int:
        return (self.raw.EICR.read() & OTHER_BITS) | (self.raw.EICS_EX[0].read() & QUEUE_BITS)

    def _clear_causes(self, causes: int) -> None:
        self.raw.EICR.write(self.raw.EICR.read() & ~(causes & OTHER_BITS))
        self.raw.EICS_EX[0].write(self.raw.EICS_EX[0].read() & ~(causes & QUEUE_BITS))
        self.engine.call("nic_send_messages")

    def read_EICR(self, index: int) -> int:
        causes = self._causes()
        if not self.raw.GPIE.read().MSIX_MODE:
            self._auto_mask()
        # With GPIE.OCD a read clears only the other causes (8.2.3.5.18).
        self._clear_causes(causes & OTHER_BITS if self.raw.GPIE.read().OCD else causes)
        return causes

    def write_EICR(self, index: int, value: int) -> None:
        self._clear_causes(value)

    def read_EICS(self, index: int) -> int:
        return self._causes()  # Linux reads EICS to see the causes without clearing them

    def write_EICS(self, index: int, value: int) -> None:
        self.raw.EICR.write(self.raw.EICR.read() | (value & OTHER_BITS))
        self.raw.EICS_EX[0].write(self.raw.EICS_EX[0].read() | (value & QUEUE_BITS))
        self.engine.call("nic_send_messages")

    def write_EICS_EX(self, index: int, value: int) -> None:
        self.raw.EICS_EX[index].write(self.raw.EICS_EX[index].read() | value)
        self.engine.call("nic_send_messages")

    def read_EIMS(self, index: int) -> int:
        return (self.raw.EIMS.read() & OTHER_BITS) | (self.raw.EIMS_EX[0].read() & QUEUE_BITS)

    def write_EIMS(self, index: int, value: int) -> None:
        self.raw.EIMS.write(self.raw.EIMS.read() | (value & OTHER_BITS))
        self.write_EIMS_EX(0, value & QUEUE_BITS)

    def write_EIMC(self, index: int, value: int) -> None:
        self.raw.EIMS.write(self.raw.EIMS.read() & ~(value & OTHER_BITS))
        self.write_EIMC_EX(0, value & QUEUE_BITS)

    def read_EIMS_EX(self, index: int) -> int:
        return self.raw.EIMS_EX[index].read()

    def write_EIMS_EX(self, index: int, value: int) -> None:
        self.raw.EIMS_EX[index].write(self.raw.EIMS_EX[index].read() | value)
        self.engine.call("nic_send_messages")

    def write_EIMC_EX(self, index: int, value: int) -> None:
        self.raw.EIMS_EX[index].write(self.raw.EIMS_EX[index].read() & ~value)
        self.engine.call("nic_send_messages")

    def write_EIAM(self, index: int, value: int) -> None:
        self.raw.EIAM.write(value)
        low = self.raw.EIAM_EX[0]
        low.write((low.read() & ~QUEUE_BITS) | (value & QUEUE_BITS))

    def _auto_mask(self) -> None:
        """Without MSI-X, reading EICR masks the causes in EIAM (8.2.3.5.6)."""
        self.write_EIMC(0, self.raw.EIAM.read())

    def write_EITR(self, index: int, value: int) -> None:
        """The counter runs down to the next message, then from the interval again; CNT_WDIS leaves it (8.2.3.5.12)."""
        asked = f.EITR(value)
        self.raw.EITR[index].write(value & self.raw.EITR.row.mask, CNT_WDIS=0, ITR_COUNTER=0)
        if not asked.CNT_WDIS and index < VECTORS:
            self.engine.call("nic_set_interval_left", index, asked.ITR_COUNTER * COUNTER_NS)
            self.engine.call("nic_send_messages")

    def read_EITR(self, index: int) -> int:
        left = self.engine.call("nic_interval_left", index) if index < VECTORS else 0
        return self.raw.EITR[index].read() | f.EITR.compose("EITR", 0, {"ITR_COUNTER": left // COUNTER_NS})

    def write_GPIE(self, index: int, value: int) -> None:
        self.raw.GPIE.write(value)
        self.engine.call("nic_send_messages")

    def write_IVAR(self, index: int, value: int) -> None:
        self.raw.IVAR[index].write(value & 0xBFBF_BFBF)

    def write_IVAR_MISC(self, index: int, value: int) -> None:
        self.raw.IVAR_MISC.write(value & 0xFFFF)
        self.engine.call("nic_send_messages")
