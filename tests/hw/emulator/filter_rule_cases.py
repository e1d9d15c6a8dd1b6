"""As rule_cases.py: flow control, which queue a frame goes to, and what this NIC is told to do and does not: RSC, DCA, virtualisation."""

from __future__ import annotations

from tests.hw.emulator.rule_cases import direct, enable_with
from tests.support.by_hand import ByHand, Ring

# ---- flow_control.py ----


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
    nic.regs.FCRTH[0].write(RTH=0x3FFF)  # 32 bytes less than all
    if wrong:
        direct(nic)
        nic.regs.RXPBSIZE[0].write(SIZE=448)
    nic.start_reception()


def pause_renewed_in_time(nic: ByHand, wrong: bool) -> None:
    nic.regs.FCTTV[0].write(TTV_0=0x8000)
    nic.regs.FCRTV.write(FC_REFRESH_TH=0x8000 if wrong else 0x4000)


def one_kind_of_pause_frames(nic: ByHand, wrong: bool) -> None:
    nic.regs.MFLCN.write(RFCE=1)
    nic.regs.FCCFG.write(TFCE=2 if wrong else 1)


# ---- coalescing.py ----


def _coalesce(nic: ByHand, **srrctl: int) -> None:
    nic.regs.RDRXCTL.update(CRCSTRIP=1)
    nic.regs.RSCCTL[0].write(RSCEN=1, MAXDESC=3)
    enable_with(nic, **srrctl)


def rsc_buffers(nic: ByHand, wrong: bool) -> None:
    nic.regs.RSCDBU.write(RSCACKDIS=1)
    _coalesce(nic, BSIZEPACKET=5 if wrong else 4)  # 16 of them


def rsc_settings(nic: ByHand, wrong: bool) -> None:
    nic.regs.RSCDBU.write(RSCACKDIS=int(not wrong))
    _coalesce(nic, BSIZEPACKET=2)


# ---- filters.py ----


def rss_programmed(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    for register in [*nic.regs.RSSRK, *nic.regs.RETA][int(wrong) :]:
        register.write(1)
    nic.regs.MRQC.write(MRQE=1, IPV4=1)
    nic.start_reception()


def ether_type_not_ip(nic: ByHand, wrong: bool) -> None:
    nic.regs.ETQF[0].write(ETYPE=0x0800 if wrong else 0x88F7, FILTER_EN=1)


def ether_types_differ(nic: ByHand, wrong: bool) -> None:
    nic.regs.ETQF[0].write(ETYPE=0x88F7, FILTER_EN=1, UP_EN=1, UP=3)
    nic.regs.ETQF[5].write(ETYPE=0x88F7, FILTER_EN=1, UP_EN=1, UP=3 if wrong else 4)


def five_tuple_priority(nic: ByHand, wrong: bool) -> None:
    nic.regs.FTQF[7].write(QUEUE_ENABLE=1, POOL_MASK=1, PRIORITY=int(not wrong))


def five_tuple_without_pool(nic: ByHand, wrong: bool) -> None:
    nic.regs.FTQF[7].write(QUEUE_ENABLE=1, POOL_MASK=int(not wrong), PRIORITY=1)


def five_tuple_bit_19(nic: ByHand, wrong: bool) -> None:
    nic.regs.L34TIMIR[7].write(SIZE_BP=1, RX_QUEUE=3, MUST_BE_ONE=int(not wrong))


# ---- flow_director.py ----


def director_keys_first(nic: ByHand, wrong: bool) -> None:
    nic.regs.FDIRHKEY.write(1)
    if not wrong:
        nic.regs.FDIRSKEY.write(2)
    nic.regs.FDIRCTRL.write(PBALLOC=1)


def director_init_awaited(nic: ByHand, wrong: bool) -> None:
    direct(nic)
    nic.regs.FDIRCTRL.write(PBALLOC=1)
    if not wrong:
        nic.regs.FDIRCTRL.read()
    nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)


def director_command_awaited(nic: ByHand, wrong: bool) -> None:
    direct(nic)
    for signature in range(2):
        nic.regs.FDIRHASH.write(SIGNATURE_SW_INDEX=signature)
        nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)
        if not wrong:
            nic.regs.FDIRCMD.read()


def director_hash_first(nic: ByHand, wrong: bool) -> None:
    direct(nic, hash_written=not wrong)
    nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)


def director_filter_leads_somewhere(nic: ByHand, wrong: bool) -> None:
    direct(nic)
    nic.regs.FDIRCMD.write(CMD=1, DROP=int(not wrong))


def director_masks_first(nic: ByHand, wrong: bool) -> None:
    direct(nic)
    nic.regs.FDIRM.write(FLEX=1)
    nic.regs.FDIRCMD.write(CMD=1, QUEUE_EN=1)
    if not wrong:
        nic.regs.FDIRCMD.read()
        nic.regs.FDIRCMD.write(CMD=2)
    nic.regs.FDIRM.write(FLEX=1, L4P=1)


# ---- dca.py ----


def dca_where_it_is_on(nic: ByHand, wrong: bool) -> None:
    nic.regs.DCA_CTRL.write(DCA_DIS=int(wrong))
    nic.regs.DCA_TXCTRL[2].update(TXDCA_DESC=1)


def receive_writeback_ordering(nic: ByHand, wrong: bool) -> None:
    nic.look_around()
    nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.DCA_RXCTRL[0].update(RXDESCWBRO=int(wrong))
    nic.regs.RXDCTL[0].write(ENABLE=1)


# ---- virtualization.py ----


def mrqc_settings(nic: ByHand, wrong: bool) -> None:
    nic.regs.MRQC.write(MRQE=6 if wrong else 5)


def virtualization_everywhere(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.MTQC.write(VT_ENA=1, NUM_TC_OR_Q=1)
    nic.regs.MRQC.write(MRQE=8)
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.GCR_EXT.update(VT_MODE=0 if wrong else 3)
    _both_ways(nic)


def _both_ways(nic: ByHand) -> None:
    nic.set_up_reception()
    nic.start_reception()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
