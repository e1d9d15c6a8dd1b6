"""Security, the TCP timer, FCoE, flow director (82599 8.2.3.12, 8.2.3.19 to 8.2.3.21)."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word

# 8.2.3.12 security


class SECRXCTRL(Word):
    SECRX_DIS = bit(0, "security offload off")
    RX_DIS = bit(1, "receive path stopped")


class SECRXSTAT(Word):
    SECRX_RDY = bit(0, "the stopped receive path is empty")
    SECRX_OFF_DIS = bit(1, "this chip has no security offload")
    ECC_RXERR = bit(2, "ECC error")


class SECTXCTRL(Word):
    SECTX_DIS = bit(0, "security offload off")
    TX_DIS = bit(1, "transmit path stopped")


class SECTXSTAT(Word):
    SECTX_RDY = bit(0, "the stopped transmit path is empty")
    SECTX_OFF_DIS = bit(1, "this chip has no security offload")
    ECC_TXERR = bit(2, "ECC error")


class SECTXMINIFG(Word):
    MINSECIFG = bits(3, 0, "minimum gap between frames")
    SECTXDCB = bits(12, 8, "almost-full threshold of the buffer with DCB")


class IPSEC_INDEX(Word):
    """IPSTXIDX and IPSRXIDX: which row of which table the other IPS registers read or write."""

    EN = bit(0, "IPsec enable")
    TABLE = bits(2, 1, "which table is accessed")
    TB_IDX = bits(12, 3, "row of the table")
    READ = bit(30)
    WRITE = bit(31)


class LSECTXCTRL(Word):
    LSTXEN = bits(1, 0, "LinkSec of transmitted packets", {0: "off", 1: "authenticate", 2: "authenticate and encrypt"})
    AISCI = bit(5, "always include the SCI")
    PNTRH = bits(31, 8, "packet number at which LINKSEC is raised")


class LSECRXCTRL(Word):
    LSRXEN = bits(3, 2, "LinkSec of received packets", {0: "off", 1: "check", 2: "strict", 3: "drop"})
    PLSH = bit(6, "the LinkSec header goes to the host")
    RP = bit(7, "replay protection")


# 8.2.3.19 timers, 8.2.3.20 FCoE


class TCPTIMER(Word):
    DURATION = bits(7, 0, "in ms")
    KICKSTART = bit(8, "start the count")
    TCPCOUNTEN = bit(9, "count")
    TCPCOUNTFINISH = bit(10, "end the count")
    LOOP = bit(11, "start again at the end")


class FCBUFF(Word):
    VALID = bit(0, "the context is valid")
    BUFFSIZE = bits(4, 3, values={0: "4 KB", 1: "8 KB", 2: "16 KB", 3: "64 KB"})
    WRCONTX = bit(7, "0: initiator, 1: target")
    BUFFCNT = bits(15, 8, "number of buffers")
    OFFSET = bits(31, 16, "offset in the first buffer")


class FCDMARW(Word):
    FCOESEL = bits(8, 0, "context to access")
    WE = bit(14, "write enable")
    RE = bit(15, "read enable")
    LASTSIZE = bits(31, 16, "bytes in the last buffer")


class FCFLT(Word):
    VALID = bit(0, "the context is valid")
    FIRST = bit(1, "first frame")
    SEQID = bits(23, 16, "sequence ID")
    SEQCNT = bits(31, 24, "number of sequences")


class FCFLTRW(Word):
    RVALDT = bit(13, "fast revalidation")
    WE = bit(14, "write enable")
    RE = bit(15, "read enable")


class FCRXCTRL(Word):
    FCOELLI = bit(0, "low latency interrupts")
    SAVBAD = bit(1, "save bad frames")
    FRSTRDH = bit(2, "first read header enable")
    LASTSEQH = bit(3, "last header of a sequence enable")
    ALLH = bit(4, "all headers enable")
    FRSTSEQH = bit(5, "first header of a sequence enable")
    ICRC = bit(6, "ignore a bad CRC")
    FCCRCBO = bit(7, "byte order of the CRC")
    FCOEVER = bits(11, 8, "FCoE version")


class FCRECTL(Word):
    ENA = bit(0, "redirection enable")


class FCRETA(Word):
    TABLE = bits(6, 0, "queue")


# 8.2.3.21 flow director


class FDIRCTRL(Word):
    PBALLOC = bits(1, 0, "packet buffer memory for filters")
    INIT_DONE = bit(3, "hardware has initialised the filters")
    PERFECT_MATCH = bit(4, "1: perfect match, 0: signature")
    REPORT_STATUS = bit(5, "matches are reported in the descriptor")
    REPORT_STATUS_ALWAYS = bit(7, "also packets without a match")
    DROP_QUEUE = bits(14, 8, "queue of a filter that drops")
    FLEX_OFFSET = bits(20, 16, "place of the flexible bytes, in words")
    MAX_LENGTH = bits(27, 24, "longest list of a bucket before a warning")
    FULL_THRESH = bits(31, 28, "FLOW_DIR is raised when fewer filters are free")


class FDIRCMD(Word):
    CMD = bits(1, 0, "command; reads 0 once it is done")
    FILTER_VALID = bit(2)
    FILTER_UPDATE = bit(3, "replace a filter that exists")
    IPV6DMATCH = bit(4, "compare the IPv6 destination with this NIC's address")
    L4TYPE = bits(6, 5, values={1: "UDP", 2: "TCP", 3: "SCTP"})
    IPV6 = bit(7)
    CLEARHT = bit(8, "clear head and tail")
    DROP = bit(9, "drop packets that match")
    INT = bit(10, "raise an interrupt")
    LAST = bit(11, "last filter of its list")
    COLLISION = bit(12, "the filter's hash is in use")
    QUEUE_EN = bit(15)
    RX_QUEUE = bits(22, 16)
    POOL = bits(29, 24)


class FDIRPORT(Word):
    SOURCE = bits(15, 0)
    DESTINATION = bits(31, 16)


class FDIRVLAN(Word):
    VLAN = bits(15, 0)
    FLEX = bits(31, 16, "flexible bytes")


class FDIRHASH(Word):
    HASH = bits(14, 0)
    BUCKET_VALID = bit(15)
    SIGNATURE_SW_INDEX = bits(30, 16, "signature, or with perfect match the index that software chose")


class FDIRFREE(Word):
    FREE = bits(15, 0, "free filters")
    COLL = bits(30, 16, "filters with a hash collision")


class FDIRPORTM(Word):
    """FDIRTCPM, FDIRUDPM and FDIRSCTPM: bits of the ports that are not compared."""

    SPORTM = bits(15, 0, "source port")
    DPORTM = bits(31, 16, "destination port")


class FDIRIP6M(Word):
    SIPM = bits(15, 0, "bytes of the source address")
    DIPM = bits(31, 16, "bytes of the destination address")


class FDIRM(Word):
    """A field that is 1 is not compared."""

    VLANID = bit(0, "VLAN ID")
    VLANP = bit(1, "VLAN priority")
    POOL = bit(2)
    L4P = bit(3, "layer 4 protocol")
    FLEX = bit(4, "flexible bytes")
    DIPV6 = bit(5, "IPv6 destination")


class FDIRLEN(Word):
    MAXLEN = bits(5, 0, "longest list of a bucket")
    BUCKET_LENGTH = bits(13, 8, "length of the last list")
    MAXHASH = bits(30, 16, "hash of the longest list")


class FDIRUSTAT(Word):
    ADD = bits(15, 0, "filters added")
    REMOVE = bits(31, 16, "filters removed")


class FDIRFSTAT(Word):
    FADD = bits(7, 0, "additions that failed")
    FREMOVE = bits(15, 8, "removals that failed")
