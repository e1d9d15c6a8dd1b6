"""Cases of hw/emulator/rules/receive.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand

from .steps import bring_up, disable_queues, enable_receive_queue, set_up_flow_director, software_reset


def fctrl_while_reception_is_off(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.RXCTRL.write(RXEN=int(wrong))
    nic.regs.FCTRL.write(BAM=1)


def rxcsum_while_reception_is_off(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.RXCTRL.write(RXEN=int(wrong))
    nic.regs.RXCSUM.write(PCSD=1)


def rxen_with_the_path_stopped(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.SECRXCTRL.update(RX_DIS=1)
    if not wrong:
        nic.regs.SECRXSTAT.read()
    nic.regs.RXCTRL.write(RXEN=1)


def crc_strip_agrees(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.HLREG0.update(RXCRCSTRP=int(not wrong))
    nic.start_reception()


def rdrxctl_settings(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.RDRXCTL.update(RSCACKC=int(not wrong))
    nic.start_reception()


def srrctl_values(nic: ByHand, wrong: bool) -> None:
    enable_receive_queue(nic, BSIZEPACKET=17 if wrong else 16)


def buffers_stay(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.SRRCTL[0].update(BSIZEPACKET=4 if wrong else 2, DROP_EN=1)


def no_header_split(nic: ByHand, wrong: bool) -> None:
    enable_receive_queue(nic, DESCTYPE=5 if wrong else 1)


def descriptor_type_here(nic: ByHand, wrong: bool) -> None:
    enable_receive_queue(nic, DESCTYPE=2 if wrong else 0)


def jumbo_frames_enabled(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.MAXFRS.write(MFS=9000)
    nic.regs.HLREG0.update(JUMBOEN=int(not wrong))
    nic.start_reception()


def filter_tables_initialized(nic: ByHand, wrong: bool) -> None:
    software_reset(nic)
    nic.set_up_reception()
    if wrong:
        software_reset(nic)
        nic.regs.RDRXCTL.update(CRCSTRIP=1, RSCFRSTSIZE=0, RSCACKC=1, FCOE_WRFIX=1)
        nic.regs.FCRTH[0].write(RTH=0x3D00)
    nic.start_reception()


def receive_packet_buffer(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    set_up_flow_director(nic)
    nic.regs.RXPBSIZE[0].write(SIZE=512 if wrong else 448)
    nic.regs.FCRTH[0].write(RTH=0x3500)
    nic.start_reception()


def receive_packet_buffer_divided_first(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.RXCTRL.write(RXEN=int(wrong))
    nic.regs.RXPBSIZE[0].write(SIZE=256)


def loopback_with_link(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.HLREG0.update(LPBK=1)
    nic.regs.AUTOC.update(FLU=int(not wrong))
    nic.start_reception()


def no_snoop_disabled(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.CTRL_EXT.update(NS_DIS=int(not wrong))
    nic.regs.RDT[0].write(63)


def dca_rxctrl_bit_12(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.DCA_RXCTRL[0].update(MUST_BE_ZERO=int(wrong))
    disable_queues(nic)
