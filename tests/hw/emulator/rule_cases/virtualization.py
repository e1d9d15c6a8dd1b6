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
    nic.regs.GPIE.write(VT_MODE=3)
    start_both_directions(nic)


def same_number_of_pools(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.MTQC.write(VT_ENA=1, NUM_TC_OR_Q=1)
    nic.regs.MRQC.write(MRQE=8)
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.GCR_EXT.update(VT_MODE=3)
    start_both_directions(nic)
    nic.regs.GPIE.write(VT_MODE=2 if wrong else 3)
    nic.regs.CTRL_EXT.update(PFRSTD=1)


def pools_cut_while_reception_is_off(nic: ByHand, wrong: bool) -> None:
    if not wrong:
        nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.set_up_reception()
    nic.start_reception()
    nic.regs.PFVTCTL.write(VT_ENA=1, RPL_EN=1)


def no_rsc_with_pools(nic: ByHand, wrong: bool) -> None:
    nic.regs.PFVTCTL.write(VT_ENA=int(wrong))
    nic.regs.RSCCTL[0].write(RSCEN=1)


def no_signature_filters_with_pools(nic: ByHand, wrong: bool) -> None:
    nic.regs.FDIRHKEY.write(1)
    nic.regs.FDIRSKEY.write(2)
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.FDIRCTRL.write(PBALLOC=1, PERFECT_MATCH=int(not wrong))


def start_both_directions(nic: ByHand) -> None:
    nic.set_up_reception()
    nic.start_reception()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
