"""Registers of the 82599's 8.2.3.1 to 8.2.3.4: control, EEPROM and flash, flow control, PCIe and semaphores."""

from __future__ import annotations

from .. import fields as f
from ..register import Access, Register, RegisterArray, Run, Word

RW, RO = Access.RW, Access.RO


class General:
    # fmt: off
    # 8.2.3.1 general control
    CTRL = Register(f.CTRL, 0x00000, RW, 0x0000_0000, "8.2.3.1.1", "Device Control", aliases=(0x00004,))
    STATUS = Register(f.STATUS, 0x00008, RO, 0x0008_0000, "8.2.3.1.2", "Device Status")
    CTRL_EXT = Register(f.CTRL_EXT, 0x00018, RW, 0x0000_0000, "8.2.3.1.3", "Extended Device Control", mask=0x1403_4000)
    ESDP = Register(f.ESDP, 0x00020, RW, 0x0000_0004, "8.2.3.1.4", "Extended SDP Control")
    I2CCTL = Register(f.I2CCTL, 0x00028, RW, 0x0000_000F, "8.2.3.1.4", "I2C Control", mask=0xF, also=("EODSDP",))
    LEDCTL = Register(f.LEDCTL, 0x00200, RW, 0x0504_0100, "8.2.3.1.5", "LED Control", mask=0xCFCF_CFEF)
    EXVET = Register(f.EXVET, 0x05078, RW, 0x8100_0000, "8.2.3.1.6", "Extended VLAN Ether Type", mask=0xFFFF_0000)

    # 8.2.3.2 EEPROM and flash
    EEC = Register(f.EEC, 0x10010, RW, 0x0000_2730, "8.2.3.2.1", "EEPROM/Flash Control", mask=0x0000_0077)
    EERD = Register(f.EERD, 0x10014, RW, 0x0000_0000, "8.2.3.2.2", "EEPROM Read")
    EEWR = Register(Word, 0x10018, RW, 0x0000_0000, "8.2.3.2", "EEPROM Write")
    FLA = Register(f.FLA, 0x1001C, RW, 0x0000_0000, "8.2.3.2.3", "Flash Access", mask=0x8000_0037)
    EEMNGCTL = Register(f.EEMNGCTL, 0x10110, RW, 0, "8.2.3.2.4", "Manageability EEPROM Control", mask=0x8003_FFFF)
    EEMNGDATA = Register(f.EEMNGDATA, 0x10114, RW, 0, "8.2.3.2.5", "Manageability EEPROM Read/Write Data", mask=0x0000_FFFF)
    FLMNGCTL = Register(f.FLMNGCTL, 0x10118, RW, 0, "8.2.3.2.6", "Manageability Flash Control", mask=0x8FFF_FFFF)
    FLMNGDATA = Register(Word, 0x1011C, RW, 0, "8.2.3.2.7", "Manageability Flash Read Data")
    FLMNGCNT = Register(Word, 0x10120, RO, 0, "8.2.3.2", "Manageability Flash Read Counter")
    FLOP = Register(f.FLOP, 0x1013C, RW, 0, "8.2.3.2.8", "Flash Opcode", mask=0xFFFF)
    GRC = Register(f.GRC, 0x10200, RW, 0, "8.2.3.2.9", "General Receive Control", mask=0x2)

    # 8.2.3.3 flow control
    PFCTOP = Register(f.PFCTOP, 0x03008, RW, 0x0001_8808, "8.2.3.3.1", "Priority Flow Control Type Opcode")
    FCTTV = RegisterArray(f.FCTTV, Run(0x03200, 4, 4), RW, 0, "8.2.3.3.2", "Flow Control Transmit Timer Value")
    FCRTL = RegisterArray(f.FCRTL, Run(0x03220, 4, 8), RW, 0, "8.2.3.3.3", "Flow Control Receive Threshold Low", mask=0x8007_FFF0)
    FCRTH = RegisterArray(f.FCRTH, Run(0x03260, 4, 8), RW, 0, "8.2.3.3.4", "Flow Control Receive Threshold High", mask=0x8007_FFF0)
    FCRTV = Register(f.FCRTV, 0x032A0, RW, 0, "8.2.3.3.5", "Flow Control Refresh Threshold Value", mask=0x0000_FFFF)
    FCCFG = Register(f.FCCFG, 0x03D00, RW, 0, "8.2.3.3.7", "Flow Control Configuration")

    # 8.2.3.4 PCIe, firmware and semaphores
    GCR = Register(f.GCR, 0x11000, RW, 0, "8.2.3.4.1", "PCIe Control", mask=0x0024_1A00)
    GSCL_1 = Register(f.GSCL_1, 0x11010, RW, 0, "8.2.3.4.2", "PCIe Statistic Control 1", mask=0xF800_00FF)
    GSCL_2 = Register(f.GSCL_2, 0x11014, RW, 0, "8.2.3.4.3", "PCIe Statistic Control 2")
    GSCL_5_8 = RegisterArray(f.GSCL_5_8, Run(0x11030, 4, 4), RW, 0, "8.2.3.4.4", "PCIe Statistic Control 5 to 8")
    GSCN = RegisterArray(Word, Run(0x11020, 4, 4), RO, 0, "8.2.3.4.5", "PCIe Statistic Counter")
    FACTPS = Register(f.FACTPS, 0x10150, RO, 0x0000_0004, "8.2.3.4.6", "Function Active and Power State")
    PCIEPHYADR = Register(f.PCIEPHYADR, 0x11040, RW, 0, "8.2.3.4.7", "PCIe PHY Address", mask=0xFE00_0FFF)
    PCIEPHYDAT = Register(Word, 0x11044, RW, 0, "8.2.3.4.8", "PCIe PHY Data")
    SWSM = Register(f.SWSM, 0x10140, Access.SEMAPHORE, 0, "8.2.3.4.9", "Software Semaphore")
    FWSM = Register(f.FWSM, 0x10148, RO, 0x0000_8040, "8.2.3.4.10", "Firmware Semaphore")
    SW_FW_SYNC = Register(f.SW_FW_SYNC, 0x10160, RW, 0, "8.2.3.4.11", "Software-Firmware Synchronization", mask=0x0000_041F, also=("GSSR",))
    GCR_EXT = Register(f.GCR_EXT, 0x11050, RW, 0, "8.2.3.4.12", "PCIe Control Extended")
    MREVID = Register(f.MREVID, 0x11064, RO, 0, "8.2.3.4.13", "Mirrored Revision ID")
    PICAUSE = Register(f.PICAUSE, 0x110B0, Access.W1C, 0, "8.2.3.4.14", "PCIe Interrupt Cause")
    PIENA = Register(f.PICAUSE, 0x110B8, RW, 0, "8.2.3.4.15", "PCIe Interrupt Enable", mask=0x1F)
    PCIEECCCTL = Register(Word, 0x1106C, RO, 0, "8.2.3.4", "PCIe ECC Control")
    CIAA = Register(Word, 0x11088, RW, 0, "8.2.3.4", "Configuration Space Indirect Access Address")
    CIAD = Register(Word, 0x1108C, RW, 0, "8.2.3.4", "Configuration Space Indirect Access Data")
    PCIE_DIAG = RegisterArray(Word, Run(0x11090, 4, 8), RO, 0, "8.2.3.4", "PCIe Diagnostics (Debug)")
    # fmt: on
