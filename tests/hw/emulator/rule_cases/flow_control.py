"""Cases of hw/emulator/rules/flow_control.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand

from .steps import set_up_flow_director


def pause_threshold_set(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.FCRTH[0].write(RTH=0 if wrong else 0x3D00)
    nic.start_reception()


def crc_of_pause_frames(nic: ByHand, wrong: bool) -> None:
    nic.regs.HLREG0.update(TXCRCEN=int(not wrong))
    nic.regs.FCCFG.write(TFCE=1)


def pause_frames_complete(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.FCRTL[0].write(RTL=0x3000, XONE=1)
    nic.regs.FCRTH[0].write(RTH=0x3D00, FCEN=1)
    nic.regs.FCTTV[0].write(0 if wrong else 0xFFFF_FFFF)
    nic.regs.FCCFG.write(TFCE=1)
    nic.start_reception()


def pause_thresholds_ordered(nic: ByHand, wrong: bool) -> None:
    nic.regs.FCRTL[0].write(RTL=0x3D00 if wrong else 0x3000, XONE=1)
    nic.regs.FCRTH[0].write(RTH=0x3D00, FCEN=1)


def pause_threshold_within_buffer(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.RXPBSIZE[0].write(SIZE=512)
    nic.regs.FCRTH[0].write(RTH=0x3FFF)  # 32 bytes less than the buffer
    if wrong:
        set_up_flow_director(nic)
        nic.regs.RXPBSIZE[0].write(SIZE=448)
    nic.start_reception()


def pause_renewed_in_time(nic: ByHand, wrong: bool) -> None:
    nic.regs.FCTTV[0].write(TTV_0=0x8000)
    nic.regs.FCRTV.write(FC_REFRESH_TH=0x8000 if wrong else 0x4000)


def one_kind_of_pause_frames(nic: ByHand, wrong: bool) -> None:
    nic.regs.MFLCN.write(RFCE=1)
    nic.regs.FCCFG.write(TFCE=2 if wrong else 1)
