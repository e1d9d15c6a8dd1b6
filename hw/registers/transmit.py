"""Registers of the 82599's 8.2.3.9 to 8.2.3.11: transmit, DCB, DCA."""

from __future__ import annotations

from .. import fields as f
from ..register import Access, Register, RegisterArray, Run, Word
from .queues import rx_queue, tx_queue

RW, RO = Access.RW, Access.RO


class Transmit:
    # fmt: off
    # 8.2.3.9 transmit
    DTXMXSZRQ = Register(f.DTXMXSZRQ, 0x08100, RW, 0x0000_0010, "8.2.3.9.1", "DMA Tx Map Allow Size Requests", mask=0xFFF)
    DMATXCTL = Register(f.DMATXCTL, 0x04A80, RW, 0x8100_0004, "8.2.3.9.2", "DMA Tx Control")
    DTXTCPFLGL = Register(f.DTXTCPFLGL, 0x04A88, RW, 0x0F76_0FF6, "8.2.3.9.3", "DMA Tx TCP Flags Control Low", mask=0x0FFF_0FFF)
    DTXTCPFLGH = Register(f.DTXTCPFLGH, 0x04A8C, RW, 0x0000_0F7F, "8.2.3.9.4", "DMA Tx TCP Flags Control High", mask=0x0FFF)
    TDBAL = RegisterArray(Word, tx_queue(0x06000), RW, 0, "8.2.3.9.5", "Transmit Descriptor Base Address Low", mask=0xFFFF_FF80)
    TDBAH = RegisterArray(Word, tx_queue(0x06004), RW, 0, "8.2.3.9.6", "Transmit Descriptor Base Address High")
    TDLEN = RegisterArray(Word, tx_queue(0x06008), RW, 0, "8.2.3.9.7", "Transmit Descriptor Length", mask=0x000F_FF80)
    TDH = RegisterArray(Word, tx_queue(0x06010), RW, 0, "8.2.3.9.8", "Transmit Descriptor Head", mask=0xFFFF)
    TDT = RegisterArray(Word, tx_queue(0x06018), RW, 0, "8.2.3.9.9", "Transmit Descriptor Tail", mask=0xFFFF)
    TXDCTL = RegisterArray(f.TXDCTL, tx_queue(0x06028), RW, 0, "8.2.3.9.10", "Transmit Descriptor Control", mask=0x067F_7F7F, also=("PVFTXDCTL",))
    TDWBAL = RegisterArray(f.TDWBAL, tx_queue(0x06038), RW, 0, "8.2.3.9.11", "Tx Descriptor Completion Write-Back Address Low")
    TDWBAH = RegisterArray(Word, tx_queue(0x0603C), RW, 0, "8.2.3.9.11", "Tx Descriptor Completion Write-Back Address High")
    TXPBSIZE = RegisterArray(f.TXPBSIZE, Run(0x0CC00, 4, 8), RW, 0x0002_8000, "8.2.3.9.13", "Transmit Packet Buffer Size",
                             mask=0x000F_FC00, only_first=True)
    MNGTXMAP = Register(f.MNGTXMAP, 0x0CD10, RW, 0, "8.2.3.9.14", "Manageability Transmit TC Mapping", mask=0x7)
    MTQC = Register(f.MTQC, 0x08120, RW, 0, "8.2.3.9.15", "Multiple Transmit Queues Command", mask=0xF)
    TXPBTHRESH = RegisterArray(f.TXPBTHRESH, Run(0x04950, 4, 8), RW, 0x0000_0096, "8.2.3.9.16", "Tx Packet Buffer Threshold",
                               mask=0x3FF, only_first=True)
    TDSTATCTL = Register(Word, 0x07C20, RO, 0, "8.2.3.9", "Tx DMA Statistics Control (Debug)")
    TDPROBE = Register(Word, 0x07F20, RO, 0, "8.2.3.9", "Tx Probe Mode Status (Debug)")
    TIC_DW2 = RegisterArray(Word, Run(0x082B0, 4, 4), RO, 0, "8.2.3.9", "Tx Descriptor Handler Memory Data (Debug)")
    TXDESCIC = Register(Word, 0x082CC, RW, 0, "8.2.3.9", "Tx Descriptor Internal Cache (Debug)")
    TXLLQ = RegisterArray(Word, Run(0x082E0, 4, 4), RO, 0, "8.2.3.9", "Tx Linked-List Queue (Debug)")
    PBTXECC = Register(Word, 0x0C300, RO, 0, "8.2.3.9", "Tx Packet Buffer ECC (Debug)")
    TXBUFCTRL = Register(Word, 0x0C600, RO, 0, "8.2.3.9", "Tx Packet Buffer Access Control (Debug)")
    TXBUFDATA = RegisterArray(Word, Run(0x0C610, 4, 4), RO, 0, "8.2.3.9", "Tx Packet Buffer Access Data (Debug)")

    # 8.2.3.10 DCB arbiters; a port without DCB sets them, too (4.6.11.3.4)
    RTRPCS = Register(f.RTRPCS, 0x02430, RW, 0, "8.2.3.10.1", "DCB Receive Packet Plane Control and Status", mask=0x0007_0006)
    RTTDCS = Register(f.RTTDCS, 0x04900, RW, 0x00C0_0000, "8.2.3.10.2", "DCB Transmit Descriptor Plane Control and Status", mask=0x8040_0053)
    RTTPCS = Register(f.RTTPCS, 0x0CD00, RW, 0, "8.2.3.10.3", "DCB Transmit Packet Plane Control and Status", mask=0xFFC0_0120, also=("PDPMCS",))
    RTRUP2TC = Register(f.UP2TC, 0x03020, RW, 0, "8.2.3.10.4", "DCB Receive User Priority to Traffic Class", mask=0x00FF_FFFF)
    RTTUP2TC = Register(f.UP2TC, 0x0C800, RW, 0, "8.2.3.10.5", "DCB Transmit User Priority to Traffic Class", mask=0x00FF_FFFF)
    RTRPT4C = RegisterArray(f.TC_CREDITS, Run(0x02140, 4, 8), RW, 0, "8.2.3.10.6", "DCB Receive Packet Plane T4 Config", mask=0xC0FF_FFFF)
    RTRPT4S = RegisterArray(Word, Run(0x02160, 4, 8), RO, 0, "8.2.3.10", "DCB Receive Packet Plane T4 Status")
    RTTDT2C = RegisterArray(f.TC_CREDITS, Run(0x04910, 4, 8), RW, 0, "8.2.3.10.9", "DCB Transmit Descriptor Plane T2 Config", mask=0xC0FF_FFFF)
    RTTDT2S = RegisterArray(Word, Run(0x04930, 4, 8), RO, 0, "8.2.3.10", "DCB Transmit Descriptor Plane T2 Status")
    RTTPT2C = RegisterArray(f.TC_CREDITS, Run(0x0CD20, 4, 8), RW, 0, "8.2.3.10.10", "DCB Transmit Packet Plane T2 Config",
                            mask=0xC0FF_FFFF, also=("TDPT2TCCR",))
    RTTDQSEL = Register(f.RTTDQSEL, 0x04904, RW, 0, "8.2.3.10.13", "DCB Transmit Descriptor Plane Queue Select", mask=0x7F)
    RTTDT1C = Register(f.RTTDT1C, 0x04908, RW, 0, "8.2.3.10.14", "DCB Transmit Descriptor Plane T1 Config", mask=0x3FFF)
    RTTBCNRC = Register(f.RTTBCNRC, 0x04984, RW, 0, "8.2.3.10.16", "DCB Transmit Rate-Scheduler Config", mask=0x80FF_FFFF)
    RTTBCNRM = Register(f.RTTBCNRM, 0x04980, RW, 0, "8.2.3.10", "DCB Transmit Rate-Scheduler Memory Window")
    RTTBCNRD = Register(Word, 0x0498C, RO, 0, "8.2.3.10", "DCB Transmit Rate-Scheduler Rate Drift")
    RTTQCNTG = Register(Word, 0x04A90, RO, 0, "8.2.3.10", "DCB Transmit Congestion Notification Tag")
    RTTQCNCR = Register(Word, 0x08B00, RO, 0, "8.2.3.10", "DCB Transmit Congestion Notification Control")

    # 8.2.3.11 DCA
    DCA_CTRL = Register(f.DCA_CTRL, 0x11074, RW, 0, "8.2.3.11.4", "DCA Control", mask=0x1F)
    DCA_ID = Register(f.DCA_ID, 0x11070, RW, 0, "8.2.3.11.3", "DCA Requester ID Information", mask=0xFFFF)
    DCA_RXCTRL = RegisterArray(f.DCA_RXCTRL, rx_queue(0x0100C), RW, 0x0000_B200, "8.2.3.11.1", "Rx DCA Control", aliases=(Run(0x02200, 4, 16),))
    DCA_TXCTRL = RegisterArray(f.DCA_TXCTRL, tx_queue(0x0600C), RW, 0x0000_2A00, "8.2.3.11.2", "Tx DCA Control")
    # fmt: on
