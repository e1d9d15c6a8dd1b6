"""Cases of hw/emulator/rules/virtualization.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand


def mrqc_settings(nic: ByHand, wrong: bool) -> None:
    nic.regs.MRQC.write(MRQE=6 if wrong else 5)


def virtualization_everywhere(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.MTQC.write(VT_ENA=1, NUM_TC_OR_Q=1)
    nic.regs.MRQC.write(MRQE=8)
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.GCR_EXT.update(VT_MODE=0 if wrong else 3)
    start_both_directions(nic)


def start_both_directions(nic: ByHand) -> None:
    nic.set_up_reception()
    nic.start_reception()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
