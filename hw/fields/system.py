"""Statistics, wake-up, manageability, time, virtualisation (82599 8.2.3.23 to 8.2.3.27)."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word

# 8.2.3.23 statistics


class QUEUE_MAP(Word):
    """RQSMR and TQSM: which of the 16 counter sets each of four queues uses."""

    Q_MAP_0 = bits(3, 0, "counter set of queue 4i")
    Q_MAP_1 = bits(11, 8, "counter set of queue 4i+1")
    Q_MAP_2 = bits(19, 16, "counter set of queue 4i+2")
    Q_MAP_3 = bits(27, 24, "counter set of queue 4i+3")


# 8.2.3.24 wake-up


class WUC(Word):
    PME_EN = bit(1, "power management events may be signalled")
    PME_STATUS = bit(2, "a power management event came")
    WKEN = bit(4, "wake-up enable")


class WAKE_UPS(Word):
    """WUFC and WUS: events that wake the system, and events that have woken it."""

    LNKC = bit(0, "link status change")
    MAG = bit(1, "magic packet")
    EX = bit(2, "frame to this address")
    MC = bit(3, "multicast in the table")
    BC = bit(4, "broadcast")
    ARP = bit(5, "ARP request for this host")
    IPV4 = bit(6, "IPv4 to this host")
    IPV6 = bit(7, "IPv6 to this host")
    MNG = bit(8, "manageability")
    NOTCO = bit(15, "packets for the management controller do not wake")
    FLX0 = bit(16, "flexible filter 0")
    FLX1 = bit(17, "flexible filter 1")
    FLX2 = bit(18, "flexible filter 2")
    FLX3 = bit(19, "flexible filter 3")
    FLX4 = bit(20, "flexible filter 4")
    FLX5 = bit(21, "flexible filter 5")
    FW_RST_WK = bit(31, "firmware was reset")


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
    POLARITY = bit(30, "1: packets of this type do not match")


class MANC(Word):
    RCV_TCO_EN = bit(17, "the management controller receives packets")
    RCV_ALL = bit(19, "the management controller receives all packets")
    MCST_PASS_L2 = bit(20, "multicast passes the MAC filter")
    EN_MNG2HOST = bit(21, "management packets may go to the host, too")
    BYPASS_VLAN = bit(22, "VLAN filters are bypassed")
    EN_XSUM_FILTER = bit(23, "packets need a right checksum")
    EN_IPV4_FILTER = bit(24, "IPv4 address filters")
    FIXED_NET_TYPE = bit(25, "only packets of NET_TYPE")
    NET_TYPE = bit(26, "1: tagged, 0: untagged")


class MFVAL(Word):
    MAC = bits(3, 0, "valid MAC address filters")
    VLAN = bits(15, 8, "valid VLAN filters")
    IPV4 = bits(19, 16, "valid IPv4 filters")
    IPV6 = bits(27, 24, "valid IPv6 filters")


class MANC2H(Word):
    HOST_ENABLE = bits(7, 0, "packets of each decision filter go to the host, too")


class HICR(Word):
    EN = bit(0, "the firmware takes commands")
    C = bit(1, "a command is there; the firmware clears it")
    SV = bit(2, "the status is valid")
    FW_RESET_ENABLE = bit(6, "FW_RESET may be set")
    FW_RESET = bit(7)


class FWSTS(Word):
    FWRI = bit(9, "the firmware was reset")


# 8.2.3.26 time synchronisation


class TSYNCRXCTL(Word):
    RXTT = bit(0, "a time stamp is held until RXSTMPH is read")
    TYPE = bits(
        3,
        1,
        "packets that are time stamped",
        {0: "L2, version 2", 1: "L4, version 1", 2: "L2 and L4, version 2", 4: "all", 5: "events, version 2"},
    )
    EN = bit(4, "time stamps enable")


class TSYNCTXCTL(Word):
    TXTT = bit(0, "a time stamp is held until TXSTMPH is read")
    EN = bit(4, "time stamps enable")


class RXSATRH(Word):
    SOURCE_ID_HIGH = bits(15, 0, "end of the packet's source ID")
    SEQUENCE_ID = bits(31, 16, "bytes as on the wire")


class RXMTRL(Word):
    CTRLT = bits(7, 0, "message type of PTP version 1")
    MSGT = bits(15, 8, "message type of PTP version 2")
    UDPT = bits(31, 16, "UDP port")


class TIMINCA(Word):
    INCVALUE = bits(23, 0, "added to the time")
    INCPERIOD = bits(31, 24, "cycles between additions; a cycle is 6.4 ns at 10 Gbit/s")


class TIMADJH(Word):
    TADJH = bits(30, 0, "high part of the adjustment")
    SIGN = bit(31, "1: SYSTIM is set back")


# 8.2.3.27 virtualisation


class PFVTCTL(Word):
    VT_ENA = bit(0, "virtualisation enable")
    DEF_PL = bits(12, 7, "default pool")
    DIS_DEF_POOL = bit(29, "drop packets that match no pool")
    RPL_EN = bit(30, "replication enable")


class VMD_CTL(Word):
    VMDQ_EN = bit(0)
    VMDQ_FILTER = bit(1, "which filter selects the pool")


class PFQDE(Word):
    QDE = bit(0, "drop packets when the queue has no descriptor")
    QUEUE_IDX = bits(14, 8, "queue")
    WE = bit(16, "write enable")
    RE = bit(17, "read enable")


class PFMAILBOX(Word):
    STS = bit(0, "the PF has a message: interrupts the VF")
    ACK = bit(1, "the PF has read the VF's message: interrupts the VF")
    VFU = bit(2, "the VF uses the mailbox")
    PFU = bit(3, "the PF uses the mailbox")
    RVFU = bit(4, "takes the mailbox away from the VF")


class PFVFSPOOF(Word):
    MACAS = bits(7, 0, "VFs whose source addresses are checked")
    VLANAS = bits(15, 8, "VFs whose VLAN tags are checked")


class PFDTXGSWC(Word):
    LBE = bit(0, "loopback between pools enable")


class PFVMVIR(Word):
    PORT_VLAN_ID = bits(15, 0)
    VLANA = bits(31, 30, "which tag is inserted", {0: "the descriptor's tag", 1: "the pool's tag", 2: "never a tag"})


class PFVML2FLT(Word):
    AUPE = bit(24, "accept untagged packets")
    ROMPE = bit(25, "accept multicast in MTA")
    ROPE = bit(26, "accept unicast in PFUTA")
    BAM = bit(27, "accept broadcast")
    MPE = bit(28, "multicast promiscuous")


class PFVLVF(Word):
    VLAN_ID = bits(11, 0)
    VI_EN = bit(31, "filter enable")


class PFMRCTL(Word):
    VPME = bit(0, "mirrors what the pools in PFMRVM receive")
    UPME = bit(1, "mirrors what comes from the wire")
    DPME = bit(2, "mirrors what goes to the wire")
    VLME = bit(3, "mirrors the VLANs of the PFVLVF entries in PFMRVLAN")
    MP = bits(13, 8, "the pool that gets the copies")


# 8.3.5 registers of a virtual function


class PVFCTRL(Word):
    RST = bit(26, "resets the virtual function")


class PVFMAILBOX(Word):
    REQ = bit(0, "the VF has a message: interrupts the PF")
    ACK = bit(1, "the VF has read the PF's message: interrupts the PF")
    VFU = bit(2, "the VF uses the mailbox")
    PFU = bit(3, "the PF uses the mailbox")
    PFSTS = bit(4, "the PF wrote a message")
    PFACK = bit(5, "the PF read the VF's message")
    RSTI = bit(6, "the PF is in reset")
    RSTD = bit(7, "the PF's reset is done")


class PVTEICR(Word):
    VECTORS = bits(2, 0, "a bit for each vector")


class PVTIVAR(Word):
    RX_EVEN = bit(0, "vector of the even receive queue")
    RX_EVEN_VALID = bit(7)
    TX_EVEN = bit(8, "vector of the even transmit queue")
    TX_EVEN_VALID = bit(15)
    RX_ODD = bit(16, "vector of the odd receive queue")
    RX_ODD_VALID = bit(23)
    TX_ODD = bit(24, "vector of the odd transmit queue")
    TX_ODD_VALID = bit(31)


class PVTIVAR_MISC(Word):
    VECTOR = bits(1, 0, "vector of the mailbox")
    VALID = bit(7)
