"""Registers of the 82599's 8.2.3.1 to 8.2.3.4: control, EEPROM and flash, flow control, PCIe and semaphores."""

from __future__ import annotations

from ixrings.hw import fields as f
from ixrings.hw.register import Access, Register, RegisterArray, Run, Word

RW, RO = Access.RW, Access.RO


class General:
    # fmt: off
    # 8.2.3.1 general control
    CTRL = Register(f.CTRL, 0x00000, RW, 0x0000_0000, "8.2.3.1.1", aliases=(0x00004,))
    STATUS = Register(f.STATUS, 0x00008, RO, 0x0008_0000, "8.2.3.1.2")
    CTRL_EXT = Register(f.CTRL_EXT, 0x00018, RW, 0x0000_0000, "8.2.3.1.3", mask=0x1403_4000)
    ESDP = Register(f.ESDP, 0x00020, RW, 0x0000_0004, "8.2.3.1.4")
    I2CCTL = Register(f.I2CCTL, 0x00028, RW, 0x0000_000F, "8.2.3.1.4", mask=0xF, also=("EODSDP",))
    LEDCTL = Register(f.LEDCTL, 0x00200, RW, 0x0504_0100, "8.2.3.1.5", mask=0xCFCF_CFEF)
    EXVET = Register(f.EXVET, 0x05078, RW, 0x8100_0000, "8.2.3.1.6", mask=0xFFFF_0000)

    # 8.2.3.2 EEPROM
    EEC = Register(f.EEC, 0x10010, RW, 0x0000_2730, "8.2.3.2.1", mask=0x0000_0077)
    EERD = Register(f.EERD, 0x10014, RW, 0x0000_0000, "8.2.3.2.2")
    EEWR = Register(Word, 0x10018, RW, 0x0000_0000, "8.2.3.2")
    FLA = Register(f.FLA, 0x1001C, RW, 0x0000_0000, "8.2.3.2.3", mask=0x8000_0037)
    EEMNGCTL = Register(f.EEMNGCTL, 0x10110, RW, 0, "8.2.3.2.4", mask=0x8003_FFFF)
    EEMNGDATA = Register(f.EEMNGDATA, 0x10114, RW, 0, "8.2.3.2.5", mask=0x0000_FFFF)
    FLMNGCTL = Register(f.FLMNGCTL, 0x10118, RW, 0, "8.2.3.2.6", mask=0x8FFF_FFFF)
    FLMNGDATA = Register(Word, 0x1011C, RW, 0, "8.2.3.2.7")
    FLMNGCNT = Register(Word, 0x10120, RO, 0, "8.2.3.2")
    FLOP = Register(f.FLOP, 0x1013C, RW, 0, "8.2.3.2.8", mask=0xFFFF)
    GRC = Register(f.GRC, 0x10200, RW, 0, "8.2.3.2.9", mask=0x2)

    # 8.2.3.3 flow control
    PFCTOP = Register(f.PFCTOP, 0x03008, RW, 0x0001_8808, "8.2.3.3.1")
    FCTTV = RegisterArray(f.FCTTV, Run(0x03200, 4, 4), RW, 0, "8.2.3.3.2")
    FCRTL = RegisterArray(f.FCRTL, Run(0x03220, 4, 8), RW, 0, "8.2.3.3.3", mask=0x8007_FFF0)
    FCRTH = RegisterArray(f.FCRTH, Run(0x03260, 4, 8), RW, 0, "8.2.3.3.4", mask=0x8007_FFF0)
    FCRTV = Register(f.FCRTV, 0x032A0, RW, 0, "8.2.3.3.5", mask=0x0000_FFFF)
    FCCFG = Register(f.FCCFG, 0x03D00, RW, 0, "8.2.3.3.7")

    # 8.2.3.4 PCIe, firmware and semaphores
    GCR = Register(f.GCR, 0x11000, RW, 0, "8.2.3.4.1", mask=0x0024_1A00)
    GSCL_1 = Register(f.GSCL_1, 0x11010, RW, 0, "8.2.3.4.2", mask=0xF800_00FF)
    GSCL_2 = Register(f.GSCL_2, 0x11014, RW, 0, "8.2.3.4.3")
    GSCL_5_8 = RegisterArray(f.GSCL_5_8, Run(0x11030, 4, 4), RW, 0, "8.2.3.4.4")
    GSCN = RegisterArray(Word, Run(0x11020, 4, 4), RO, 0, "8.2.3.4.5")
    FACTPS = Register(f.FACTPS, 0x10150, RO, 0x0000_0004, "8.2.3.4.6")
    PCIEPHYADR = Register(f.PCIEPHYADR, 0x11040, RW, 0, "8.2.3.4.7", mask=0xFE00_0FFF)
    PCIEPHYDAT = Register(Word, 0x11044, RW, 0, "8.2.3.4.8")
    SWSM = Register(f.SWSM, 0x10140, Access.SEMAPHORE, 0, "8.2.3.4.9")
    FWSM = Register(f.FWSM, 0x10148, RO, 0x0000_8040, "8.2.3.4.10")
    SW_FW_SYNC = Register(f.SW_FW_SYNC, 0x10160, RW, 0, "8.2.3.4.11", mask=0x0000_041F, also=("GSSR",))
    GCR_EXT = Register(f.GCR_EXT, 0x11050, RW, 0, "8.2.3.4.12")
    MREVID = Register(f.MREVID, 0x11064, RO, 0, "8.2.3.4.13")
    PICAUSE = Register(f.PICAUSE, 0x110B0, Access.W1C, 0, "8.2.3.4.14")
    PIENA = Register(f.PICAUSE, 0x110B8, RW, 0, "8.2.3.4.15", mask=0x1F)
    PCIEECCCTL = Register(Word, 0x1106C, RO, 0, "8.2.3.4")
    CIAA = Register(Word, 0x11088, RW, 0, "8.2.3.4")
    CIAD = Register(Word, 0x1108C, RW, 0, "8.2.3.4")
    PCIE_DIAG = RegisterArray(Word, Run(0x11090, 4, 8), RO, 0, "8.2.3.4")
    # fmt: on
