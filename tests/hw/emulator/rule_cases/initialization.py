"""Cases of hw/emulator/rules/initialization.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand


def read_all_but(nic: ByHand, *but: str) -> None:
    for register in (nic.regs.EEC, nic.regs.FWSM, nic.regs.RDRXCTL):
        if register.name not in but:
            register.read()
    nic.receive_queue(0)


def eeprom_awaited(nic: ByHand, wrong: bool) -> None:
    read_all_but(nic, "EEC" if wrong else "")


def firmware_status_read(nic: ByHand, wrong: bool) -> None:
    read_all_but(nic, "FWSM" if wrong else "")


def dma_init_awaited(nic: ByHand, wrong: bool) -> None:
    read_all_but(nic, "RDRXCTL" if wrong else "")


def unknown_register(nic: ByHand, wrong: bool) -> None:
    nic.nic.write32(0x1FFFC if wrong else 0x5200, 5)
