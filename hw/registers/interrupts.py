"""Registers of the 82599's 8.2.3.5 and 8.2.3.6: interrupts."""

from __future__ import annotations

from .. import fields as f
from ..register import Access, Register, RegisterArray, Run, Word

RW, WO = Access.RW, Access.WO


class Interrupts:
    # fmt: off
    # 8.2.3.5 interrupts, 8.2.3.6 MSI-X
    EICR = Register(f.CAUSES, 0x00800, Access.RC_W1C, 0, "8.2.3.5.1", "Extended Interrupt Cause")
    EICS = Register(f.CAUSES, 0x00808, WO, 0, "8.2.3.5.2", "Extended Interrupt Cause Set")
    EIAC = Register(f.CAUSES, 0x00810, RW, 0, "8.2.3.5.5", "Extended Interrupt Auto Clear", mask=0x4000_FFFF)
    EITR = RegisterArray(f.EITR, (Run(0x00820, 4, 24), Run(0x12300, 4, 105, index=24)), RW, 0, "8.2.3.5.12", "Extended Interrupt Throttle",
                         mask=0x0FFF_8FF8)
    EIMS = Register(f.CAUSES, 0x00880, Access.W1S, 0, "8.2.3.5.3", "Extended Interrupt Mask Set/Read")
    EIMC = Register(f.CAUSES, 0x00888, WO, 0, "8.2.3.5.4", "Extended Interrupt Mask Clear")
    EIAM = Register(f.CAUSES, 0x00890, RW, 0, "8.2.3.5.6", "Extended Interrupt Auto Mask Enable")
    EITRSEL = Register(Word, 0x00894, RW, 0, "8.2.3.5.11", "MSI-X to EITR Select")
    GPIE = Register(f.GPIE, 0x00898, RW, 0, "8.2.3.5.18", "General Purpose Interrupt Enable")
    IVAR = RegisterArray(f.IVAR, Run(0x00900, 4, 64), RW, 0, "8.2.3.5.16", "Interrupt Vector Allocation")
    IVAR_MISC = Register(f.IVAR_MISC, 0x00A00, RW, 0, "8.2.3.5.17", "Miscellaneous Interrupt Vector Allocation")
    EICS_EX = RegisterArray(Word, Run(0x00A90, 4, 2), WO, 0, "8.2.3.5.7", "Extended Interrupt Cause Set (Vectors 0-63)")
    EIMS_EX = RegisterArray(Word, Run(0x00AA0, 4, 2), Access.W1S, 0, "8.2.3.5.8", "Extended Interrupt Mask Set/Read (Vectors 0-63)")
    EIMC_EX = RegisterArray(Word, Run(0x00AB0, 4, 2), WO, 0, "8.2.3.5.9", "Extended Interrupt Mask Clear (Vectors 0-63)")
    EIAM_EX = RegisterArray(Word, Run(0x00AD0, 4, 2), RW, 0, "8.2.3.5.10", "Extended Interrupt Auto Mask Enable (Vectors 0-63)")
    L34TIMIR = RegisterArray(f.L34TIMIR, Run(0x0E800, 4, 128), RW, 0, "8.2.3.5.13", "L3/L4 Tuples Immediate Interrupt Rx",
                             mask=0x0FF8_1000, also=("L34T_IMIR",))
    LLITHRESH = Register(f.LLITHRESH, 0x0EC90, RW, 0, "8.2.3.5.14", "LLI Size Threshold", mask=0x0FFF)
    IMIRVP = Register(f.IMIRVP, 0x0EC60, RW, 0, "8.2.3.5.15", "Immediate Interrupt Rx VLAN Priority", mask=0xF)
    PBACL = RegisterArray(Word, (Run(0x11068, 4, 1), Run(0x110C4, 4, 1, index=1)), Access.W1C, 0, "8.2.3.6", "MSI-X PBA Clear")
    # fmt: on
