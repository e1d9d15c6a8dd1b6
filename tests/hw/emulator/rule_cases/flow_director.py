"""Cases of hw/emulator/rules/flow_director.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand

from .steps import set_up_flow_director


def director_keys_first(nic: ByHand, wrong: bool) -> None:
    nic.regs.FDIRHKEY.write(1)
    if not wrong:
        nic.regs.FDIRSKEY.write(2)
    nic.regs.FDIRCTRL.write(PBALLOC=1)


def director_init_awaited(nic: ByHand, wrong: bool) -> None:
    set_up_flow_director(nic)
    nic.regs.FDIRCTRL.write(PBALLOC=1)
    if not wrong:
        nic.regs.FDIRCTRL.read()
    nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)


def director_command_awaited(nic: ByHand, wrong: bool) -> None:
    set_up_flow_director(nic)
    for signature in range(2):
        nic.regs.FDIRHASH.write(SIGNATURE_SW_INDEX=signature)
        nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)
        if not wrong:
            nic.regs.FDIRCMD.read()


def director_hash_first(nic: ByHand, wrong: bool) -> None:
    set_up_flow_director(nic, hash_written=not wrong)
    nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)


def director_filter_leads_somewhere(nic: ByHand, wrong: bool) -> None:
    set_up_flow_director(nic)
    nic.regs.FDIRCMD.write(CMD=1, DROP=int(not wrong))


def director_masks_first(nic: ByHand, wrong: bool) -> None:
    set_up_flow_director(nic)
    nic.regs.FDIRM.write(FLEX=1)
    nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)
    if not wrong:
        nic.regs.FDIRCMD.read()
        nic.regs.FDIRCMD.write(CMD=2)
    nic.regs.FDIRM.write(FLEX=1, L4P=1)
