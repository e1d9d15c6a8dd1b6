"""MAC, link and MDIO (82599 8.2.3.22)."""

from __future__ import annotations

from ixrings.hw.register import Word, bit, bits


class PCS1GCFIG(Word):
    PCS_ISOLATE = bit(30)


class PCS1GLCTL(Word):
    FLV = bit(0)
    FORCE_1G_LINK = bit(5)
    LINK_LATCH_LOW = bit(6)
    AN_1G_TIMEOUT_EN = bit(18)
    LINK_OK_FIX_EN = bit(25)


class PCS1GLSTA(Word):
    LINK_OK = bit(0)
    SYNC_OK_1G = bit(4)
    AN_1G_COMPLETE = bit(16)
    AN_PAGE_RECEIVED = bit(17)
    AN_1G_TIMEDOUT = bit(18)
    AN_REMOTE_FAULT = bit(19)
    AN_ERROR = bit(20)


class PCS1GANA(Word):
    FDC = bit(5)
    ASM = bits(8, 7)
    RFLT = bits(13, 12)
    NEXTP = bit(15)


class PCS1GANLP(Word):
    LPFD = bit(5)
    LPHD = bit(6)
    LPASM = bits(8, 7)
    PRF = bits(13, 12)
    ACK = bit(14)
    LPNEXTP = bit(15)


class PCS1GANNP(Word):
    CODE = bits(10, 0)
    TOGGLE = bit(11)
    ACK2 = bit(12)
    PGTYPE = bit(13)
    NXTPG = bit(15)


class PCS1GANLPNP(Word):
    CODE = bits(10, 0)
    TOGGLE = bit(11)
    ACK2 = bit(12)
    MSGPG = bit(13)
    ACK = bit(14)
    NXTPG = bit(15)


class HLREG0(Word):
    TXCRCEN = bit(0)
    RXCRCSTRP = bit(1)
    JUMBOEN = bit(2)
    TXPADEN = bit(10)
    LPBK = bit(15)
    MDCSPD = bit(16)
    CONTMDC = bit(17)
    PREPEND = bits(23, 20)
    RXLNGTHERREN = bit(27)
    RXPADSTRIPEN = bit(28)


class HLREG1(Word):
    RXERRSYM = bit(5)
    RXILLSYM = bit(6)
    RXIDLERR = bit(7)
    RXLCLFLT = bit(8)
    RXRMTFLT = bit(9)


class PAP(Word):
    PACE = bits(19, 16)  # Gbit/s, 0 is 10


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


class MAXFRS(Word):
    MFS = bits(31, 16)  # bytes, CRC included


class PCSS1(Word):
    PCS_RECEIVE_LINK = bit(2)
    LOCAL_FAULT = bit(7)


class PCSS2(Word):
    BASE_R_10G = bit(0)
    BASE_X_10G = bit(1)
    BASE_W_10G = bit(2)
    RECEIVE_LOCAL_FAULT = bit(10)
    TRANSMIT_LOCAL_FAULT = bit(11)
    DEVICE_PRESENT = bits(15, 14)


class XPCSS(Word):
    LANE_0_SYNC = bit(0)
    LANE_1_SYNC = bit(1)
    LANE_2_SYNC = bit(2)
    LANE_3_SYNC = bit(3)
    ALIGN_STATUS = bit(12)
    DESKEW_ERROR = bit(16)
    ALIGN_COLUMN_COUNT_4 = bit(17)
    LANE_0_INVALID_CODE = bit(18)
    LANE_1_INVALID_CODE = bit(19)
    LANE_2_INVALID_CODE = bit(20)
    LANE_3_INVALID_CODE = bit(21)
    LANE_0_COMMA_COUNT_4 = bit(22)
    LANE_1_COMMA_COUNT_4 = bit(23)
    LANE_2_COMMA_COUNT_4 = bit(24)
    LANE_3_COMMA_COUNT_4 = bit(25)
    LANE_0_SIGNAL_DETECT = bit(26)
    LANE_1_SIGNAL_DETECT = bit(27)
    LANE_2_SIGNAL_DETECT = bit(28)
    LANE_3_SIGNAL_DETECT = bit(29)


class SERDESC(Word):
    """The lanes of the four-lane interfaces: polarity, bit order, and which is which."""

    TX_LANE_0_POLARITY = bit(0)
    TX_LANE_1_POLARITY = bit(1)
    TX_LANE_2_POLARITY = bit(2)
    TX_LANE_3_POLARITY = bit(3)
    RX_LANE_0_POLARITY = bit(4)
    RX_LANE_1_POLARITY = bit(5)
    RX_LANE_2_POLARITY = bit(6)
    RX_LANE_3_POLARITY = bit(7)
    SWIZZLE_TX_LANE_0 = bit(8)
    SWIZZLE_TX_LANE_1 = bit(9)
    SWIZZLE_TX_LANE_2 = bit(10)
    SWIZZLE_TX_LANE_3 = bit(11)
    SWIZZLE_RX_LANE_0 = bit(12)
    SWIZZLE_RX_LANE_1 = bit(13)
    SWIZZLE_RX_LANE_2 = bit(14)
    SWIZZLE_RX_LANE_3 = bit(15)
    SWAP_TX_LANE_3 = bits(17, 16)
    SWAP_TX_LANE_2 = bits(19, 18)
    SWAP_TX_LANE_1 = bits(21, 20)
    SWAP_TX_LANE_0 = bits(23, 22)
    SWAP_RX_LANE_3 = bits(25, 24)
    SWAP_RX_LANE_2 = bits(27, 26)
    SWAP_RX_LANE_1 = bits(29, 28)
    SWAP_RX_LANE_0 = bits(31, 30)


class MACS(Word):
    XGXS_SYNC_FIX_DIS = bit(0)
    XGMII_GASKET_TX_END_FIX_DIS = bit(1)
    XGXS_DESKEW_FIX_DIS = bit(2)
    NONCE_MATCH_DIS = bit(3)
    CONFIG_FAULT_LENGTH = bits(23, 16)
    CONFIG_FIFO_THRESHOLD = bits(27, 24)
    TX_FIFO_UNDERRUN = bit(28)
    TX_FIFO_OVERRUN = bit(29)
    RX_FIFO_UNDERRUN = bit(30)
    RX_FIFO_OVERRUN = bit(31)


class MACC(Word):
    FLU = bit(0)
    FSV = bits(17, 16, {3: "10 Gbit/s"})
    FS = bit(18)


class AUTOC(Word):
    FLU = bit(0)
    ANACK2 = bit(1)
    ANSF = bits(6, 2)
    PMA_PMD_10G = bits(8, 7)
    PMA_PMD_1G = bit(9)
    D10GMP = bit(10)
    RATD = bit(11)
    RESTART_AN = bit(12)
    LMS = bits(15, 13, {3: "10G serial"})
    KR_SUPPORT = bit(16)
    FECR = bit(17)
    FECA = bit(18)
    ANRXAT = bits(22, 19)
    ANRXDM = bit(23)
    ANRXLM = bit(24)
    ANPDT = bits(26, 25)
    RF = bit(27)
    PB = bits(29, 28)  # pause
    KX_SUPPORT = bit(30)
    KX4_SUPPORT = bit(31)


class LINKS(Word):
    KX_SIG_DET = bit(0)
    FEC_SIG_DET = bit(1)
    FEC_BLK_LCK = bit(2)
    KR_HI_BERR = bit(3)
    KR_PCS_BL = bit(4)
    KX_AN_NEXT_PAGE_RCV = bit(5)
    KX_AN_PAGE_RCV = bit(6)
    LNK_STAT = bit(7)
    SIGNAL = bits(11, 8)
    KR_SIG_DET = bit(12)
    LANE_SYNC_10G = bits(16, 13)
    ALIGN_10G = bit(17)
    SYNC_1G = bit(18)
    KX_AN_RX_IDLE = bit(19)
    AN_EN_1G = bit(20)
    LINK_EN_1G = bit(21)
    LINK_EN_10G = bit(22)
    FEC_EN = bit(23)
    LINK_10G_SERIAL_EN = bit(24)
    SGMII_EN = bit(25)
    MLINK_MODE = bits(27, 26)
    SPEED = bits(29, 28, {1: "100 Mbit/s", 2: "1 Gbit/s", 3: "10 Gbit/s"})
    LINK_UP = bit(30)
    KX_AN_COMP = bit(31)


class LINKS2(Word):
    MAC_RX_LINK_MODE = bits(1, 0)
    MAC_TX_LINK_MODE = bits(4, 3)
    LP_AN = bit(6)


class AUTOC2(Word):
    PMA_PMD_10G_SERIAL = bits(17, 16, {0: "KR", 1: "XFI", 2: "SFI"})
    DDPT = bit(18)
    PDD = bit(30)


class ANLP1(Word):
    LP_AN_SELECTOR = bits(4, 0)
    LP_AN_ECHOED_NONCE = bits(9, 5)
    LP_AN_PAUSE = bits(11, 10)
    LP_AN_REMOTE_FAULT = bit(13)
    LP_AN_ACK = bit(14)
    LP_AN_NEXT_PAGE = bit(15)
    AN_STATE = bits(19, 16)


class ANLP2(Word):
    LP_AN_NONCE = bits(4, 0)
    LP_AN_ABILITY_LOW = bits(15, 5)
    LP_AN_ABILITY_HIGH = bits(31, 16)


class MMNGC(Word):
    MNG_VETO = bit(0)  # the management controller forbids that the link is changed


class ANLPNP1(Word):
    MESSAGE = bits(10, 0)
    TOGGLE = bit(11)
    ACK2 = bit(12)
    MP = bit(13)
    ACK = bit(14)
    NP = bit(15)
    UNFORMATTED_CODE = bits(31, 16)


class ANLPNP2(Word):
    LP_AN_NEXT_PAGE_HIGH = bits(15, 0)


class KRPCSFC(Word):
    FEC_ENABLE_ERR = bit(16)
    FEC_N_CNT = bits(19, 18)
    FEC_M_CNT = bits(21, 20)
    FEC_LOOSE_MODE = bit(22)
    FEC_RX_SWAP = bit(23)
    FEC_TX_SWAP = bit(24)
    SLIPASS = bit(26)
    SSYNC = bit(27)


class KRPCSS(Word):
    ERRCNT_BLK = bits(10, 3)
    BERBAD_CNT = bits(16, 11)
    RX_FIFO_ERR_LH = bit(17)
    RX_LF_DET = bit(18)
    RX_FRM_ALIGN_ERR = bit(19)
    BLKLCK = bit(20)
    HBER_STS = bit(21)
    RX_LF_DET_2 = bit(22)
    LNK_STS = bit(23)
    RX_UNDERFLOW = bit(24)
    RX_OVERFLOW = bit(25)
    RX_FIFO_ERR = bit(26)
    RX_DATA_VALID = bit(27)
    TX_UNDERFLOW = bit(28)
    TX_OVERFLOW = bit(29)
    TX_FIFO_ERR = bit(30)
    TX_DATA_VALID = bit(31)


class CORECTL(Word):
    """Settings of the analog core, as the EEPROM has them for each kind of SFP+ module."""

    DATA = bits(7, 0)
    ADDRESS = bits(15, 8)
    LATCH_ADDR = bit(16)


class SGMIIC(Word):
    SRXRASSMP = bits(3, 0)
    SRXRARSMP = bits(7, 4)
    STXRASMP = bits(11, 8)
    ANSFLU100 = bit(12)
    ANSBYP = bit(13)
    ANSTRIG = bit(14)
    ANSLNKTMR = bit(15)
    ANIGNRRXRF = bit(17)
