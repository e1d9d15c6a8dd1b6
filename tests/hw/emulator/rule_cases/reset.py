"""Cases of hw/emulator/rules/reset.py."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.by_hand import ByHand

from .steps import bring_up, disable_master, disable_queues, software_reset


def access_after_reset(nic: ByHand, access: Callable[[], object], wait_s: float, wrong: bool) -> None:
    """Access the NIC `wait_s` after a reset; when `wrong`, at once, and again if a busy machine made it too late."""
    for _ in range(100 if wrong else 1):
        nic.nic.reset()
        software_reset(nic, 0 if wrong else wait_s)
        access()
        if nic.nic.violations:
            return


def queues_off_before_master_disable(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    if not wrong:
        disable_queues(nic)
    disable_master(nic)


def master_disable_before_reset(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    disable_queues(nic)
    if not wrong:
        disable_master(nic)
    nic.regs.CTRL.update(RST=1)


def wait_before_reading_ctrl(nic: ByHand, wrong: bool) -> None:
    access_after_reset(nic, nic.regs.CTRL.read, 0.0011, wrong)


def wait_before_programming(nic: ByHand, wrong: bool) -> None:
    access_after_reset(nic, lambda: nic.regs.EIMC.write(0x7FFF_FFFF), 0.011, wrong)


def interrupts_masked_after_reset(nic: ByHand, wrong: bool) -> None:
    software_reset(nic)
    if not wrong:
        nic.regs.EIMC.write(0x7FFF_FFFF)
    nic.regs.EIMS.write(LSC=1)


def buffers_cleared_in_loopback(nic: ByHand, wrong: bool) -> None:
    nic.regs.HLREG0.update(LPBK=int(not wrong))
    nic.regs.GCR_EXT.update(BUFFERS_CLEAR_FUNC=1)
