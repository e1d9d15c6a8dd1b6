"""Registers of the 82599's 8.2.3.22: MAC, link, MDIO."""

from __future__ import annotations

from .. import fields as f
from ..register import Access, Register, Word

RW, RO, RC = Access.RW, Access.RO, Access.RC


class Mac:
    # fmt: off
    # 8.2.3.22 MAC
    PCS1GCFIG = Register(f.PCS1GCFIG, 0x04200, RW, 0, "8.2.3.22.1", "PCS_1G Global Config 1", mask=0x4000_0000)
    PCS1GLCTL = Register(f.PCS1GLCTL, 0x04208, RW, 0x0204_0000, "8.2.3.22.2", "PCS_1G Link Control", mask=0x0204_0061)
    PCS1GLSTA = Register(f.PCS1GLSTA, 0x0420C, RO, 0, "8.2.3.22.3", "PCS_1G Link Status")
    PCS1GANA = Register(f.PCS1GANA, 0x04218, RW, 0x0000_01A0, "8.2.3.22.4", "PCS_1G Auto-Negotiation Advertisement", mask=0xB1A0)
    PCS1GANLP = Register(f.PCS1GANLP, 0x0421C, RO, 0, "8.2.3.22.5", "PCS_1G Auto-Negotiation Link Partner Ability")
    PCS1GANNP = Register(f.PCS1GANNP, 0x04220, RW, 0, "8.2.3.22.6", "PCS_1G Auto-Negotiation Next Page Transmit", mask=0xBFFF)
    PCS1GANLPNP = Register(f.PCS1GANLPNP, 0x04224, RO, 0, "8.2.3.22.7", "PCS_1G Auto-Negotiation Link Partner Next Page")
    HLREG0 = Register(f.HLREG0, 0x04240, RW, 0x0801_2C0B, "8.2.3.22.8", "MAC Core Control 0")
    HLREG1 = Register(f.HLREG1, 0x04244, RC, 0, "8.2.3.22.9", "MAC Core Status 1")
    PAP = Register(f.PAP, 0x04248, RW, 0, "8.2.3.22.10", "Pause and Pace", mask=0x000F_0000)
    MACA = Register(Word, 0x0424C, RO, 0, "8.2.3.22", "MDI Auto-Scan Command and Address")
    APAE = Register(Word, 0x04250, RO, 0, "8.2.3.22", "Auto-Scan PHY Address Enable")
    ARD = Register(Word, 0x04254, RO, 0, "8.2.3.22", "Auto-Scan Read Data")
    AIS = Register(Word, 0x04258, RO, 0, "8.2.3.22", "Auto-Scan Interrupt Status")
    MLADD = Register(Word, 0x04264, RO, 0, "8.2.3.22", "MAC Address Low")
    TREG = Register(Word, 0x0426C, RO, 0, "8.2.3.22", "MAC Test (Debug)")
    PCS1GDBG0 = Register(Word, 0x04210, RO, 0, "8.2.3.22", "PCS_1G Debug 0")
    PCS1GDBG1 = Register(Word, 0x04214, RO, 0, "8.2.3.22", "PCS_1G Debug 1")
    MSCA = Register(f.MSCA, 0x0425C, RW, 0, "8.2.3.22.11", "MDI Single Command and Address", mask=0x5FFF_FFFF)
    MSRWD = Register(f.MSRWD, 0x04260, RW, 0, "8.2.3.22.12", "MDI Single Read and Write Data", mask=0xFFFF)
    MAXFRS = Register(f.MAXFRS, 0x04268, RW, 0x05EE_0000, "8.2.3.22.13", "Max Frame Size", mask=0xFFFF_0000, also=("MHADD",))
    PCSS1 = Register(f.PCSS1, 0x04288, RO, 0, "8.2.3.22.14", "XGXS Status 1")
    PCSS2 = Register(f.PCSS2, 0x0428C, RO, 0, "8.2.3.22.15", "XGXS Status 2")
    XPCSS = Register(f.XPCSS, 0x04290, RO, 0, "8.2.3.22.16", "10GBASE-X PCS Status")
    SERDESC = Register(f.SERDESC, 0x04298, RW, 0, "8.2.3.22.17", "SerDes Interface Control")
    MACS = Register(f.MACS, 0x0429C, RW, 0, "8.2.3.22.18", "FIFO Status/Control Report", mask=0xFFFF_000F)
    MFLCN = Register(f.MFLCN, 0x04294, RW, 0, "8.2.3.22.34", "MAC Flow Control")
    AUTOC = Register(f.AUTOC, 0x042A0, RW, 0xC09C_6004, "8.2.3.22.19", "Auto-Negotiation Control")
    LINKS = Register(f.LINKS, 0x042A4, RO, 0x0100_0000, "8.2.3.22.20", "Link Status")
    LINKS2 = Register(f.LINKS2, 0x04324, RO, 0, "8.2.3.22.21", "Link Status 2")
    AUTOC2 = Register(f.AUTOC2, 0x042A8, RW, 0x0002_0000, "8.2.3.22.22", "Auto-Negotiation Control 2")
    ANLP1 = Register(f.ANLP1, 0x042B0, RO, 0x0001_0000, "8.2.3.22.23", "Auto-Negotiation Link Partner")
    ANLP2 = Register(f.ANLP2, 0x042B4, RO, 0, "8.2.3.22.24", "Auto-Negotiation Link Partner 2")
    MMNGC = Register(f.MMNGC, 0x042D0, RO, 0, "8.2.3.22.25", "MAC Manageability Control")
    ANLPNP1 = Register(f.ANLPNP1, 0x042D4, RO, 0, "8.2.3.22.26", "Auto-Negotiation Link Partner Next Page 1")
    ANLPNP2 = Register(f.ANLPNP2, 0x042D8, RO, 0, "8.2.3.22.27", "Auto-Negotiation Link Partner Next Page 2")
    KRPCSFC = Register(f.KRPCSFC, 0x042E0, RW, 0, "8.2.3.22.28", "KR PCS and FEC Control", mask=0x0DFD_0000)
    KRPCSS = Register(f.KRPCSS, 0x042E4, RC, 0, "8.2.3.22.29", "KR PCS Status")
    FECS1 = Register(Word, 0x042E8, RC, 0, "8.2.3.22.30", "FEC Status 1")
    FECS2 = Register(Word, 0x042EC, RC, 0, "8.2.3.22.31", "FEC Status 2")
    MDFTC1 = Register(Word, 0x042B8, RO, 0, "8.2.3.22", "MAC Design-for-Test Control 1 (Debug)")
    MDFTC2 = Register(Word, 0x042C0, RO, 0, "8.2.3.22", "MAC Design-for-Test Control 2 (Debug)")
    MDFTFIFO1 = Register(Word, 0x042C4, RO, 0, "8.2.3.22", "MAC Design-for-Test FIFO 1 (Debug)")
    MDFTFIFO2 = Register(Word, 0x042C8, RO, 0, "8.2.3.22", "MAC Design-for-Test FIFO 2 (Debug)")
    MDFTS = Register(Word, 0x042CC, RO, 0, "8.2.3.22", "MAC Design-for-Test Status (Debug)")
    MACC = Register(f.MACC, 0x04330, RW, 0, "8.2.3.22", "MAC Control")
    CORECTL = Register(f.CORECTL, 0x14F00, RW, 0, "8.2.3.22.32", "Core Analog Configuration")
    SMADARCTL = Register(f.CORECTL, 0x14F10, RW, 0, "8.2.3.22.33", "Core Common Configuration", mask=0x0001_FFFF)
    SGMIIC = Register(f.SGMIIC, 0x04314, RW, 0, "8.2.3.22.35", "SGMII Control", mask=0x0002_FFFF)
    # fmt: on
