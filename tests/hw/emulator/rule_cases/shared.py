"""Cases of hw/emulator/rules/shared.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand


def take_semaphores(nic: ByHand, **semaphores: int) -> None:
    nic.regs.SWSM.read()
    nic.regs.SWSM.update(SWESMBI=1)
    nic.regs.SW_FW_SYNC.update(**semaphores)
    nic.regs.SWSM.write(0)


def semaphore_for_sw_fw_sync(nic: ByHand, wrong: bool) -> None:
    if wrong:
        nic.regs.SW_FW_SYNC.update(SW_EEP_SM=1)
    else:
        take_semaphores(nic, SW_EEP_SM=1)


def semaphore_for_phy(nic: ByHand, wrong: bool) -> None:
    take_semaphores(nic, SW_PHY_SM0=int(not wrong))
    nic.regs.MSCA.write(OPCODE=3, MDICMD=1)


def firmware_comes_first(nic: ByHand, wrong: bool) -> None:
    nic.nic.firmware_takes(FW_PHY_SM0=1, FW_EEP_SM=int(wrong))
    take_semaphores(nic, SW_EEP_SM=1)


def mdio_access_awaited(nic: ByHand, wrong: bool) -> None:
    take_semaphores(nic, SW_PHY_SM0=1)
    for register in range(2):
        nic.regs.MSCA.write(OPCODE=3, MDIADD=register, MDICMD=1)
        if not wrong:
            nic.nic.step(ns=10_000)
            nic.regs.MSCA.wait(MDICMD=0, timeout=0.1)


def semaphore_for_eeprom(nic: ByHand, wrong: bool) -> None:
    take_semaphores(nic, SW_EEP_SM=int(not wrong))
    nic.regs.EEC.update(EE_REQ=1)


def eerd_done_awaited(nic: ByHand, wrong: bool) -> None:
    for address in range(2):
        nic.regs.EERD.write(START=1, ADDR=address)
        if not wrong:
            nic.regs.EERD.read()
