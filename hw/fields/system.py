"""Statistics, wake-up, manageability, time, virtualisation (82599 8.2.3.23 to 8.2.3.27)."""

from __future__ import annotations

from ixrings.hw.register import Word, bit, bits

# 8.2.3.23 statistics


class QUEUE_MAP(Word):
    """RQSMR and TQSM: which of the 16 counter sets each of four queues uses."""

    Q_MAP_0 = bits(3, 0)
    Q_MAP_1 = bits(11, 8)
    Q_MAP_2 = bits(19, 16)
    Q_MAP_3 = bits(27, 24)


# 8.2.3.24 wake-up


class WUC(Word):
    PME_EN = bit(1)
    PME_STATUS = bit(2)
    WKEN = bit(4)


class WAKE_UPS(Word):
    """WUFC and WUS: what wakes, and what woke."""

    LNKC = bit(0)
    MAG = bit(1)
    EX = bit(2)
    MC = bit(3)
    BC = bit(4)
    ARP = bit(5)
    IPV4 = bit(6)
    IPV6 = bit(7)
    MNG = bit(8)
    NOTCO = bit(15)
    FLX0 = bit(16)
    FLX1 = bit(17)
    FLX2 = bit(18)
    FLX3 = bit(19)
    FLX4 = bit(20)
    FLX5 = bit(21)
    FW_RST_WK = bit(31)


class WUPL(Word):
    LEN = bits(15, 0)


# 8.2.3.25 manageability


class MAVTV(Word):
    VID = bits(11, 0)


class MFUTP(Word):
    MFUTP_0 = bits(15, 0)
    MFUTP_1 = bits(31, 16)


class METF(Word):
    ETYPE = bits(15, 0)
    POLARITY = bit(30)


class MANC(Word):
    RCV_TCO_EN = bit(17)
    RCV_ALL = bit(19)
    MCST_PASS_L2 = bit(20)
    EN_MNG2HOST = bit(21)
    BYPASS_VLAN = bit(22)
    EN_XSUM_FILTER = bit(23)
    EN_IPV4_FILTER = bit(24)
    FIXED_NET_TYPE = bit(25)
    NET_TYPE = bit(26)


class MFVAL(Word):
    MAC = bits(3, 0)
    VLAN = bits(15, 8)
    IPV4 = bits(19, 16)
    IPV6 = bits(27, 24)


class MANC2H(Word):
    HOST_ENABLE = bits(7, 0)


class HICR(Word):
    EN = bit(0)
    C = bit(1)  # a command is there; the firmware clears it
    SV = bit(2)  # the status is valid
    FW_RESET_ENABLE = bit(6)
    FW_RESET = bit(7)


class FWSTS(Word):
    FWRI = bit(9)  # the firmware was reset


# 8.2.3.26 time synchronisation


class TSYNCRXCTL(Word):
    RXTT = bit(0)  # a time stamp waits, until RXSTMPH is read
    TYPE = bits(
        3, 1, {0: "L2, version 2", 1: "L4, version 1", 2: "L2 and L4, version 2", 4: "all", 5: "events, version 2"}
    )
    EN = bit(4)


class TSYNCTXCTL(Word):
    TXTT = bit(0)  # a time stamp waits, until TXSTMPH is read
    EN = bit(4)


class RXSATRH(Word):
    SOURCE_ID_HIGH = bits(15, 0)
    SEQUENCE_ID = bits(31, 16)  # its bytes as on the wire


class RXMTRL(Word):
    CTRLT = bits(7, 0)  # version 1
    MSGT = bits(15, 8)  # version 2
    UDPT = bits(31, 16)  # port


class TIMINCA(Word):
    INCVALUE = bits(23, 0)
    INCPERIOD = bits(31, 24)  # cycles: 6.4 ns at 10 Gbit/s


class TIMADJH(Word):
    TADJH = bits(30, 0)
    SIGN = bit(31)  # 1: SYSTIM is set back


# 8.2.3.27 virtualisation


class PFVTCTL(Word):
    VT_ENA = bit(0)
    DEF_PL = bits(12, 7)
    DIS_DEF_POOL = bit(29)
    RPL_EN = bit(30)


class VMD_CTL(Word):
    VMDQ_EN = bit(0)
    VMDQ_FILTER = bit(1)


class PFQDE(Word):
    QDE = bit(0)
    QUEUE_IDX = bits(14, 8)
    WE = bit(16)
    RE = bit(17)


class PFMAILBOX(Word):
    STS = bit(0)
    ACK = bit(1)
    VFU = bit(2)
    PFU = bit(3)
    RVFU = bit(4)


class PFVFSPOOF(Word):
    MACAS = bits(7, 0)
    VLANAS = bits(15, 8)


class PFDTXGSWC(Word):
    LBE = bit(0)


class PFVMVIR(Word):
    PORT_VLAN_ID = bits(15, 0)
    VLANA = bits(31, 30, {0: "the descriptor's tag", 1: "the pool's tag", 2: "never a tag"})


class PFVML2FLT(Word):
    AUPE = bit(24)  # untagged frames
    ROMPE = bit(25)
    ROPE = bit(26)
    BAM = bit(27)
    MPE = bit(28)


class PFVLVF(Word):
    VLAN_ID = bits(11, 0)
    VI_EN = bit(31)
