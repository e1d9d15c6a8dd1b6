"""Receive filters, RSS and receive DMA (82599 8.2.3.7, 8.2.3.8)."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word

# 8.2.3.7 receive


class FCTRL(Word):
    SBP = bit(1, "store bad packets")
    MPE = bit(8, "multicast promiscuous")
    UPE = bit(9, "unicast promiscuous")
    BAM = bit(10, "accept broadcast")


class VLNCTRL(Word):
    VET = bits(15, 0, "EtherType of a tag")
    CFI = bit(28, "CFI that a frame must have")
    CFIEN = bit(29, "CFI is compared")
    VFE = bit(30, "VLAN filter enable")
    VME = bit(31, "strip tags (82598; the 82599 has RXDCTL.VME)")


class MCSTCTRL(Word):
    MO = bits(
        1, 0, "bits of the address that select a bit of MTA", {0: "[47:36]", 1: "[46:35]", 2: "[45:34]", 3: "[43:32]"}
    )
    MFE = bit(2, "multicast filter enable")


class PSRTYPE(Word):
    PSR_NFS = bit(1, "split after the NFS header")
    PSR_TCP = bit(4, "split after the TCP header")
    PSR_UDP = bit(5, "split after the UDP header")
    PSR_IPV4 = bit(8, "split after the IPv4 header")
    PSR_IPV6 = bit(9, "split after the IPv6 header")
    PSR_L2 = bit(12, "split after the Ethernet header")
    RQPL = bits(31, 29, "bits of the RSS index that select a queue of the pool")


class RXCSUM(Word):
    IPPCSE = bit(12, "checksum of IP fragments")
    PCSD = bit(13, "1: the descriptor carries the RSS hash, 0: the fragment checksum")


class RFCTL(Word):
    RSC_DIS = bit(5, "RSC off")
    NFSW_DIS = bit(6, "NFS writes are not recognised")
    NFSR_DIS = bit(7, "NFS reads are not recognised")
    NFS_VER = bits(9, 8, "NFS version that is recognised", {0: "2", 1: "3", 2: "4"})
    IPV6_DIS = bit(10, "IPv6 is not recognised")
    IPFRSP_DIS = bit(14, "headers of IP fragments are not split off")


class RAH(Word):
    RAH = bits(15, 0, "the address's last two bytes")
    AV = bit(31, "address valid")


class MRQC(Word):
    MRQE = bits(3, 0, "how received packets are spread over queues", {1: "RSS"})
    TCPIPV4 = bit(16, "hash over the TCP ports, too")
    IPV4 = bit(17)
    IPV6 = bit(20)
    TCPIPV6 = bit(21, "hash over the TCP ports, too")
    UDPIPV4 = bit(22, "hash over the UDP ports, too")
    UDPIPV6 = bit(23, "hash over the UDP ports, too")


class RQTC(Word):
    RQTC0 = bits(2, 0, "traffic class 0 has 2 ** RQTC0 RSS queues")
    RQTC1 = bits(6, 4, "traffic class 1 has 2 ** RQTC1 RSS queues")
    RQTC2 = bits(10, 8, "traffic class 2 has 2 ** RQTC2 RSS queues")
    RQTC3 = bits(14, 12, "traffic class 3 has 2 ** RQTC3 RSS queues")
    RQTC4 = bits(18, 16, "traffic class 4 has 2 ** RQTC4 RSS queues")
    RQTC5 = bits(22, 20, "traffic class 5 has 2 ** RQTC5 RSS queues")
    RQTC6 = bits(26, 24, "traffic class 6 has 2 ** RQTC6 RSS queues")
    RQTC7 = bits(30, 28, "traffic class 7 has 2 ** RQTC7 RSS queues")


class RETA(Word):
    ENTRY_0 = bits(3, 0, "queue")
    ENTRY_1 = bits(11, 8, "queue")
    ENTRY_2 = bits(19, 16, "queue")
    ENTRY_3 = bits(27, 24, "queue")


class SDPQF(Word):
    SOURCE_PORT = bits(15, 0)
    DESTINATION_PORT = bits(31, 16)


class FTQF(Word):
    PROTOCOL = bits(1, 0, values={0: "TCP", 1: "UDP", 2: "SCTP", 3: "other"})
    PRIORITY = bits(4, 2, "the filter of the highest priority wins")
    POOL = bits(13, 8)
    MASK_SOURCE_ADDRESS = bit(25, "1: not compared")
    MASK_DESTINATION_ADDRESS = bit(26, "1: not compared")
    MASK_SOURCE_PORT = bit(27, "1: not compared")
    MASK_DESTINATION_PORT = bit(28, "1: not compared")
    MASK_PROTOCOL = bit(29, "1: not compared")
    POOL_MASK = bit(30, "1: not compared")
    QUEUE_ENABLE = bit(31)


class SYNQF(Word):
    QUEUE_ENABLE = bit(0)
    RX_QUEUE = bits(7, 1)
    SYNQFP = bit(31, "1: precedence over the 5-tuple filters")


class ETQF(Word):
    ETYPE = bits(15, 0)
    UP = bits(18, 16, "user priority")
    UP_EN = bit(19, "user priority is compared")
    POOL = bits(25, 20)
    POOL_EN = bit(26, "packets go to POOL")
    FCOE = bit(27, "packets are FCoE")
    TIMESTAMP = bit(30, "packets are time stamped (IEEE 1588)")
    FILTER_EN = bit(31)


class ETQS(Word):
    RX_QUEUE = bits(22, 16)
    LLI = bit(29, "a match raises a low latency interrupt")
    QUEUE_EN = bit(31)


class RXFECCERR0(Word):
    ECCFLT_EN = bit(9, "ECC errors of the filter memory are reported")


# 8.2.3.8 receive DMA


class RXDCTL(Word):
    ENABLE = bit(25)
    SWFLSH = bit(26, "software flush: write all descriptors back")
    VME = bit(30, "strip VLAN tags")


class SRRCTL(Word):
    BSIZEPACKET = bits(4, 0, "packet buffer, in KB")
    BSIZEHEADER = bits(13, 8, "header buffer, in 64 bytes")
    RDMTS = bits(24, 22, "minimum threshold of free descriptors")
    DESCTYPE = bits(
        27,
        25,
        "descriptor format",
        {0: "legacy", 1: "advanced, one buffer", 2: "header split", 5: "header split always"},
    )
    DROP_EN = bit(28, "drop packets when no descriptor is free")


class RDRXCTL(Word):
    CRCSTRIP = bit(1, "strip the CRC")
    DMAIDONE = bit(3, "DMA initialisation is done")
    RSCFRSTSIZE = bits(21, 17, "must be 0")
    RSCACKC = bit(25, "must be 1")
    FCOE_WRFIX = bit(26, "must be 1")


class RXCTRL(Word):
    RXEN = bit(0, "receive enable")


class RXPBSIZE(Word):
    SIZE = bits(19, 10, "in KB")


class RXMEMWRAP(Word):
    """The state of each packet buffer."""

    TC0_WRAP = bits(2, 0, "how often packet buffer 0 wrapped")
    TC0_EMPTY = bit(3, "packet buffer 0 is empty")
    TC1_WRAP = bits(6, 4, "how often packet buffer 1 wrapped")
    TC1_EMPTY = bit(7, "packet buffer 1 is empty")
    TC2_WRAP = bits(10, 8, "how often packet buffer 2 wrapped")
    TC2_EMPTY = bit(11, "packet buffer 2 is empty")
    TC3_WRAP = bits(14, 12, "how often packet buffer 3 wrapped")
    TC3_EMPTY = bit(15, "packet buffer 3 is empty")
    TC4_WRAP = bits(18, 16, "how often packet buffer 4 wrapped")
    TC4_EMPTY = bit(19, "packet buffer 4 is empty")
    TC5_WRAP = bits(22, 20, "how often packet buffer 5 wrapped")
    TC5_EMPTY = bit(23, "packet buffer 5 is empty")
    TC6_WRAP = bits(26, 24, "how often packet buffer 6 wrapped")
    TC6_EMPTY = bit(27, "packet buffer 6 is empty")
    TC7_WRAP = bits(30, 28, "how often packet buffer 7 wrapped")
    TC7_EMPTY = bit(31, "packet buffer 7 is empty")


class RSCDBU(Word):
    RSCACKDIS = bit(7, "pure ACKs are not coalesced")


class RSCCTL(Word):
    RSCEN = bit(0, "RSC enable")
    MAXDESC = bits(3, 2, "most descriptors of one large receive", {0: "1", 1: "4", 2: "8", 3: "16"})
