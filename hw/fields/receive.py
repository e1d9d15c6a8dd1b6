"""Receive filters, RSS and receive DMA (82599 8.2.3.7, 8.2.3.8)."""

from __future__ import annotations

from ixrings.hw.register import Word, bit, bits

# 8.2.3.7 receive


class FCTRL(Word):
    SBP = bit(1)
    MPE = bit(8)  # multicast promiscuous
    UPE = bit(9)  # unicast promiscuous
    BAM = bit(10)  # accept broadcast


class VLNCTRL(Word):
    VET = bits(15, 0)
    CFI = bit(28)
    CFIEN = bit(29)
    VFE = bit(30)
    VME = bit(31)


class MCSTCTRL(Word):
    MO = bits(1, 0, {0: "[47:36]", 1: "[46:35]", 2: "[45:34]", 3: "[43:32]"})
    MFE = bit(2)


class PSRTYPE(Word):
    PSR_NFS = bit(1)
    PSR_TCP = bit(4)
    PSR_UDP = bit(5)
    PSR_IPV4 = bit(8)
    PSR_IPV6 = bit(9)
    PSR_L2 = bit(12)
    RQPL = bits(31, 29)


class RXCSUM(Word):
    IPPCSE = bit(12)
    PCSD = bit(13)  # 1: the descriptor carries the RSS hash, 0: the fragment checksum


class RFCTL(Word):
    RSC_DIS = bit(5)
    NFSW_DIS = bit(6)
    NFSR_DIS = bit(7)
    NFS_VER = bits(9, 8, {0: "2", 1: "3", 2: "4"})
    IPV6_DIS = bit(10)
    IPFRSP_DIS = bit(14)


class RAH(Word):
    RAH = bits(15, 0)
    AV = bit(31)


class MRQC(Word):
    MRQE = bits(3, 0, {1: "RSS"})
    TCPIPV4 = bit(16)
    IPV4 = bit(17)
    IPV6 = bit(20)
    TCPIPV6 = bit(21)
    UDPIPV4 = bit(22)
    UDPIPV6 = bit(23)


class RQTC(Word):
    RQTC0 = bits(2, 0)
    RQTC1 = bits(6, 4)
    RQTC2 = bits(10, 8)
    RQTC3 = bits(14, 12)
    RQTC4 = bits(18, 16)
    RQTC5 = bits(22, 20)
    RQTC6 = bits(26, 24)
    RQTC7 = bits(30, 28)


class RETA(Word):
    ENTRY_0 = bits(3, 0)
    ENTRY_1 = bits(11, 8)
    ENTRY_2 = bits(19, 16)
    ENTRY_3 = bits(27, 24)


class SDPQF(Word):
    SOURCE_PORT = bits(15, 0)
    DESTINATION_PORT = bits(31, 16)


class FTQF(Word):
    PROTOCOL = bits(1, 0, {0: "TCP", 1: "UDP", 2: "SCTP", 3: "other"})
    PRIORITY = bits(4, 2)
    POOL = bits(13, 8)
    MASK_SOURCE_ADDRESS = bit(25)  # 1: not compared
    MASK_DESTINATION_ADDRESS = bit(26)
    MASK_SOURCE_PORT = bit(27)
    MASK_DESTINATION_PORT = bit(28)
    MASK_PROTOCOL = bit(29)
    POOL_MASK = bit(30)
    QUEUE_ENABLE = bit(31)


class SYNQF(Word):
    QUEUE_ENABLE = bit(0)
    RX_QUEUE = bits(7, 1)
    SYNQFP = bit(31)  # before the 5-tuple filters


class ETQF(Word):
    ETYPE = bits(15, 0)
    UP = bits(18, 16)
    UP_EN = bit(19)
    POOL = bits(25, 20)
    POOL_EN = bit(26)
    FCOE = bit(27)
    TIMESTAMP = bit(30)  # IEEE 1588
    FILTER_EN = bit(31)


class ETQS(Word):
    RX_QUEUE = bits(22, 16)
    LLI = bit(29)
    QUEUE_EN = bit(31)


class RXFECCERR0(Word):
    ECCFLT_EN = bit(9)


# 8.2.3.8 receive DMA


class RXDCTL(Word):
    ENABLE = bit(25)
    SWFLSH = bit(26)
    VME = bit(30)


class SRRCTL(Word):
    BSIZEPACKET = bits(4, 0)  # KB
    BSIZEHEADER = bits(13, 8)  # 64 bytes
    RDMTS = bits(24, 22)
    DESCTYPE = bits(27, 25, {0: "legacy", 1: "advanced, one buffer", 2: "header split", 5: "header split always"})
    DROP_EN = bit(28)


class RDRXCTL(Word):
    CRCSTRIP = bit(1)
    DMAIDONE = bit(3)
    RSCFRSTSIZE = bits(21, 17)
    RSCACKC = bit(25)
    FCOE_WRFIX = bit(26)


class RXCTRL(Word):
    RXEN = bit(0)


class RXPBSIZE(Word):
    SIZE = bits(19, 10)  # KB


class RXMEMWRAP(Word):
    """How often each packet buffer wrapped, and whether it is empty."""

    TC0_WRAP = bits(2, 0)
    TC0_EMPTY = bit(3)
    TC1_WRAP = bits(6, 4)
    TC1_EMPTY = bit(7)
    TC2_WRAP = bits(10, 8)
    TC2_EMPTY = bit(11)
    TC3_WRAP = bits(14, 12)
    TC3_EMPTY = bit(15)
    TC4_WRAP = bits(18, 16)
    TC4_EMPTY = bit(19)
    TC5_WRAP = bits(22, 20)
    TC5_EMPTY = bit(23)
    TC6_WRAP = bits(26, 24)
    TC6_EMPTY = bit(27)
    TC7_WRAP = bits(30, 28)
    TC7_EMPTY = bit(31)


class RSCDBU(Word):
    RSCACKDIS = bit(7)


class RSCCTL(Word):
    RSCEN = bit(0)
    MAXDESC = bits(3, 2, {0: "1", 1: "4", 2: "8", 3: "16"})
