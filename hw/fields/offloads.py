"""Security, the TCP timer, FCoE, flow director (82599 8.2.3.12, 8.2.3.19 to 8.2.3.21)."""

from __future__ import annotations

from ixrings.hw.register import Word, bit, bits

# 8.2.3.12 security


class SECRXCTRL(Word):
    SECRX_DIS = bit(0)
    RX_DIS = bit(1)


class SECRXSTAT(Word):
    SECRX_RDY = bit(0)
    SECRX_OFF_DIS = bit(1)
    ECC_RXERR = bit(2)


class SECTXCTRL(Word):
    SECTX_DIS = bit(0)
    TX_DIS = bit(1)


class SECTXSTAT(Word):
    SECTX_RDY = bit(0)
    SECTX_OFF_DIS = bit(1)
    ECC_TXERR = bit(2)


class SECTXMINIFG(Word):
    MINSECIFG = bits(3, 0)
    SECTXDCB = bits(12, 8)


class IPSEC_INDEX(Word):
    """IPSTXIDX and IPSRXIDX: the access to a table of security associations that the other IPS registers hold a row of."""

    EN = bit(0)
    TABLE = bits(2, 1)
    TB_IDX = bits(12, 3)
    READ = bit(30)
    WRITE = bit(31)


class LSECTXCTRL(Word):
    LSTXEN = bits(1, 0, {0: "off", 1: "authenticate", 2: "authenticate and encrypt"})
    AISCI = bit(5)
    PNTRH = bits(31, 8)


class LSECRXCTRL(Word):
    LSRXEN = bits(3, 2, {0: "off", 1: "check", 2: "strict", 3: "drop"})
    PLSH = bit(6)
    RP = bit(7)


# 8.2.3.19 timers, 8.2.3.20 FCoE


class TCPTIMER(Word):
    DURATION = bits(7, 0)  # ms
    KICKSTART = bit(8)
    TCPCOUNTEN = bit(9)
    TCPCOUNTFINISH = bit(10)
    LOOP = bit(11)


class FCBUFF(Word):
    VALID = bit(0)
    BUFFSIZE = bits(4, 3, {0: "4 KB", 1: "8 KB", 2: "16 KB", 3: "64 KB"})
    WRCONTX = bit(7)
    BUFFCNT = bits(15, 8)
    OFFSET = bits(31, 16)


class FCDMARW(Word):
    FCOESEL = bits(8, 0)
    WE = bit(14)
    RE = bit(15)
    LASTSIZE = bits(31, 16)


class FCFLT(Word):
    VALID = bit(0)
    FIRST = bit(1)
    SEQID = bits(23, 16)
    SEQCNT = bits(31, 24)


class FCFLTRW(Word):
    RVALDT = bit(13)
    WE = bit(14)
    RE = bit(15)


class FCRXCTRL(Word):
    FCOELLI = bit(0)
    SAVBAD = bit(1)
    FRSTRDH = bit(2)
    LASTSEQH = bit(3)
    ALLH = bit(4)
    FRSTSEQH = bit(5)
    ICRC = bit(6)
    FCCRCBO = bit(7)
    FCOEVER = bits(11, 8)


class FCRECTL(Word):
    ENA = bit(0)


class FCRETA(Word):
    TABLE = bits(6, 0)


# 8.2.3.21 flow director


class FDIRCTRL(Word):
    PBALLOC = bits(1, 0)
    INIT_DONE = bit(3)
    PERFECT_MATCH = bit(4)
    REPORT_STATUS = bit(5)
    REPORT_STATUS_ALWAYS = bit(7)
    DROP_QUEUE = bits(14, 8)
    FLEX_OFFSET = bits(20, 16)  # in words
    MAX_LENGTH = bits(27, 24)
    FULL_THRESH = bits(31, 28)


class FDIRCMD(Word):
    CMD = bits(1, 0)  # reads 0 once the command is done
    FILTER_VALID = bit(2)
    FILTER_UPDATE = bit(3)
    IPV6DMATCH = bit(4)
    L4TYPE = bits(6, 5, {1: "UDP", 2: "TCP", 3: "SCTP"})
    IPV6 = bit(7)
    CLEARHT = bit(8)
    DROP = bit(9)
    INT = bit(10)
    LAST = bit(11)
    COLLISION = bit(12)
    QUEUE_EN = bit(15)
    RX_QUEUE = bits(22, 16)
    POOL = bits(29, 24)


class FDIRPORT(Word):
    SOURCE = bits(15, 0)
    DESTINATION = bits(31, 16)


class FDIRVLAN(Word):
    VLAN = bits(15, 0)
    FLEX = bits(31, 16)


class FDIRHASH(Word):
    HASH = bits(14, 0)
    BUCKET_VALID = bit(15)
    SIGNATURE_SW_INDEX = bits(30, 16)


class FDIRFREE(Word):
    FREE = bits(15, 0)
    COLL = bits(30, 16)


class FDIRPORTM(Word):
    """FDIRTCPM, FDIRUDPM, FDIRSCTPM: bits that are not compared."""

    SPORTM = bits(15, 0)
    DPORTM = bits(31, 16)


class FDIRIP6M(Word):
    SIPM = bits(15, 0)
    DIPM = bits(31, 16)


class FDIRM(Word):
    """1: not compared."""

    VLANID = bit(0)
    VLANP = bit(1)
    POOL = bit(2)
    L4P = bit(3)
    FLEX = bit(4)
    DIPV6 = bit(5)


class FDIRLEN(Word):
    MAXLEN = bits(5, 0)
    BUCKET_LENGTH = bits(13, 8)
    MAXHASH = bits(30, 16)


class FDIRUSTAT(Word):
    ADD = bits(15, 0)
    REMOVE = bits(31, 16)


class FDIRFSTAT(Word):
    FADD = bits(7, 0)
    FREMOVE = bits(15, 8)
