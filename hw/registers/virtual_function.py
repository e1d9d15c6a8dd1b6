"""Registers of a virtual function, in its own BAR0 (82599 8.3.5): the table of `VfRegisters`.

The columns are those of the PF's table (hw/registers/__init__.py). Registers of queues have the layouts of the PF's.

ASSUMPTION (datasheet not at hand): offsets and sections are those of the public drivers and of a public register
description; VTEIAC is in drivers only. The masks follow from the fields.
"""

from __future__ import annotations

from .. import fields as f
from ..errors import DeviceGone
from ..register import ALL_ONES, Access, Register, RegisterArray, RegisterMap, Run, Word

RW, RO, WO = Access.RW, Access.RO, Access.WO

VF_BAR0_SIZE = 0x4000  # 16 KB
VF_QUEUES = 8  # at most; the PF grants 2, 4 or 8
VF_VECTORS = 3  # entries of the MSI-X table
MAILBOX_WORDS = 16


def vf_queue(first: int) -> Run:
    """Receive queues have their registers from 0x1000 on, transmit queues from 0x2000 on."""
    return Run(first, 0x40, VF_QUEUES)


class VfRegisters(RegisterMap):
    """`VfRegisters(device)`: the registers of one virtual function, `.VFLINKS`, `.VFRXDCTL[queue]` and so on."""

    # fmt: off
    # 8.3.5.1 general control and mailbox
    VFCTRL = Register(f.VFCTRL, 0x00000, WO, 0, "8.3.5.1.1", "VF Control", mask=0x0400_0000)
    VFSTATUS = Register(f.STATUS, 0x00008, RO, 0, "8.3.5.1.2", "VF Status")
    VFLINKS = Register(f.LINKS, 0x00010, RO, 0, "8.3.5.1.3", "VF Link Status")
    VFFRTIMER = Register(Word, 0x00048, RO, 0, "8.3.5.1.4", "VF Free Running Timer")
    VFMAILBOX = Register(f.VFMAILBOX, 0x002FC, Access.RC, 0x40, "8.3.5.1.5", "VF Mailbox", mask=0x7)  # a read clears bits 4, 5, 7
    VFMBMEM = RegisterArray(Word, Run(0x00200, 4, MAILBOX_WORDS), RW, 0, "8.3.5.1.6", "VF Mailbox Memory")
    VFRXMEMWRAP = Register(f.RXMEMWRAP, 0x03190, RO, 0, "8.3.5.1.7", "VF Rx Packet Buffer Flush Detect")

    # 8.3.5.2 interrupts
    VTEICR = Register(f.VECTORS, 0x00100, Access.RC_W1C, 0, "8.3.5.2.1", "VF Extended Interrupt Cause", mask=0x7)
    VTEICS = Register(f.VECTORS, 0x00104, WO, 0, "8.3.5.2.2", "VF Extended Interrupt Cause Set", mask=0x7)
    VTEIMS = Register(f.VECTORS, 0x00108, Access.W1S, 0, "8.3.5.2.3", "VF Extended Interrupt Mask Set/Read", mask=0x7)
    VTEIMC = Register(f.VECTORS, 0x0010C, WO, 0, "8.3.5.2.4", "VF Extended Interrupt Mask Clear", mask=0x7)
    VTEIAC = Register(f.VECTORS, 0x00110, RW, 0, "8.3.5.2", "VF Extended Interrupt Auto Clear", mask=0x7)
    VTEIAM = Register(f.VECTORS, 0x00114, RW, 0, "8.3.5.2.5", "VF Extended Interrupt Auto Mask", mask=0x7)
    VTEITR = RegisterArray(f.EITR, Run(0x00820, 4, 2), RW, 0, "8.3.5.2.6", "VF Extended Interrupt Throttle", mask=0x8FFF_8FF8)
    VTIVAR = RegisterArray(f.VTIVAR, Run(0x00120, 4, 4), RW, 0, "8.3.5.2.7", "VF Interrupt Vector Allocation", mask=0x8181_8181)
    VTIVAR_MISC = Register(f.VTIVAR_MISC, 0x00140, RW, 0, "8.3.5.2.8", "VF Misc Interrupt Vector Allocation", mask=0x83)
    VTRSCINT = RegisterArray(Word, Run(0x00180, 4, 2), RW, 0, "8.3.5.2.9", "VF RSC Enable Interrupt")
    VFPBACL = Register(f.VECTORS, 0x00148, Access.W1C, 0, "8.3.5.2.10", "VF MSI-X PBA Clear", mask=0x7)

    # 8.3.5.3 receive
    VFRDBAL = RegisterArray(Word, vf_queue(0x01000), RW, 0, "8.3.5.3.1", "VF Receive Descriptor Base Address Low", mask=0xFFFF_FF80)
    VFRDBAH = RegisterArray(Word, vf_queue(0x01004), RW, 0, "8.3.5.3.2", "VF Receive Descriptor Base Address High")
    VFRDLEN = RegisterArray(Word, vf_queue(0x01008), RW, 0, "8.3.5.3.3", "VF Receive Descriptor Length", mask=0x000F_FF80)
    VFRDH = RegisterArray(Word, vf_queue(0x01010), RW, 0, "8.3.5.3.4", "VF Receive Descriptor Head", mask=0xFFFF)
    VFRDT = RegisterArray(Word, vf_queue(0x01018), RW, 0, "8.3.5.3.5", "VF Receive Descriptor Tail", mask=0xFFFF)
    VFRXDCTL = RegisterArray(f.RXDCTL, vf_queue(0x01028), RW, 0, "8.3.5.3.6", "VF Receive Descriptor Control", mask=0x4200_0000)
    VFSRRCTL = RegisterArray(f.SRRCTL, vf_queue(0x01014), RW, 0x0000_0402, "8.3.5.3.7", "VF Split Receive Control", mask=0x1FC0_3F1F)
    VFPSRTYPE = Register(f.PSRTYPE, 0x00300, RW, 0, "8.3.5.3.8", "VF Packet Split Receive Type", mask=0xE000_1332)
    VFRSCCTL = RegisterArray(f.RSCCTL, vf_queue(0x0102C), RW, 0, "8.3.5.3.9", "VF RSC Control", mask=0xD)

    # 8.3.5.4 transmit
    VFTDBAL = RegisterArray(Word, vf_queue(0x02000), RW, 0, "8.3.5.4.1", "VF Transmit Descriptor Base Address Low", mask=0xFFFF_FF80)
    VFTDBAH = RegisterArray(Word, vf_queue(0x02004), RW, 0, "8.3.5.4.2", "VF Transmit Descriptor Base Address High")
    VFTDLEN = RegisterArray(Word, vf_queue(0x02008), RW, 0, "8.3.5.4.3", "VF Transmit Descriptor Length", mask=0x000F_FF80)
    VFTDH = RegisterArray(Word, vf_queue(0x02010), RW, 0, "8.3.5.4.4", "VF Transmit Descriptor Head", mask=0xFFFF)
    VFTDT = RegisterArray(Word, vf_queue(0x02018), RW, 0, "8.3.5.4.5", "VF Transmit Descriptor Tail", mask=0xFFFF)
    VFTXDCTL = RegisterArray(f.TXDCTL, vf_queue(0x02028), RW, 0, "8.3.5.4.6", "VF Transmit Descriptor Control", mask=0x067F_7F7F)
    VFTDWBAL = RegisterArray(f.TDWBAL, vf_queue(0x02038), RW, 0, "8.3.5.4.7", "VF Tx Head Write-Back Address Low", mask=0xFFFF_FFFD)
    VFTDWBAH = RegisterArray(Word, vf_queue(0x0203C), RW, 0, "8.3.5.4.8", "VF Tx Head Write-Back Address High")

    # 8.3.5.5 DCA
    VFDCA_RXCTRL = RegisterArray(f.DCA_RXCTRL, vf_queue(0x0100C), RW, 0x0000_A200, "8.3.5.5.1", "VF Rx DCA Control")
    VFDCA_TXCTRL = RegisterArray(f.DCA_TXCTRL, vf_queue(0x0200C), RW, 0x0000_2A00, "8.3.5.5.2", "VF Tx DCA Control")

    # 8.3.5.6 statistics: not cleared by a read; they wrap at 32 or 36 bits
    VFGPRC = Register(Word, 0x0101C, RO, 0, "8.3.5.6.1", "VF Good Packets Received")
    VFGPTC = Register(Word, 0x0201C, RO, 0, "8.3.5.6.2", "VF Good Packets Transmitted")
    VFGORC_LSB = Register(Word, 0x01020, RO, 0, "8.3.5.6.3", "VF Good Octets Received Low")
    VFGORC_MSB = Register(Word, 0x01024, RO, 0, "8.3.5.6.4", "VF Good Octets Received High")
    VFGOTC_LSB = Register(Word, 0x02020, RO, 0, "8.3.5.6.5", "VF Good Octets Transmitted Low")
    VFGOTC_MSB = Register(Word, 0x02024, RO, 0, "8.3.5.6.6", "VF Good Octets Transmitted High")
    VFMPRC = Register(Word, 0x01034, RO, 0, "8.3.5.6.7", "VF Multicast Packets Received")
    # fmt: on

    __slots__ = ()

    SIZE = VF_BAR0_SIZE
    WHAT = "a virtual function of the 82599"
    LISTED_BY = "ixrings regs emulated-vf"

    def check_present(self, name: str) -> None:
        # VFSTATUS is the PF's STATUS, which has reserved bits that read 0.
        if self.space.read32(VfRegisters.VFSTATUS.offset()) == ALL_ONES:
            raise DeviceGone(
                f"the virtual function no longer answers: {name} and VFSTATUS read 0xffffffff. Its PF was reset or "
                "closed, or has fewer virtual functions now; close the port, check `ixrings list`, and open it again"
            )
