"""General control, EEPROM and flash, flow control, PCIe and semaphores (82599 8.2.3.1 to 8.2.3.4)."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word

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
    GIO_DIS = bit(2, "PCIe master disable: the NIC sends no new requests")
    LRST = bit(3, "link reset: resets MAC and PHY, too")
    RST = bit(26, "device reset; clears itself")


class STATUS(Word):
    LAN_ID = bits(3, 2, "which of the two ports this is")
    LINK_UP = bit(7)
    NUM_VFS = bits(17, 10, "number of virtual functions")
    IOV = bit(18, "virtual functions are enabled")
    GIO_MASTER_EN = bit(19, "reads 0 once GIO_DIS is set and no request is outstanding")


class CTRL_EXT(Word):
    PFRSTD = bit(14, "PF reset done: virtual functions may go on")
    NS_DIS = bit(16, "no-snoop off")
    RO_DIS = bit(17, "relaxed ordering off")
    EXTENDED_VLAN = bit(26, "frames carry two tags")
    DRV_LOAD = bit(28, "tells the firmware that a driver is loaded")


class ESDP(Word):
    SDP0_DATA = bit(0, "level of pin SDP0")
    SDP1_DATA = bit(1, "level of pin SDP1")
    SDP2_DATA = bit(2, "on SFP+ boards: a module is in the cage")
    SDP3_DATA = bit(3, "on SFP+ boards: 1 turns the module's laser off")
    SDP4_DATA = bit(4, "level of pin SDP4")
    SDP5_DATA = bit(5, "level of pin SDP5")
    SDP6_DATA = bit(6, "level of pin SDP6")
    SDP7_DATA = bit(7, "level of pin SDP7")
    SDP0_IODIR = bit(8, "1: SDP0 is an output")
    SDP1_IODIR = bit(9, "1: SDP1 is an output")
    SDP2_IODIR = bit(10, "1: SDP2 is an output")
    SDP3_IODIR = bit(11, "1: SDP3 is an output")
    SDP4_IODIR = bit(12, "1: SDP4 is an output")
    SDP5_IODIR = bit(13, "1: SDP5 is an output")
    SDP6_IODIR = bit(14, "1: SDP6 is an output")
    SDP7_IODIR = bit(15, "1: SDP7 is an output")
    SDP0_NATIVE = bit(16, "1: SDP0 has its native function, 0: software controls it")
    SDP1_NATIVE = bit(17, "1: SDP1 has its native function, 0: software controls it")
    SDP2_NATIVE = bit(18, "1: SDP2 has its native function, 0: software controls it")
    SDP3_NATIVE = bit(19, "1: SDP3 has its native function, 0: software controls it")
    SDP4_NATIVE = bit(20, "1: SDP4 has its native function, 0: software controls it")
    SDP5_NATIVE = bit(21, "1: SDP5 has its native function, 0: software controls it")
    SDP6_NATIVE = bit(22, "1: SDP6 has its native function, 0: software controls it")
    SDP7_NATIVE = bit(23, "1: SDP7 has its native function, 0: software controls it")
    SDP2_TS_TT1 = bit(26, "native function of SDP2: time stamp or target time 1")
    SDP3_TS_TT0 = bit(27, "native function of SDP3: time stamp or target time 0")
    SDP4_FUNCTION = bit(28, "native function of SDP4")
    SDP5_FUNCTION = bit(29, "native function of SDP5")
    SDP6_TS_TT1 = bit(30, "native function of SDP6: time stamp or target time 1")
    SDP7_TS_TT0 = bit(31, "native function of SDP7: time stamp or target time 0")


class I2CCTL(Word):
    I2C_CLK_IN = bit(0)
    I2C_CLK_OUT = bit(1)
    I2C_DATA_IN = bit(2)
    I2C_DATA_OUT = bit(3)


class LEDCTL(Word):
    LED0_MODE = bits(3, 0, values=LED_MODES)
    GLOBAL_BLINK_MODE = bit(5, "blink period", {0: "200 ms", 1: "83 ms"})
    LED0_IVRT = bit(6, "1: the output is inverted")
    LED0_BLINK = bit(7)
    LED1_MODE = bits(11, 8, values=LED_MODES)
    LED1_IVRT = bit(14, "1: the output is inverted")
    LED1_BLINK = bit(15)
    LED2_MODE = bits(19, 16, values=LED_MODES)
    LED2_IVRT = bit(22, "1: the output is inverted")
    LED2_BLINK = bit(23)
    LED3_MODE = bits(27, 24, values=LED_MODES)
    LED3_IVRT = bit(30, "1: the output is inverted")
    LED3_BLINK = bit(31)


class EXVET(Word):
    VET_EXT = bits(31, 16, "EtherType of the outer tag")


# 8.2.3.2 EEPROM and flash


class EEC(Word):
    EE_SK = bit(0, "bit-bang: clock")
    EE_CS = bit(1, "bit-bang: chip select")
    EE_DI = bit(2, "bit-bang: data to the EEPROM")
    EE_DO = bit(3, "bit-bang: data from the EEPROM")
    FWE = bits(5, 4, "flash write enable")
    EE_REQ = bit(6, "software requests bit-bang access")
    EE_GNT = bit(7, "bit-bang access is granted")
    EE_PRES = bit(8, "an EEPROM with a valid signature is present")
    AUTO_RD = bit(9, "the EEPROM was read after reset; also set without an EEPROM")
    EE_SIZE = bits(14, 11, "the EEPROM has 2 ** (EE_SIZE + 6) words")
    PCI_ANA_DONE = bit(15, "the EEPROM's PCIe analog section is loaded")
    PCI_CORE_DONE = bit(16, "the EEPROM's PCIe core section is loaded")
    PCI_GENERAL_DONE = bit(17, "the EEPROM's PCIe general section is loaded")
    PCI_FUNC_DONE = bit(18, "the EEPROM's PCIe function section is loaded")
    CORE_DONE = bit(19, "the EEPROM's core section is loaded")
    CORE_CSR_DONE = bit(20, "the EEPROM's core register section is loaded")
    MAC_DONE = bit(21, "the EEPROM's MAC section is loaded")


class EERD(Word):
    START = bit(0)
    DONE = bit(1)
    ADDR = bits(15, 2, "in words")
    DATA = bits(31, 16)


class FLA(Word):
    FL_SCK = bit(0, "bit-bang: clock")
    FL_CE = bit(1, "bit-bang: chip enable")
    FL_SI = bit(2, "bit-bang: data to the flash")
    FL_SO = bit(3, "bit-bang: data from the flash")
    FL_REQ = bit(4, "software requests bit-bang access")
    FL_GNT = bit(5, "bit-bang access is granted")
    FL_BUSY = bit(30, "a write or erase is running")
    FL_ER = bit(31, "erase the flash")


class EEMNGCTL(Word):
    ADDR = bits(14, 0)
    START = bit(15)
    WRITE = bit(16, "1: write, 0: read")
    EEBUSY = bit(17, "the EEPROM is busy")
    DONE = bit(31)


class EEMNGDATA(Word):
    WRDATA = bits(15, 0, "data to write")
    RDDATA = bits(31, 16, "data read")


class FLMNGCTL(Word):
    ADDR = bits(23, 0)
    CMD = bits(25, 24, "command: read, write or erase")
    CMDV = bit(26, "the command is valid")
    FLBUSY = bit(27, "the flash is busy")
    DONE = bit(30)
    WRDONE = bit(31, "all writes are done")


class FLOP(Word):
    SERASE = bits(7, 0, "the flash's opcode of a sector erase")
    DERASE = bits(15, 8, "the flash's opcode of a device erase")


class GRC(Word):
    MNG_EN = bit(0, "manageability is enabled")
    APME = bit(1, "wake-up is enabled without a driver (advanced power management)")


# 8.2.3.3 flow control


class PFCTOP(Word):
    FCT = bits(15, 0, "EtherType of flow control frames")
    FCOP = bits(31, 16, "opcode of priority flow control frames")


class FCTTV(Word):
    """Each register serves two traffic classes."""

    TTV_0 = bits(15, 0, "pause time of the even traffic class")
    TTV_1 = bits(31, 16, "pause time of the odd traffic class")


class FCRTL(Word):
    RTL = bits(18, 5, "XON is sent when the packet buffer holds less, in 32 bytes")
    XONE = bit(31, "XON enable")


class FCRTH(Word):
    RTH = bits(18, 5, "XOFF is sent when the packet buffer holds more, in 32 bytes")
    FCEN = bit(31, "transmit flow control enable")


class FCRTV(Word):
    FC_REFRESH_TH = bits(15, 0, "XOFF is sent again when its pause time has run down to this")


class FCCFG(Word):
    TFCE = bits(4, 3, "transmit flow control", {0: "off", 1: "802.3x", 2: "priority"})


# 8.2.3.4 PCIe, firmware and semaphores


class GCR(Word):
    COMPLETION_TIMEOUT_RESEND = bit(9, "resend a request when its completion timed out")
    RESENDS = bits(12, 11, "number of resends")
    PCIE_CAPABILITY_VERSION = bit(18, "version of the PCIe capability")
    HEADER_LOG_ORDER = bit(21, "byte order of the AER header log")


class GSCL_1(Word):
    GIO_COUNT_EN_0 = bit(0, "counter GSCN[0] counts")
    GIO_COUNT_EN_1 = bit(1, "counter GSCN[1] counts")
    GIO_COUNT_EN_2 = bit(2, "counter GSCN[2] counts")
    GIO_COUNT_EN_3 = bit(3, "counter GSCN[3] counts")
    LBC_ENABLE_0 = bit(4, "counter GSCN[0] is a leaky bucket")
    LBC_ENABLE_1 = bit(5, "counter GSCN[1] is a leaky bucket")
    LBC_ENABLE_2 = bit(6, "counter GSCN[2] is a leaky bucket")
    LBC_ENABLE_3 = bit(7, "counter GSCN[3] is a leaky bucket")
    GIO_COUNT_TEST = bit(27, "counters run for test")
    GIO_64_BIT_EN = bit(28, "two counters of 64 bits instead of four of 32")
    GIO_COUNT_RESET = bit(29, "reset the counters")
    GIO_COUNT_STOP = bit(30, "stop the counters")
    GIO_COUNT_START = bit(31, "start the counters")


class GSCL_2(Word):
    GIO_EVENT_NUM_0 = bits(7, 0, "event that GSCN[0] counts")
    GIO_EVENT_NUM_1 = bits(15, 8, "event that GSCN[1] counts")
    GIO_EVENT_NUM_2 = bits(23, 16, "event that GSCN[2] counts")
    GIO_EVENT_NUM_3 = bits(31, 24, "event that GSCN[3] counts")


class GSCL_5_8(Word):
    LBC_THRESHOLD = bits(15, 0, "threshold of the leaky bucket")
    LBC_TIMER = bits(31, 16, "time after which the leaky bucket is decremented")


class FACTPS(Word):
    FUNC0_POWER_STATE = bits(1, 0, "D-state of function 0")
    LAN0_VALID = bit(2, "function 0 is enabled")
    FUNC0_AUX_EN = bit(3, "function 0 may use auxiliary power")
    FUNC1_POWER_STATE = bits(7, 6, "D-state of function 1")
    LAN1_VALID = bit(8, "function 1 is enabled")
    FUNC1_AUX_EN = bit(9, "function 1 may use auxiliary power")
    MNGCG = bit(29, "manageability clock is gated")
    LAN_FUNC_SEL = bit(30, "1: ports and functions are swapped")
    PM_STATE_CHANGED = bit(31, "a D-state has changed")


class PCIEPHYADR(Word):
    ADDRESS = bits(11, 0)
    BYTE_ENABLE = bits(28, 25)
    READ_EN = bit(29)
    WRITE_EN = bit(30)
    DONE = bit(31)


class SWSM(Word):
    SMBI = bit(0, "semaphore between drivers; the read that returns 0 takes it")
    SWESMBI = bit(1, "semaphore between software and firmware; taken when a written 1 reads back")


class SW_FW_SYNC(Word):
    SW_EEP_SM = bit(0, "software owns the EEPROM")
    SW_PHY_SM0 = bit(1, "software owns the PHY of port 0")
    SW_PHY_SM1 = bit(2, "software owns the PHY of port 1")
    SW_MAC_CSR_SM = bit(3, "software owns the shared MAC registers")
    SW_FLASH_SM = bit(4, "software owns the flash")
    FW_EEP_SM = bit(5, "firmware owns the EEPROM")
    FW_PHY_SM0 = bit(6, "firmware owns the PHY of port 0")
    FW_PHY_SM1 = bit(7, "firmware owns the PHY of port 1")
    FW_MAC_CSR_SM = bit(8, "firmware owns the shared MAC registers")
    FW_FLASH_SM = bit(9, "firmware owns the flash")
    SW_MNG_SM = bit(10, "software owns the host interface to the firmware")


class FWSM(Word):
    FWSMBI = bit(0, "firmware holds the semaphore")
    FW_MODE = bits(3, 1, "firmware mode")
    EEP_RELOAD_IND = bit(6, "firmware has reloaded the EEPROM")
    FW_VAL_BIT = bit(15, "firmware has set the other fields")
    RESET_CNT = bits(18, 16, "number of firmware resets")
    EXT_ERR_IND = bits(24, 19, "error code of the firmware")
    PCIE_CONFIG_ERR_IND = bit(25, "firmware could not configure PCIe")
    PHY_SERDES0_CONFIG_ERR_IND = bit(26, "firmware could not configure the PHY or SerDes of port 0")
    PHY_SERDES1_CONFIG_ERR_IND = bit(27, "firmware could not configure the PHY or SerDes of port 1")


class GCR_EXT(Word):
    VT_MODE = bits(1, 0, "number of virtual functions' pools")
    APBACD = bit(4, "automatic PBA clear disable")
    BUFFERS_CLEAR_FUNC = bit(30, "drop what is in the PCIe buffers")


class MREVID(Word):
    EEPROM_REVID = bits(7, 0, "revision from the EEPROM")
    DEFAULT_REVID = bits(15, 8, "revision of the silicon")


class PICAUSE(Word):
    """PICAUSE and PIENA."""

    CA = bit(0, "completion abort")
    UA = bit(1, "unsupported I/O address")
    BE = bit(2, "byte enables")
    TO = bit(3, "time-out of a transaction")
    BMEF = bit(4, "bus master enable was cleared")
