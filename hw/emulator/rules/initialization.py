"""Initialisation after a reset (82599 4.6.3), and writes to offsets without a register (8.2)."""

from __future__ import annotations

from .access import QUEUE_CONTROL, Access
from .findings import NO_REGISTER, WARNING, rule


@rule(
    "4.6.3, 8.2.3.2.1",
    WARNING,
    "EEC.AUTO_RD and EE_PRES are read as 1 before a queue is enabled",
    writes=QUEUE_CONTROL,
)
def eeprom_awaited(now: Access) -> str | None:
    return now.not_read_as(now.regs.EEC, AUTO_RD=1, EE_PRES=1) if now.rises("ENABLE") else None


@rule("4.6.3", WARNING, "FWSM.EXT_ERR_IND is read as 0 before a queue is enabled", writes=QUEUE_CONTROL)
def firmware_status_read(now: Access) -> str | None:
    return now.not_read_as(now.regs.FWSM, EXT_ERR_IND=0) if now.rises("ENABLE") else None


@rule("4.6.3", WARNING, "RDRXCTL.DMAIDONE is read as 1 before a queue is enabled", writes=QUEUE_CONTROL)
def dma_init_awaited(now: Access) -> str | None:
    return now.not_read_as(now.regs.RDRXCTL, DMAIDONE=1) if now.rises("ENABLE") else None


@rule("8.2", WARNING, "Only offsets with a register are written", writes=(NO_REGISTER,))
def unknown_register(now: Access) -> str | None:
    return "the register table has no register at this offset" if now.row is None else None
