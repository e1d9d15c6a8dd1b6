"""Cases of hw/emulator/rules/transmit.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand, Ring, frame

from .steps import bring_up, clear_rate_limits


def mtqc_while_stopped(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=int(not wrong))
    nic.regs.MTQC.write(0)


def te_before_queues(nic: ByHand, wrong: bool) -> None:
    nic.read_ready_bits()
    nic.set_up_transmission()
    if not wrong:
        nic.regs.DMATXCTL.update(TE=1)
    nic.transmit_queue(0)


def mtqc_values(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.MTQC.write(RT_ENA=1, NUM_TC_OR_Q=1 if wrong else 2)


def transmit_queue_exists(nic: ByHand, wrong: bool) -> None:
    nic.read_ready_bits()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.transmit_queue(64 if wrong else 63)


def dtxmxszrq_at_most(nic: ByHand, wrong: bool) -> None:
    nic.set_up_transmission()
    nic.regs.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0x10 if wrong else 0xFFF)
    nic.regs.DMATXCTL.update(TE=1)


def rate_limits_cleared(nic: ByHand, wrong: bool) -> None:
    clear_rate_limits(nic, range(1 if wrong else 0, 128))


def rate_of_a_chosen_queue(nic: ByHand, wrong: bool) -> None:
    if not wrong:
        nic.regs.RTTDQSEL.write(0)
    nic.regs.RTTBCNRC.write(0)


def rate_within_the_link(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTBCNRM.write(MMW_SIZE=4)
    nic.regs.RTTDQSEL.write(5)
    nic.regs.RTTBCNRC.write(RS_ENA=1, RF_INT=int(not wrong), RF_DEC=0x2000)


def rate_makes_up_for_delays(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTBCNRM.write(MMW_SIZE=0 if wrong else 4)
    nic.regs.RTTDQSEL.write(5)
    nic.regs.RTTBCNRC.write(RS_ENA=1, RF_INT=10)


def transmit_packet_buffer(nic: ByHand, wrong: bool) -> None:
    nic.set_up_transmission()
    nic.regs.MAXFRS.write(MFS=9728)
    nic.regs.TXPBTHRESH[0].write(THRESH=151 if wrong else 150)
    nic.regs.DMATXCTL.update(TE=1)


def transmit_packet_buffer_divided_first(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.DMATXCTL.update(TE=int(wrong))
    nic.regs.TXPBSIZE[0].write(SIZE=80)


def tcp_flags_while_stopped(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.DMATXCTL.update(TE=int(wrong))
    nic.regs.DTXTCPFLGL.write(0)


def arbiter_runs(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.RTTDCS.update(ARBDIS=int(wrong))
    nic.read_ready_bits()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.transmit_queue(0)


def hthresh_with_pthresh(nic: ByHand, wrong: bool) -> None:
    nic.regs.TXDCTL[3].write(PTHRESH=36, HTHRESH=int(not wrong))


def thresholds_fit_on_chip(nic: ByHand, wrong: bool) -> None:
    nic.regs.TXDCTL[3].write(PTHRESH=36, HTHRESH=1, WTHRESH=4 + wrong)


def head_writeback_alignment(nic: ByHand, wrong: bool) -> None:
    nic.regs.TDWBAL[0].write(0x1008 if wrong else 0x1010, HEAD_WB_EN=1)


def head_writeback_ordering(nic: ByHand, wrong: bool) -> None:
    nic.read_ready_bits()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.place_transmit_ring(0, Ring(nic.nic, 64))
    nic.regs.DCA_TXCTRL[0].update(TXDESCWBRO=int(wrong))
    nic.regs.TXDCTL[0].write(ENABLE=1)


def interval_with_wthresh(nic: ByHand, wrong: bool) -> None:
    bring_up(nic, tx=0)
    nic.regs.IVAR[0].write(INT_ALLOC_1=3, INT_ALLOC_VAL_1=1)
    nic.regs.EITR[3].write(ITR_INTERVAL=0 if wrong else 10)
    nic.tx = [nic.transmit_queue(0, wthresh=8)]
    nic.send(frame())
