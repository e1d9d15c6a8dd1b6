"""General control, EEPROM and flash, flow control, PCIe and semaphores (82599 8.2.3.1 to 8.2.3.4)."""

from __future__ import annotations

from ixrings.hw.register import Word, bit, bits

LED_MODES = {
    0: "link up",
    1: "link at 10 Gbit/s",
    2: "MAC activity",
    3: "filter activity",
    4: "link and activity",
    5: "link at 1 Gbit/s",
    14: "on",
    15: "off",
}


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
    EXTENDED_VLAN = bit(26)  # two tags
    DRV_LOAD = bit(28)  # tells the firmware that a driver is there


class ESDP(Word):
    SDP0_DATA = bit(0)
    SDP1_DATA = bit(1)
    SDP2_DATA = bit(2)  # on SFP+ boards: a module is in the cage
    SDP3_DATA = bit(3)  # on SFP+ boards: 1 turns the module's laser off
    SDP4_DATA = bit(4)
    SDP5_DATA = bit(5)
    SDP6_DATA = bit(6)
    SDP7_DATA = bit(7)
    SDP0_IODIR = bit(8)  # 1 is an output
    SDP1_IODIR = bit(9)
    SDP2_IODIR = bit(10)
    SDP3_IODIR = bit(11)
    SDP4_IODIR = bit(12)
    SDP5_IODIR = bit(13)
    SDP6_IODIR = bit(14)
    SDP7_IODIR = bit(15)
    SDP0_NATIVE = bit(16)  # 1: the pin has a function of the chip
    SDP1_NATIVE = bit(17)
    SDP2_NATIVE = bit(18)
    SDP3_NATIVE = bit(19)
    SDP4_NATIVE = bit(20)
    SDP5_NATIVE = bit(21)
    SDP6_NATIVE = bit(22)
    SDP7_NATIVE = bit(23)
    SDP2_TS_TT1 = bit(26)
    SDP3_TS_TT0 = bit(27)
    SDP4_FUNCTION = bit(28)
    SDP5_FUNCTION = bit(29)
    SDP6_TS_TT1 = bit(30)
    SDP7_TS_TT0 = bit(31)


class I2CCTL(Word):
    I2C_CLK_IN = bit(0)
    I2C_CLK_OUT = bit(1)
    I2C_DATA_IN = bit(2)
    I2C_DATA_OUT = bit(3)


class LEDCTL(Word):
    LED0_MODE = bits(3, 0, LED_MODES)
    GLOBAL_BLINK_MODE = bit(5, {0: "200 ms", 1: "83 ms"})
    LED0_IVRT = bit(6)
    LED0_BLINK = bit(7)
    LED1_MODE = bits(11, 8, LED_MODES)
    LED1_IVRT = bit(14)
    LED1_BLINK = bit(15)
    LED2_MODE = bits(19, 16, LED_MODES)
    LED2_IVRT = bit(22)
    LED2_BLINK = bit(23)
    LED3_MODE = bits(27, 24, LED_MODES)
    LED3_IVRT = bit(30)
    LED3_BLINK = bit(31)


class EXVET(Word):
    VET_EXT = bits(31, 16)  # EtherType of the outer tag


# 8.2.3.2 EEPROM and flash


class EEC(Word):
    EE_SK = bit(0)
    EE_CS = bit(1)
    EE_DI = bit(2)
    EE_DO = bit(3)
    FWE = bits(5, 4)
    EE_REQ = bit(6)
    EE_GNT = bit(7)
    EE_PRES = bit(8)
    AUTO_RD = bit(9)  # also set when there is no EEPROM
    EE_SIZE = bits(14, 11)  # 2 ** (EE_SIZE + 6) words
    PCI_ANA_DONE = bit(15)
    PCI_CORE_DONE = bit(16)
    PCI_GENERAL_DONE = bit(17)
    PCI_FUNC_DONE = bit(18)
    CORE_DONE = bit(19)
    CORE_CSR_DONE = bit(20)
    MAC_DONE = bit(21)


class EERD(Word):
    START = bit(0)
    DONE = bit(1)
    ADDR = bits(15, 2)
    DATA = bits(31, 16)


class FLA(Word):
    FL_SCK = bit(0)
    FL_CE = bit(1)
    FL_SI = bit(2)
    FL_SO = bit(3)
    FL_REQ = bit(4)
    FL_GNT = bit(5)
    FL_BUSY = bit(30)
    FL_ER = bit(31)


class EEMNGCTL(Word):
    ADDR = bits(14, 0)
    START = bit(15)
    WRITE = bit(16)
    EEBUSY = bit(17)
    DONE = bit(31)


class EEMNGDATA(Word):
    WRDATA = bits(15, 0)
    RDDATA = bits(31, 16)


class FLMNGCTL(Word):
    ADDR = bits(23, 0)
    CMD = bits(25, 24)
    CMDV = bit(26)
    FLBUSY = bit(27)
    DONE = bit(30)
    WRDONE = bit(31)


class FLOP(Word):
    SERASE = bits(7, 0)
    DERASE = bits(15, 8)


class GRC(Word):
    MNG_EN = bit(0)
    APME = bit(1)


# 8.2.3.3 flow control


class PFCTOP(Word):
    FCT = bits(15, 0)  # EtherType
    FCOP = bits(31, 16)


class FCTTV(Word):
    """Of two traffic classes."""

    TTV_0 = bits(15, 0)
    TTV_1 = bits(31, 16)


class FCRTL(Word):
    RTL = bits(18, 5)
    XONE = bit(31)


class FCRTH(Word):
    RTH = bits(18, 5)
    FCEN = bit(31)


class FCRTV(Word):
    FC_REFRESH_TH = bits(15, 0)


class FCCFG(Word):
    TFCE = bits(4, 3, {0: "off", 1: "802.3x", 2: "priority"})


class MFLCN(Word):
    PMCF = bit(0)
    DPF = bit(1)
    RPFCM = bit(2)
    RFCE = bit(3)


# 8.2.3.4 PCIe, firmware and semaphores


class GCR(Word):
    COMPLETION_TIMEOUT_RESEND = bit(9)
    RESENDS = bits(12, 11)
    PCIE_CAPABILITY_VERSION = bit(18)
    HEADER_LOG_ORDER = bit(21)


class GSCL_1(Word):
    GIO_COUNT_EN_0 = bit(0)
    GIO_COUNT_EN_1 = bit(1)
    GIO_COUNT_EN_2 = bit(2)
    GIO_COUNT_EN_3 = bit(3)
    LBC_ENABLE_0 = bit(4)
    LBC_ENABLE_1 = bit(5)
    LBC_ENABLE_2 = bit(6)
    LBC_ENABLE_3 = bit(7)
    GIO_COUNT_TEST = bit(27)
    GIO_64_BIT_EN = bit(28)
    GIO_COUNT_RESET = bit(29)
    GIO_COUNT_STOP = bit(30)
    GIO_COUNT_START = bit(31)


class GSCL_2(Word):
    GIO_EVENT_NUM_0 = bits(7, 0)
    GIO_EVENT_NUM_1 = bits(15, 8)
    GIO_EVENT_NUM_2 = bits(23, 16)
    GIO_EVENT_NUM_3 = bits(31, 24)


class GSCL_5_8(Word):
    LBC_THRESHOLD = bits(15, 0)
    LBC_TIMER = bits(31, 16)


class FACTPS(Word):
    FUNC0_POWER_STATE = bits(1, 0)
    LAN0_VALID = bit(2)
    FUNC0_AUX_EN = bit(3)
    FUNC1_POWER_STATE = bits(7, 6)
    LAN1_VALID = bit(8)
    FUNC1_AUX_EN = bit(9)
    MNGCG = bit(29)
    LAN_FUNC_SEL = bit(30)
    PM_STATE_CHANGED = bit(31)


class PCIEPHYADR(Word):
    ADDRESS = bits(11, 0)
    BYTE_ENABLE = bits(28, 25)
    READ_EN = bit(29)
    WRITE_EN = bit(30)
    DONE = bit(31)


class SWSM(Word):
    SMBI = bit(0)  # the read that returns 0 takes it
    SWESMBI = bit(1)


class SW_FW_SYNC(Word):
    SW_EEP_SM = bit(0)
    SW_PHY_SM0 = bit(1)
    SW_PHY_SM1 = bit(2)
    SW_MAC_CSR_SM = bit(3)
    SW_FLASH_SM = bit(4)
    FW_EEP_SM = bit(5)
    FW_PHY_SM0 = bit(6)
    FW_PHY_SM1 = bit(7)
    FW_MAC_CSR_SM = bit(8)
    FW_FLASH_SM = bit(9)
    SW_MNG_SM = bit(10)


class FWSM(Word):
    FWSMBI = bit(0)
    FW_MODE = bits(3, 1)
    EEP_RELOAD_IND = bit(6)
    FW_VAL_BIT = bit(15)
    RESET_CNT = bits(18, 16)
    EXT_ERR_IND = bits(24, 19)
    PCIE_CONFIG_ERR_IND = bit(25)
    PHY_SERDES0_CONFIG_ERR_IND = bit(26)
    PHY_SERDES1_CONFIG_ERR_IND = bit(27)


class GCR_EXT(Word):
    VT_MODE = bits(1, 0)
    APBACD = bit(4)
    BUFFERS_CLEAR_FUNC = bit(30)


class MREVID(Word):
    EEPROM_REVID = bits(7, 0)
    DEFAULT_REVID = bits(15, 8)


class PICAUSE(Word):
    """PICAUSE and PIENA."""

    CA = bit(0)  # completion abort
    UA = bit(1)  # unsupported I/O address
    BE = bit(2)  # byte enables
    TO = bit(3)  # time-out of a transaction
    BMEF = bit(4)  # bus master enable was cleared
