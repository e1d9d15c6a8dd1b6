"""Device control and reset (82599 4.2.1, 8.2.3.1), semaphores (10.5.4), the security blocks' ready bits (8.2.3.12)."""

from __future__ import annotations

from ... import fields as f
from ..engine.library import Engine
from ..faults import Fault
from .block import Block, Chip


class Control(Block):
    def reset(self) -> None:
        """This chip is one of those without security offload: drivers see it, and offer neither IPsec nor LinkSec."""
        self.raw.SECTXSTAT.update(SECTX_OFF_DIS=1)
        self.raw.SECRXSTAT.update(SECRX_OFF_DIS=1)

    def write_CTRL(self, index: int, value: int) -> None:
        asked = f.CTRL(value)
        if asked.RST or asked.LRST:
            self.nic.reset_registers()
            if Fault.RESET in self.nic.injected:
                self.raw.CTRL.write(RST=1)
            return
        # GIO_DIS reads back 1 until a reset (5.2.5.3.2); the engine is frozen, so no request is outstanding.
        self.raw.CTRL.write(value, RST=0, LRST=0)
        self.raw.STATUS.update(GIO_MASTER_EN=1 - asked.GIO_DIS)
        self.nic.update_bus_master()

    def write_SECRXCTRL(self, index: int, value: int) -> None:
        # No frame is ever between the MAC and the packet buffer, so the path is empty at once: SECRX_RDY stays 1.
        self.raw.SECRXCTRL.write(value & self.raw.SECRXCTRL.row.mask, SECRX_DIS=1)

    def write_SECTXCTRL(self, index: int, value: int) -> None:
        self.raw.SECTXCTRL.write(value & self.raw.SECTXCTRL.row.mask, SECTX_DIS=1)


class Semaphores(Block):
    """SWSM and SW_FW_SYNC (10.5.4). The firmware holds what the last `firmware_takes` named, also after a reset."""

    def __init__(self, nic: Chip, engine: Engine) -> None:
        super().__init__(nic, engine)
        self._register, self._resources = 0, f.SW_FW_SYNC()

    def reset(self) -> None:
        self.raw.FWSM.update(FWSMBI=self._register)
        self.raw.SW_FW_SYNC.write(self.raw.SW_FW_SYNC.read() & self.raw.SW_FW_SYNC.row.mask | self._resources)

    def firmware_takes(self, register: bool, resources: f.SW_FW_SYNC) -> None:
        self._register, self._resources = int(register), resources
        self.reset()

    def read_SWSM(self, index: int) -> int:
        value = self.raw.SWSM.read()
        self.raw.SWSM.update(SMBI=1)  # the reader of a 0 has taken it
        return value

    def write_SWSM(self, index: int, value: int) -> None:
        asked = f.SWSM(value)
        # A write can release SMBI, but not take it.
        self.raw.SWSM.write(
            SMBI=asked.SMBI & self.raw.SWSM.read().SMBI, SWESMBI=asked.SWESMBI & ~self.raw.FWSM.read().FWSMBI
        )
