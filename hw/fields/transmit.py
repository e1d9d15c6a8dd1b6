"""Transmit, the DCB arbiters, DCA (82599 8.2.3.9 to 8.2.3.11)."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word

# 8.2.3.9 transmit


class DTXMXSZRQ(Word):
    MAX_BYTES_NUM_REQ = bits(11, 0, "most bytes of outstanding reads, in 256")


class DMATXCTL(Word):
    TE = bit(0, "transmit enable")
    GDV = bit(3, "frames carry two tags (global double VLAN)")
    VT = bits(31, 16, "EtherType of the tag that is inserted")


class DTXTCPFLGL(Word):
    """DTXTCPFLGL and DTXTCPFLGH: the TCP flags that each segment of a TSO keeps."""

    TCP_FLG_FIRST_SEG = bits(11, 0, "TCP flags that the first segment keeps")
    TCP_FLG_MID_SEG = bits(27, 16, "TCP flags that the middle segments keep")


class DTXTCPFLGH(Word):
    TCP_FLG_LST_SEG = bits(11, 0, "TCP flags that the last segment keeps")


class TXDCTL(Word):
    PTHRESH = bits(6, 0, "prefetch when the NIC holds fewer descriptors")
    HTHRESH = bits(14, 8, "prefetch when the host has at least this many ready")
    WTHRESH = bits(22, 16, "write back when this many are done")
    ENABLE = bit(25)
    SWFLSH = bit(26, "software flush: write all descriptors back")


class TDWBAL(Word):
    HEAD_WB_EN = bit(0, "head write-back enable")
    HEADWB_LOW = bits(31, 2, "address of the head write-back word")


class TXPBSIZE(Word):
    SIZE = bits(19, 10, "in KB")


class MNGTXMAP(Word):
    MAP = bits(2, 0, "traffic class of the management controller's frames")


class MTQC(Word):
    RT_ENA = bit(0, "DCB mode")
    VT_ENA = bit(1, "virtualisation mode")
    NUM_TC_OR_Q = bits(3, 2, "number of traffic classes, or of queues in a pool")


class TXPBTHRESH(Word):
    THRESH = bits(9, 0, "free space that is enough for a packet, in KB")


# 8.2.3.10 DCB


class RTRPCS(Word):
    RRM = bit(1, "receive recycle mode")
    RAC = bit(2, "receive arbitration: 1 weighted strict priority")
    LRPB = bits(18, 16, "packet buffer that was served last")


class RTTDCS(Word):
    TDPAC = bit(0, "arbitration of traffic classes: 1 weighted strict priority")
    VMPAC = bit(1, "arbitration of pools: 1 weighted")
    TDRM = bit(4, "transmit recycle mode")
    ARBDIS = bit(6, "arbiter off")
    LTTDESC = bits(19, 17, "traffic class served last")
    BDPM = bit(22, "bypass the data pipe monitor")
    BPBFSM = bit(23, "bypass the packet buffer's free space monitor")
    SPEED_CHG = bit(31, "link speed has changed")


class RTTPCS(Word):
    TPPAC = bit(5, "arbitration: 1 strict priority")
    TPRM = bit(8, "transmit packet recycle mode")
    ARBD = bits(31, 22, "delay of the arbiter")


class UP2TC(Word):
    """RTRUP2TC and RTTUP2TC: the traffic class of each user priority."""

    UP0MAP = bits(2, 0, "traffic class of user priority 0")
    UP1MAP = bits(5, 3, "traffic class of user priority 1")
    UP2MAP = bits(8, 6, "traffic class of user priority 2")
    UP3MAP = bits(11, 9, "traffic class of user priority 3")
    UP4MAP = bits(14, 12, "traffic class of user priority 4")
    UP5MAP = bits(17, 15, "traffic class of user priority 5")
    UP6MAP = bits(20, 18, "traffic class of user priority 6")
    UP7MAP = bits(23, 21, "traffic class of user priority 7")


class TC_CREDITS(Word):
    """RTRPT4C, RTTDT2C and RTTPT2C: the credits of a traffic class, in 64 bytes."""

    CRQ = bits(8, 0, "credits that each refill adds")
    BWG = bits(11, 9, "bandwidth group")
    MCL = bits(23, 12, "most credits")
    GSP = bit(30, "strict priority in its group")
    LSP = bit(31, "strict priority of the link")


class RTTDQSEL(Word):
    TXDQ_IDX = bits(6, 0, "queue that RTTDT1C and RTTBCNRC access")


class RTTDT1C(Word):
    CRQ = bits(13, 0, "credits that each refill adds")


class RTTBCNRC(Word):
    RF_DEC = bits(13, 0, "link speed / queue's rate: fraction, in 1/16384")
    RF_INT = bits(23, 14, "link speed / queue's rate: integer part")
    RS_ENA = bit(31, "rate scheduler enable")


class RTTBCNRM(Word):
    MMW_SIZE = bits(10, 0, "KB that a queue makes up after a delay: 4, or 20 with frames of 9.5 KB")


# 8.2.3.11 DCA


class DCA_RXCTRL(Word):
    RXDCA_DESC = bit(5, "DCA for descriptors")
    RXDCA_HDR = bit(6, "DCA for headers")
    RXDCA_PAYL = bit(7, "DCA for payload")
    RXDATADESCRO = bit(9, "relaxed ordering of descriptor reads")
    RXDESCWBRO = bit(11, "relaxed ordering of descriptor write-backs; must be 0")
    MUST_BE_ZERO = bit(12, "reserved: the default is 1, and software must write 0 (8.2.3.11.1)")
    RXDATAWRITERO = bit(13, "relaxed ordering of data")
    RXHEADWRITERO = bit(15, "relaxed ordering of headers")
    CPUID = bits(31, 24, "processor that DCA addresses")


class DCA_TXCTRL(Word):
    TXDCA_DESC = bit(5, "DCA for descriptors")
    TXDESCRDRO = bit(9, "relaxed ordering of descriptor reads")
    TXDESCWBRO = bit(11, "relaxed ordering of write-backs; off for head write-back (7.2.3.5.2)")
    TXDATARDRO = bit(13, "relaxed ordering of data")
    CPUID = bits(31, 24, "processor that DCA addresses")


class DCA_ID(Word):
    FUNCTION_NUMBER = bits(2, 0)
    DEVICE_NUMBER = bits(7, 3)
    BUS_NUMBER = bits(15, 8)


class DCA_CTRL(Word):
    DCA_DIS = bit(0, "DCA off")
    DCA_MODE = bits(4, 1, "legacy or DCA 1.0")
