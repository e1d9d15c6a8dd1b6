"""Registers of the 82599's 8.2.3.22: MAC, link, MDIO."""

from __future__ import annotations

from ixrings.hw import fields as f
from ixrings.hw.register import Access, Register, Word

RW, RO, RC = Access.RW, Access.RO, Access.RC


class Mac:
    # fmt: off
    # 8.2.3.22 MAC
    PCS1GCFIG = Register(f.PCS1GCFIG, 0x04200, RW, 0, "8.2.3.22.1", mask=0x4000_0000)
    PCS1GLCTL = Register(f.PCS1GLCTL, 0x04208, RW, 0x0204_0000, "8.2.3.22.2", mask=0x0204_0061)
    PCS1GLSTA = Register(f.PCS1GLSTA, 0x0420C, RO, 0, "8.2.3.22.3")
    PCS1GANA = Register(f.PCS1GANA, 0x04218, RW, 0x0000_01A0, "8.2.3.22.4", mask=0xB1A0)
    PCS1GANLP = Register(f.PCS1GANLP, 0x0421C, RO, 0, "8.2.3.22.5")
    PCS1GANNP = Register(f.PCS1GANNP, 0x04220, RW, 0, "8.2.3.22.6", mask=0xBFFF)
    PCS1GANLPNP = Register(f.PCS1GANLPNP, 0x04224, RO, 0, "8.2.3.22.7")
    HLREG0 = Register(f.HLREG0, 0x04240, RW, 0x0801_2C0B, "8.2.3.22.8")
    HLREG1 = Register(f.HLREG1, 0x04244, RC, 0, "8.2.3.22.9")
    PAP = Register(f.PAP, 0x04248, RW, 0, "8.2.3.22.10", mask=0x000F_0000)
    MACA = Register(Word, 0x0424C, RO, 0, "8.2.3.22")
    APAE = Register(Word, 0x04250, RO, 0, "8.2.3.22")
    ARD = Register(Word, 0x04254, RO, 0, "8.2.3.22")
    AIS = Register(Word, 0x04258, RO, 0, "8.2.3.22")
    MLADD = Register(Word, 0x04264, RO, 0, "8.2.3.22")
    TREG = Register(Word, 0x0426C, RO, 0, "8.2.3.22")
    PCS1GDBG0 = Register(Word, 0x04210, RO, 0, "8.2.3.22")
    PCS1GDBG1 = Register(Word, 0x04214, RO, 0, "8.2.3.22")
    MSCA = Register(f.MSCA, 0x0425C, RW, 0, "8.2.3.22.11", mask=0x5FFF_FFFF)
    MSRWD = Register(f.MSRWD, 0x04260, RW, 0, "8.2.3.22.12", mask=0xFFFF)
    MAXFRS = Register(f.MAXFRS, 0x04268, RW, 0x05EE_0000, "8.2.3.22.13", mask=0xFFFF_0000, also=("MHADD",))
    PCSS1 = Register(f.PCSS1, 0x04288, RO, 0, "8.2.3.22.14")
    PCSS2 = Register(f.PCSS2, 0x0428C, RO, 0, "8.2.3.22.15")
    XPCSS = Register(f.XPCSS, 0x04290, RO, 0, "8.2.3.22.16")
    SERDESC = Register(f.SERDESC, 0x04298, RW, 0, "8.2.3.22.17")
    MACS = Register(f.MACS, 0x0429C, RW, 0, "8.2.3.22.18", mask=0xFFFF_000F)
    MFLCN = Register(f.MFLCN, 0x04294, RW, 0, "8.2.3.22.34")
    AUTOC = Register(f.AUTOC, 0x042A0, RW, 0xC09C_6004, "8.2.3.22.19")
    LINKS = Register(f.LINKS, 0x042A4, RO, 0x0100_0000, "8.2.3.22.20")
    LINKS2 = Register(f.LINKS2, 0x04324, RO, 0, "8.2.3.22.21")
    AUTOC2 = Register(f.AUTOC2, 0x042A8, RW, 0x0002_0000, "8.2.3.22.22")
    ANLP1 = Register(f.ANLP1, 0x042B0, RO, 0x0001_0000, "8.2.3.22.23")
    ANLP2 = Register(f.ANLP2, 0x042B4, RO, 0, "8.2.3.22.24")
    MMNGC = Register(f.MMNGC, 0x042D0, RO, 0, "8.2.3.22.25")
    ANLPNP1 = Register(f.ANLPNP1, 0x042D4, RO, 0, "8.2.3.22.26")
    ANLPNP2 = Register(f.ANLPNP2, 0x042D8, RO, 0, "8.2.3.22.27")
    KRPCSFC = Register(f.KRPCSFC, 0x042E0, RW, 0, "8.2.3.22.28", mask=0x0DFD_0000)
    KRPCSS = Register(f.KRPCSS, 0x042E4, RC, 0, "8.2.3.22.29")
    FECS1 = Register(Word, 0x042E8, RC, 0, "8.2.3.22.30")
    FECS2 = Register(Word, 0x042EC, RC, 0, "8.2.3.22.31")
    MDFTC1 = Register(Word, 0x042B8, RO, 0, "8.2.3.22")
    MDFTC2 = Register(Word, 0x042C0, RO, 0, "8.2.3.22")
    MDFTFIFO1 = Register(Word, 0x042C4, RO, 0, "8.2.3.22")
    MDFTFIFO2 = Register(Word, 0x042C8, RO, 0, "8.2.3.22")
    MDFTS = Register(Word, 0x042CC, RO, 0, "8.2.3.22")
    MACC = Register(f.MACC, 0x04330, RW, 0, "8.2.3.22")
    CORECTL = Register(f.CORECTL, 0x14F00, RW, 0, "8.2.3.22.32")
    SMADARCTL = Register(f.CORECTL, 0x14F10, RW, 0, "8.2.3.22.33", mask=0x0001_FFFF)
    SGMIIC = Register(f.SGMIIC, 0x04314, RW, 0, "8.2.3.22.35", mask=0x0002_FFFF)
    # fmt: on
