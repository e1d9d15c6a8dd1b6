"""MAC, link and MDIO (82599 8.2.3.22)."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word


class PCS1GCFIG(Word):
    PCS_ISOLATE = bit(30, "separates the 1G PCS from the MAC's data path")


class PCS1GLCTL(Word):
    FLV = bit(0, "forced link value: state of the link when FORCE_1G_LINK is set")
    FORCE_1G_LINK = bit(5, "the state of the link is FLV")
    LINK_LATCH_LOW = bit(6, "a loss of link is held until it is read")
    AN_1G_TIMEOUT_EN = bit(18, "auto-negotiation ends without a partner after a time-out")
    LINK_OK_FIX_EN = bit(25, "fix of LINK_OK and SYNC_OK; set in normal operation")


class PCS1GLSTA(Word):
    LINK_OK = bit(0)
    SYNC_OK_1G = bit(4, "the receiver is synchronised")
    AN_1G_COMPLETE = bit(16)
    AN_PAGE_RECEIVED = bit(17)
    AN_1G_TIMEDOUT = bit(18)
    AN_REMOTE_FAULT = bit(19)
    AN_ERROR = bit(20)


class PCS1GANA(Word):
    FDC = bit(5, "full duplex")
    ASM = bits(8, 7, "pause: symmetric, asymmetric")
    RFLT = bits(13, 12, "remote fault")
    NEXTP = bit(15, "next page")


class PCS1GANLP(Word):
    LPFD = bit(5, "full duplex")
    LPHD = bit(6, "half duplex")
    LPASM = bits(8, 7, "pause: symmetric, asymmetric")
    PRF = bits(13, 12, "remote fault")
    ACK = bit(14, "acknowledge")
    LPNEXTP = bit(15, "next page")


class PCS1GANNP(Word):
    CODE = bits(10, 0, "message or unformatted code")
    TOGGLE = bit(11)
    ACK2 = bit(12, "the message can be followed")
    PGTYPE = bit(13, "1: message page, 0: unformatted")
    NXTPG = bit(15, "another page follows")


class PCS1GANLPNP(Word):
    CODE = bits(10, 0, "message or unformatted code")
    TOGGLE = bit(11)
    ACK2 = bit(12, "the message can be followed")
    MSGPG = bit(13, "1: message page, 0: unformatted")
    ACK = bit(14, "acknowledge")
    NXTPG = bit(15, "another page follows")


class HLREG0(Word):
    TXCRCEN = bit(0, "append the CRC")
    RXCRCSTRP = bit(1, "strip the CRC")
    JUMBOEN = bit(2, "frames up to MAXFRS")
    TXPADEN = bit(10, "pad short frames")
    LPBK = bit(15, "MAC loopback")
    MDCSPD = bit(16, "speed of the MDIO clock")
    CONTMDC = bit(17, "MDIO clock runs always")
    PREPEND = bits(23, 20, "32-bit words after the preamble that the CRC leaves out")
    RXLNGTHERREN = bit(27, "length errors are reported")
    RXPADSTRIPEN = bit(28, "strip padding")


class HLREG1(Word):
    RXERRSYM = bit(5, "an error symbol was received")
    RXILLSYM = bit(6, "an illegal symbol was received")
    RXIDLERR = bit(7, "a symbol other than idle was received while idle")
    RXLCLFLT = bit(8, "local fault")
    RXRMTFLT = bit(9, "remote fault")


class PAP(Word):
    PACE = bits(19, 16, "speed limit in Gbit/s, 0 is 10")


class MSCA(Word):
    """One access on the MDIO bus (3.7.2.2)."""

    MDIADD = bits(15, 0, "register, or data of an old protocol")
    DEVADD = bits(20, 16)
    PHYADD = bits(25, 21)
    OPCODE = bits(27, 26, values={0: "address", 1: "write", 2: "read, then the next address", 3: "read"})
    STCODE = bits(29, 28, "start code")
    MDICMD = bit(30, "starts the access; clears itself at the end")


class MSRWD(Word):
    MDIWRDATA = bits(15, 0, "data to write")
    MDIRDDATA = bits(31, 16, "data read")


class MAXFRS(Word):
    MFS = bits(31, 16, "largest frame in bytes, with CRC")


class PCSS1(Word):
    PCS_RECEIVE_LINK = bit(2, "the PCS receives")
    LOCAL_FAULT = bit(7)


class PCSS2(Word):
    BASE_R_10G = bit(0)
    BASE_X_10G = bit(1)
    BASE_W_10G = bit(2)
    RECEIVE_LOCAL_FAULT = bit(10)
    TRANSMIT_LOCAL_FAULT = bit(11)
    DEVICE_PRESENT = bits(15, 14, "a device answers")


class XPCSS(Word):
    LANE_0_SYNC = bit(0, "lane 0 is synchronised")
    LANE_1_SYNC = bit(1, "lane 1 is synchronised")
    LANE_2_SYNC = bit(2, "lane 2 is synchronised")
    LANE_3_SYNC = bit(3, "lane 3 is synchronised")
    ALIGN_STATUS = bit(12, "lanes are aligned")
    DESKEW_ERROR = bit(16, "lanes could not be aligned")
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
    """The lanes of the four-lane interfaces: polarity, bit order and numbering."""

    TX_LANE_0_POLARITY = bit(0, "1: inverted")
    TX_LANE_1_POLARITY = bit(1, "1: inverted")
    TX_LANE_2_POLARITY = bit(2, "1: inverted")
    TX_LANE_3_POLARITY = bit(3, "1: inverted")
    RX_LANE_0_POLARITY = bit(4, "1: inverted")
    RX_LANE_1_POLARITY = bit(5, "1: inverted")
    RX_LANE_2_POLARITY = bit(6, "1: inverted")
    RX_LANE_3_POLARITY = bit(7, "1: inverted")
    SWIZZLE_TX_LANE_0 = bit(8, "1: bits in reverse order")
    SWIZZLE_TX_LANE_1 = bit(9, "1: bits in reverse order")
    SWIZZLE_TX_LANE_2 = bit(10, "1: bits in reverse order")
    SWIZZLE_TX_LANE_3 = bit(11, "1: bits in reverse order")
    SWIZZLE_RX_LANE_0 = bit(12, "1: bits in reverse order")
    SWIZZLE_RX_LANE_1 = bit(13, "1: bits in reverse order")
    SWIZZLE_RX_LANE_2 = bit(14, "1: bits in reverse order")
    SWIZZLE_RX_LANE_3 = bit(15, "1: bits in reverse order")
    SWAP_TX_LANE_3 = bits(17, 16, "MAC lane on transmit lane 3")
    SWAP_TX_LANE_2 = bits(19, 18, "MAC lane on transmit lane 2")
    SWAP_TX_LANE_1 = bits(21, 20, "MAC lane on transmit lane 1")
    SWAP_TX_LANE_0 = bits(23, 22, "MAC lane on transmit lane 0")
    SWAP_RX_LANE_3 = bits(25, 24, "MAC lane on receive lane 3")
    SWAP_RX_LANE_2 = bits(27, 26, "MAC lane on receive lane 2")
    SWAP_RX_LANE_1 = bits(29, 28, "MAC lane on receive lane 1")
    SWAP_RX_LANE_0 = bits(31, 30, "MAC lane on receive lane 0")


class MACS(Word):
    XGXS_SYNC_FIX_DIS = bit(0, "1: fix of the XGXS synchronisation off")
    XGMII_GASKET_TX_END_FIX_DIS = bit(1, "1: fix of the transmit end off")
    XGXS_DESKEW_FIX_DIS = bit(2, "1: fix of the lane alignment off")
    NONCE_MATCH_DIS = bit(3, "1: auto-negotiation ignores a match of nonces")
    CONFIG_FAULT_LENGTH = bits(23, 16, "length of a fault sequence")
    CONFIG_FIFO_THRESHOLD = bits(27, 24, "FIFO threshold")
    TX_FIFO_UNDERRUN = bit(28)
    TX_FIFO_OVERRUN = bit(29)
    RX_FIFO_UNDERRUN = bit(30)
    RX_FIFO_OVERRUN = bit(31)


class MFLCN(Word):
    PMCF = bit(0, "pass MAC control frames to the host")
    DPF = bit(1, "discard pause frames")
    RPFCM = bit(2, "receive priority flow control")
    RFCE = bit(3, "receive link flow control (802.3x)")


class MACC(Word):
    FLU = bit(0, "force link up")
    FSV = bits(17, 16, "forced speed", {3: "10 Gbit/s"})
    FS = bit(18, "force the speed")


class AUTOC(Word):
    FLU = bit(0, "force link up")
    ANACK2 = bit(1, "value of ACK2 in auto-negotiation")
    ANSF = bits(6, 2, "selector field of auto-negotiation")
    PMA_PMD_10G = bits(8, 7, "10G interface: XAUI, KX4 or CX4")
    PMA_PMD_1G = bit(9, "1G interface: SFI or KX")
    D10GMP = bit(10, "no 10G without main power")
    RATD = bit(11, "restart auto-negotiation when the D-state changes")
    RESTART_AN = bit(12, "restart auto-negotiation; clears itself")
    LMS = bits(15, 13, "link mode select", {3: "10G serial"})
    KR_SUPPORT = bit(16, "advertise KR")
    FECR = bit(17, "request FEC")
    FECA = bit(18, "advertise FEC")
    ANRXAT = bits(22, 19, "align threshold of the auto-negotiation receiver")
    ANRXDM = bit(23, "drift mode of the auto-negotiation receiver")
    ANRXLM = bit(24, "loose mode of the auto-negotiation receiver")
    ANPDT = bits(26, 25, "parallel detect timer")
    RF = bit(27, "advertise a remote fault")
    PB = bits(29, 28, "pause bits to advertise")
    KX_SUPPORT = bit(30, "advertise KX")
    KX4_SUPPORT = bit(31, "advertise KX4")


class LINKS(Word):
    KX_SIG_DET = bit(0, "signal on KX")
    FEC_SIG_DET = bit(1, "signal at the FEC")
    FEC_BLK_LCK = bit(2, "FEC has found the blocks")
    KR_HI_BERR = bit(3, "KR: high bit error rate")
    KR_PCS_BL = bit(4, "KR: PCS has found the blocks")
    KX_AN_NEXT_PAGE_RCV = bit(5, "auto-negotiation received a next page")
    KX_AN_PAGE_RCV = bit(6, "auto-negotiation received a page")
    LNK_STAT = bit(7, "link has been up since the last read")
    SIGNAL = bits(11, 8, "signal on each KX4 lane")
    KR_SIG_DET = bit(12, "signal on KR")
    LANE_SYNC_10G = bits(16, 13, "each 10G lane is synchronised")
    ALIGN_10G = bit(17, "10G lanes are aligned")
    SYNC_1G = bit(18, "1G is synchronised")
    KX_AN_RX_IDLE = bit(19, "auto-negotiation receives nothing")
    AN_EN_1G = bit(20, "1G auto-negotiation is enabled")
    LINK_EN_1G = bit(21, "1G link is enabled")
    LINK_EN_10G = bit(22, "10G parallel link is enabled")
    FEC_EN = bit(23, "FEC is used")
    LINK_10G_SERIAL_EN = bit(24, "10G serial link is enabled")
    SGMII_EN = bit(25, "SGMII is enabled")
    MLINK_MODE = bits(27, 26, "link mode of the MAC")
    SPEED = bits(29, 28, values={1: "100 Mbit/s", 2: "1 Gbit/s", 3: "10 Gbit/s"})
    LINK_UP = bit(30)
    KX_AN_COMP = bit(31, "auto-negotiation is complete")


class LINKS2(Word):
    MAC_RX_LINK_MODE = bits(1, 0, "link mode of the MAC's receiver")
    MAC_TX_LINK_MODE = bits(4, 3, "link mode of the MAC's transmitter")
    LP_AN = bit(6, "the link partner can auto-negotiate")


class AUTOC2(Word):
    PMA_PMD_10G_SERIAL = bits(17, 16, "10G serial interface", {0: "KR", 1: "XFI", 2: "SFI"})
    DDPT = bit(18, "send no auto-negotiation pages")
    PDD = bit(30, "parallel detect off")


class ANLP1(Word):
    LP_AN_SELECTOR = bits(4, 0)
    LP_AN_ECHOED_NONCE = bits(9, 5, "this port's nonce, as the partner returned it")
    LP_AN_PAUSE = bits(11, 10)
    LP_AN_REMOTE_FAULT = bit(13)
    LP_AN_ACK = bit(14)
    LP_AN_NEXT_PAGE = bit(15)
    AN_STATE = bits(19, 16, "state of auto-negotiation")


class ANLP2(Word):
    LP_AN_NONCE = bits(4, 0)
    LP_AN_ABILITY_LOW = bits(15, 5, "technologies that the partner advertises")
    LP_AN_ABILITY_HIGH = bits(31, 16, "technologies that the partner advertises")


class MMNGC(Word):
    MNG_VETO = bit(0, "the management controller forbids changes of the link")


class ANLPNP1(Word):
    MESSAGE = bits(10, 0, "message code")
    TOGGLE = bit(11)
    ACK2 = bit(12, "the message can be followed")
    MP = bit(13, "1: message page, 0: unformatted")
    ACK = bit(14, "acknowledge")
    NP = bit(15, "another page follows")
    UNFORMATTED_CODE = bits(31, 16)


class ANLPNP2(Word):
    LP_AN_NEXT_PAGE_HIGH = bits(15, 0)


class KRPCSFC(Word):
    FEC_ENABLE_ERR = bit(16, "FEC reports errors to the PCS")
    FEC_N_CNT = bits(19, 18, "good blocks until FEC has the lock")
    FEC_M_CNT = bits(21, 20, "bad blocks until FEC loses the lock")
    FEC_LOOSE_MODE = bit(22, "FEC looks for the lock in loose mode")
    FEC_RX_SWAP = bit(23, "FEC bit order, receive")
    FEC_TX_SWAP = bit(24, "FEC bit order, transmit")
    SLIPASS = bit(26, "slip assist of the block lock")
    SSYNC = bit(27, "synchronous slip of the block lock")


class KRPCSS(Word):
    ERRCNT_BLK = bits(10, 3, "count of bad blocks")
    BERBAD_CNT = bits(16, 11, "count of bit error rate errors")
    RX_FIFO_ERR_LH = bit(17, "receive FIFO error, held until it is read")
    RX_LF_DET = bit(18, "local fault detected")
    RX_FRM_ALIGN_ERR = bit(19, "frame alignment error")
    BLKLCK = bit(20, "block lock")
    HBER_STS = bit(21, "high bit error rate")
    RX_LF_DET_2 = bit(22, "local fault detected")
    LNK_STS = bit(23, "the PCS receives")
    RX_UNDERFLOW = bit(24)
    RX_OVERFLOW = bit(25)
    RX_FIFO_ERR = bit(26)
    RX_DATA_VALID = bit(27)
    TX_UNDERFLOW = bit(28)
    TX_OVERFLOW = bit(29)
    TX_FIFO_ERR = bit(30)
    TX_DATA_VALID = bit(31)


class CORECTL(Word):
    """Settings of the analog core. The EEPROM lists them for each kind of SFP+ module."""

    DATA = bits(7, 0, "value of the analog register")
    ADDRESS = bits(15, 8, "analog register")
    LATCH_ADDR = bit(16, "the write sets the address only")


class SGMIIC(Word):
    SRXRASSMP = bits(3, 0, "shift of the receive sampling")
    SRXRARSMP = bits(7, 4, "shift of the replicated receive sampling")
    STXRASMP = bits(11, 8, "shift of the transmit sampling")
    ANSFLU100 = bit(12, "force link up at 100 Mbit/s")
    ANSBYP = bit(13, "bypass of auto-negotiation")
    ANSTRIG = bit(14, "trigger of auto-negotiation")
    ANSLNKTMR = bit(15, "link timer of auto-negotiation")
    ANIGNRRXRF = bit(17, "ignore a remote fault of the partner")
