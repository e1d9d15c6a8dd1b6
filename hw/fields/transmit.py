"""Transmit, the DCB arbiters, DCA (82599 8.2.3.9 to 8.2.3.11)."""

from __future__ import annotations

from ixrings.hw.register import Word, bit, bits

# 8.2.3.9 transmit


class DTXMXSZRQ(Word):
    MAX_BYTES_NUM_REQ = bits(11, 0)


class DMATXCTL(Word):
    TE = bit(0)
    GDV = bit(3)
    VT = bits(31, 16)


class DTXTCPFLGL(Word):
    """What each segment of a TSO keeps of the TCP flags."""

    TCP_FLG_FIRST_SEG = bits(11, 0)
    TCP_FLG_MID_SEG = bits(27, 16)


class DTXTCPFLGH(Word):
    TCP_FLG_LST_SEG = bits(11, 0)


class TXDCTL(Word):
    PTHRESH = bits(6, 0)
    HTHRESH = bits(14, 8)
    WTHRESH = bits(22, 16)
    ENABLE = bit(25)
    SWFLSH = bit(26)


class TDWBAL(Word):
    HEAD_WB_EN = bit(0)
    HEADWB_LOW = bits(31, 2)


class TXPBSIZE(Word):
    SIZE = bits(19, 10)  # KB


class MNGTXMAP(Word):
    MAP = bits(2, 0)  # the traffic class of the management controller's frames


class MTQC(Word):
    RT_ENA = bit(0)
    VT_ENA = bit(1)
    NUM_TC_OR_Q = bits(3, 2)


class TXPBTHRESH(Word):
    THRESH = bits(9, 0)  # KB


# 8.2.3.10 DCB


class RTRPCS(Word):
    RRM = bit(1)
    RAC = bit(2)
    LRPB = bits(18, 16)


class RTTDCS(Word):
    TDPAC = bit(0)
    VMPAC = bit(1)
    TDRM = bit(4)
    ARBDIS = bit(6)
    LTTDESC = bits(19, 17)
    BDPM = bit(22)
    BPBFSM = bit(23)
    SPEED_CHG = bit(31)


class RTTPCS(Word):
    TPPAC = bit(5)
    TPRM = bit(8)
    ARBD = bits(31, 22)


class UP2TC(Word):
    """RTRUP2TC and RTTUP2TC: the traffic class of each user priority."""

    UP0MAP = bits(2, 0)
    UP1MAP = bits(5, 3)
    UP2MAP = bits(8, 6)
    UP3MAP = bits(11, 9)
    UP4MAP = bits(14, 12)
    UP5MAP = bits(17, 15)
    UP6MAP = bits(20, 18)
    UP7MAP = bits(23, 21)


class TC_CREDITS(Word):
    """RTRPT4C, RTTDT2C, RTTPT2C: what an arbiter gives a traffic class; in units of 64 bytes."""

    CRQ = bits(8, 0)  # refilled each time
    BWG = bits(11, 9)  # bandwidth group
    MCL = bits(23, 12)  # at most
    GSP = bit(30)  # strict priority in its group
    LSP = bit(31)  # strict priority of the link


class RTTDQSEL(Word):
    TXDQ_IDX = bits(6, 0)


class RTTDT1C(Word):
    CRQ = bits(13, 0)


class RTTBCNRC(Word):
    RF_DEC = bits(13, 0)  # 1/16384
    RF_INT = bits(23, 14)
    RS_ENA = bit(31)


# 8.2.3.11 DCA


class DCA_RXCTRL(Word):
    RXDCA_DESC = bit(5)
    RXDCA_HDR = bit(6)
    RXDCA_PAYL = bit(7)
    RXDATADESCRO = bit(9)
    RXDESCWBRO = bit(11)  # must be 0
    MUST_BE_ZERO = bit(12)  # "Default 1b; Reserved. Must be set to 0" (8.2.3.11.1)
    RXDATAWRITERO = bit(13)
    RXHEADWRITERO = bit(15)
    CPUID = bits(31, 24)


class DCA_TXCTRL(Word):
    TXDCA_DESC = bit(5)
    TXDESCRDRO = bit(9)
    TXDESCWBRO = bit(11)  # relaxed ordering of write-backs; off for head write-back (7.2.3.5.2)
    TXDATARDRO = bit(13)
    CPUID = bits(31, 24)


class DCA_ID(Word):
    FUNCTION_NUMBER = bits(2, 0)
    DEVICE_NUMBER = bits(7, 3)
    BUS_NUMBER = bits(15, 8)


class DCA_CTRL(Word):
    DCA_DIS = bit(0)
    DCA_MODE = bits(4, 1)
