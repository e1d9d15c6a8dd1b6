"""The fields of the 82599's registers: a class a register, a line a field, named as in the datasheet.

Only registers with fields worth naming stand here; the others are plain `Word`s in hw/registers.py.
"""

from __future__ import annotations

from .register import Word, bit, bits

# 8.2.3.1 general control


class CTRL(Word):
    GIO_DIS = bit(2)  # PCIe master disable: no new requests
    LRST = bit(3)  # link reset: MAC and PHY too
    RST = bit(26)  # device reset; clears itself


class STATUS(Word):
    LAN_ID = bits(3, 2)
    LINK_UP = bit(7)
    NUM_VFS = bits(17, 10)
    IOV = bit(18)
    GIO_MASTER_EN = bit(19)  # 0 once GIO_DIS was set and no request is outstanding


class CTRL_EXT(Word):
    PFRSTD = bit(14)
    NS_DIS = bit(16)  # no-snoop off
    RO_DIS = bit(17)  # relaxed ordering off
    DRV_LOAD = bit(28)  # tells the firmware that a driver is there


class ESDP(Word):
    SDP_DATA = bits(7, 0)
    SDP2_DATA = bit(2)  # on SFP+ boards: a module is in the cage
    SDP3_DATA = bit(3)  # on SFP+ boards: 1 turns the module's laser off
    SDP_IODIR = bits(15, 8)


class I2CCTL(Word):
    I2C_CLK_IN = bit(0)
    I2C_CLK_OUT = bit(1)
    I2C_DATA_IN = bit(2)
    I2C_DATA_OUT = bit(3)


# 8.2.3.2 EEPROM


class EEC(Word):
    EE_REQ = bit(6)
    EE_GNT = bit(7)
    EE_PRES = bit(8)
    AUTO_RD = bit(9)  # also set when there is no EEPROM
    EE_SIZE = bits(14, 11)  # 2 ** (EE_SIZE + 6) words


class EERD(Word):
    START = bit(0)
    DONE = bit(1)
    ADDR = bits(15, 2)
    DATA = bits(31, 16)


# 8.2.3.3 flow control


class FCRTL(Word):
    RTL = bits(18, 5)
    XONE = bit(31)


class FCRTH(Word):
    RTH = bits(18, 5)
    FCEN = bit(31)


class FCCFG(Word):
    TFCE = bits(4, 3, {0: "off", 1: "802.3x", 2: "priority"})


class MFLCN(Word):
    PMCF = bit(0)
    DPF = bit(1)
    RPFCM = bit(2)
    RFCE = bit(3)


# 8.2.3.4 PCIe, semaphores


class SWSM(Word):
    SMBI = bit(0)  # the read that returns 0 takes it
    SWESMBI = bit(1)


class SW_FW_SYNC(Word):
    SW_EEP_SM = bit(0)
    SW_PHY_SM0 = bit(1)
    SW_PHY_SM1 = bit(2)
    SW_MAC_CSR_SM = bit(3)
    SW_FLASH_SM = bit(4)
    FW_SM = bits(9, 5)
    SW_MNG_SM = bit(10)


class FWSM(Word):
    FW_MODE = bits(3, 1)
    EEP_RELOAD_IND = bit(6)
    FW_VAL_BIT = bit(15)
    EXT_ERR_IND = bits(24, 19)


class GCR_EXT(Word):
    VT_MODE = bits(1, 0)
    BUFFERS_CLEAR_FUNC = bit(30)


# 8.2.3.5 interrupts


class CAUSES(Word):
    """EICR and the registers laid out like it."""

    RTX_QUEUE = bits(15, 0)
    FLOW_DIR = bit(16)
    RX_MISS = bit(17)
    PCI_EX = bit(18)
    MAILBOX = bit(19)
    LSC = bit(20)  # link status change
    LINKSEC = bit(21)
    MNG = bit(22)
    TS = bit(23)
    GPI_SDP0 = bit(24)
    GPI_SDP1 = bit(25)
    GPI_SDP2 = bit(26)
    GPI_SDP3 = bit(27)
    ECC = bit(28)
    TCP_TIMER = bit(30)
    OTHER = bit(31)


class EITR(Word):
    ITR_INTERVAL = bits(11, 3)  # units of 2.048 us at 10 Gbit/s
    LLI_MOD = bit(15)
    LLI_CREDIT = bits(20, 16)
    ITR_COUNTER = bits(27, 21)
    CNT_WDIS = bit(31)  # the write leaves the counters alone


class GPIE(Word):
    SDP2_GPIEN = bit(2)  # a change of SDP2 is a cause
    MSIX_MODE = bit(4)
    OCD = bit(5)  # a read of EICR clears the other causes only
    EIMEN = bit(6)
    RSC_DELAY = bits(13, 11)
    VT_MODE = bits(15, 14)
    EIAME = bit(30)  # EIAM acts when an MSI-X message is sent
    PBA_SUPPORT = bit(31)


class IVAR(Word):
    """Two queues a register: RX 2i, TX 2i, RX 2i+1, TX 2i+1."""

    INT_ALLOC_0 = bits(5, 0)
    INT_ALLOC_VAL_0 = bit(7)
    INT_ALLOC_1 = bits(13, 8)
    INT_ALLOC_VAL_1 = bit(15)
    INT_ALLOC_2 = bits(21, 16)
    INT_ALLOC_VAL_2 = bit(23)
    INT_ALLOC_3 = bits(29, 24)
    INT_ALLOC_VAL_3 = bit(31)


class IVAR_MISC(Word):
    INT_ALLOC_0 = bits(6, 0)  # TCP timer
    INT_ALLOC_VAL_0 = bit(7)
    INT_ALLOC_1 = bits(14, 8)  # all other causes
    INT_ALLOC_VAL_1 = bit(15)


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
    PSR_TYPE = bits(18, 0)
    RQPL = bits(31, 29)


class RXCSUM(Word):
    IPPCSE = bit(12)
    PCSD = bit(13)  # 1: the descriptor carries the RSS hash, 0: the fragment checksum


class RFCTL(Word):
    RSC_DIS = bit(5)
    NFSW_DIS = bit(6)
    NFSR_DIS = bit(7)


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


class RETA(Word):
    ENTRY_0 = bits(3, 0)
    ENTRY_1 = bits(11, 8)
    ENTRY_2 = bits(19, 16)
    ENTRY_3 = bits(27, 24)


class FTQF(Word):
    QUEUE_ENABLE = bit(31)


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


# 8.2.3.9 transmit


class DTXMXSZRQ(Word):
    MAX_BYTES_NUM_REQ = bits(11, 0)


class DMATXCTL(Word):
    TE = bit(0)
    GDV = bit(3)
    VT = bits(31, 16)


class TXDCTL(Word):
    PTHRESH = bits(6, 0)
    HTHRESH = bits(14, 8)
    WTHRESH = bits(22, 16)
    ENABLE = bit(25)
    SWFLSH = bit(26)


class TDWBAL(Word):
    HEAD_WB_EN = bit(0)
    HEADWB_LOW = bits(31, 2)


class MTQC(Word):
    RT_ENA = bit(0)
    VT_ENA = bit(1)
    NUM_TC_OR_Q = bits(3, 2)


class TXPBSIZE(Word):
    SIZE = bits(19, 10)  # KB


class TXPBTHRESH(Word):
    THRESH = bits(9, 0)  # KB


class RTTDCS(Word):
    TDPAC = bit(0)
    ARBDIS = bit(6)
    BDPM = bit(22)
    BPBFSM = bit(23)


# 8.2.3.11 DCA, 8.2.3.12 security


class DCA_RXCTRL(Word):
    RXDATADESCRO = bit(9)
    MUST_BE_ZERO = bit(12)  # "Default 1b; Reserved. Must be set to 0" (8.2.3.11.1)
    RXDATAWRITERO = bit(13)
    RXHEADWRITERO = bit(15)


class DCA_TXCTRL(Word):
    TXDESCRDRO = bit(9)
    TXDESCWBRO = bit(11)  # relaxed ordering of write-backs; off for head write-back (7.2.3.5.2)
    TXDATARDRO = bit(13)


class SECRXCTRL(Word):
    SECRX_DIS = bit(0)
    RX_DIS = bit(1)


class SECRXSTAT(Word):
    SECRX_RDY = bit(0)
    SECRX_OFF_DIS = bit(1)


class SECTXCTRL(Word):
    SECTX_DIS = bit(0)
    TX_DIS = bit(1)


class SECTXSTAT(Word):
    SECTX_RDY = bit(0)
    SECTX_OFF_DIS = bit(1)


class IPSEC_INDEX(Word):
    """IPSTXIDX and IPSRXIDX: the access to a table of security associations that the other IPS registers hold a row of."""

    EN = bit(0)
    TABLE = bits(2, 1)
    TB_IDX = bits(12, 3)
    READ = bit(30)
    WRITE = bit(31)


# 8.2.3.21 flow director


class FDIRCTRL(Word):
    PBALLOC = bits(1, 0)
    INIT_DONE = bit(3)
    PERFECT_MATCH = bit(4)


class FDIRCMD(Word):
    CMD = bits(1, 0)  # reads 0 once the command is done
    CLEARHT = bit(8)


# 8.2.3.22 MAC


class HLREG0(Word):
    TXCRCEN = bit(0)
    RXCRCSTRP = bit(1)
    JUMBOEN = bit(2)
    TXPADEN = bit(10)
    LPBK = bit(15)
    RXLNGTHERREN = bit(27)
    RXPADSTRIPEN = bit(28)


class MSCA(Word):
    """One access on the MDIO bus (3.7.2.2)."""

    MDIADD = bits(15, 0)
    DEVADD = bits(20, 16)
    PHYADD = bits(25, 21)
    OPCODE = bits(27, 26, {0: "address", 1: "write", 2: "read, then the next address", 3: "read"})
    STCODE = bits(29, 28)
    MDICMD = bit(30)  # clears itself when the access is done


class MSRWD(Word):
    MDIWRDATA = bits(15, 0)
    MDIRDDATA = bits(31, 16)


class CORECTL(Word):
    """Settings of the analog core, as the EEPROM has them for each kind of SFP+ module."""

    DATA = bits(7, 0)
    ADDRESS = bits(15, 8)
    LATCH_ADDR = bit(16)


class MAXFRS(Word):
    MFS = bits(31, 16)  # bytes, CRC included


class AUTOC(Word):
    FLU = bit(0)
    PMA_PMD_10G = bits(8, 7)
    RESTART_AN = bit(12)
    LMS = bits(15, 13, {3: "10G serial"})


class AUTOC2(Word):
    PMA_PMD_10G_SERIAL = bits(17, 16, {0: "KR", 1: "XFI", 2: "SFI"})


class ANLP1(Word):
    AN_STATE = bits(19, 16)


class LINKS(Word):
    LNK_STAT = bit(7)
    SIGNAL = bits(11, 8)
    LINK_10G_SERIAL_EN = bit(24)
    MLINK_MODE = bits(27, 26)
    SPEED = bits(29, 28, {1: "100 Mbit/s", 2: "1 Gbit/s", 3: "10 Gbit/s"})
    LINK_UP = bit(30)
    KX_AN_COMP = bit(31)


# 8.2.3.23 statistics


class QUEUE_MAP(Word):
    """RQSMR and TQSM: which of the 16 counter sets each of four queues uses."""

    Q_MAP_0 = bits(3, 0)
    Q_MAP_1 = bits(11, 8)
    Q_MAP_2 = bits(19, 16)
    Q_MAP_3 = bits(27, 24)
