"""Registers of the 82599's 8.2.3.7 and 8.2.3.8: receive filters, RSS, receive DMA."""

from __future__ import annotations

from .. import fields as f
from ..register import Access, Register, RegisterArray, Run, Word
from .queues import rx_queue

RW, RO = Access.RW, Access.RO


class Receive:
    # fmt: off
    # 8.2.3.7 receive: filters and RSS
    FCTRL = Register(f.FCTRL, 0x05080, RW, 0, "8.2.3.7.1", "Filter Control", mask=0x0000_0702)
    VLNCTRL = Register(f.VLNCTRL, 0x05088, RW, 0x0000_8100, "8.2.3.7.2", "VLAN Control")
    MCSTCTRL = Register(f.MCSTCTRL, 0x05090, RW, 0, "8.2.3.7.3", "Multicast Control", mask=0x7)
    PSRTYPE = RegisterArray(f.PSRTYPE, Run(0x0EA00, 4, 64), RW, 0, "8.2.3.7.4", "Packet Split Receive Type", aliases=(Run(0x05480, 4, 16),))
    RXCSUM = Register(f.RXCSUM, 0x05000, RW, 0, "8.2.3.7.5", "Receive Checksum Control", mask=0x3000)
    RFCTL = Register(f.RFCTL, 0x05008, RW, 0, "8.2.3.7.6", "Receive Filter Control")
    MTA = RegisterArray(Word, Run(0x05200, 4, 128), RW, 0, "8.2.3.7.7", "Multicast Table Array")
    RAL = RegisterArray(Word, Run(0x0A200, 8, 128), RW, 0, "8.2.3.7.8", "Receive Address Low", aliases=(Run(0x05400, 8, 16),))
    RAH = RegisterArray(f.RAH, Run(0x0A204, 8, 128), RW, 0, "8.2.3.7.9", "Receive Address High", aliases=(Run(0x05404, 8, 16),), mask=0x8000_FFFF)
    MPSAR = RegisterArray(Word, Run(0x0A600, 4, 256), RW, 0, "8.2.3.7.10", "MAC Pool Select Array", also=("MPSAR_LO", "MPSAR_HI"))
    VFTA = RegisterArray(Word, Run(0x0A000, 4, 128), RW, 0, "8.2.3.7.11", "VLAN Filter Table Array")
    MRQC = Register(f.MRQC, 0x05818, RW, 0, "8.2.3.7.12", "Multiple Receive Queues Command", aliases=(0x0EC80,), mask=0xFFFF_000F)
    RSSRK = RegisterArray(Word, Run(0x05C80, 4, 10), RW, 0, "8.2.3.7.14", "RSS Random Key", aliases=(Run(0x0EB80, 4, 10),))
    RETA = RegisterArray(f.RETA, Run(0x05C00, 4, 32), RW, 0, "8.2.3.7.15", "Redirection Table", aliases=(Run(0x0EB00, 4, 32),), mask=0x0F0F_0F0F)
    RQTC = Register(f.RQTC, 0x0EC70, RW, 0, "8.2.3.7.13", "RSS Queues Per Traffic Class", mask=0x7777_7777)
    SAQF = RegisterArray(Word, Run(0x0E000, 4, 128), RW, 0, "8.2.3.7.16", "Source Address Queue Filter")
    DAQF = RegisterArray(Word, Run(0x0E200, 4, 128), RW, 0, "8.2.3.7.17", "Destination Address Queue Filter")
    SDPQF = RegisterArray(f.SDPQF, Run(0x0E400, 4, 128), RW, 0, "8.2.3.7.18", "Source Destination Port Queue Filter")
    FTQF = RegisterArray(f.FTQF, Run(0x0E600, 4, 128), RW, 0, "8.2.3.7.19", "Five Tuple Queue Filter")
    SYNQF = Register(f.SYNQF, 0x0EC30, RW, 0, "8.2.3.7.20", "SYN Packet Queue Filter", mask=0x8000_00FF)
    ETQF = RegisterArray(f.ETQF, Run(0x05128, 4, 8), RW, 0, "8.2.3.7.21", "EType Queue Filter", mask=0xCFFF_FFFF)
    ETQS = RegisterArray(f.ETQS, Run(0x0EC00, 4, 8), RW, 0, "8.2.3.7.22", "EType Queue Select", mask=0xA07F_0000)
    RXFECCERR0 = Register(f.RXFECCERR0, 0x051B8, RW, 0, "8.2.3.7.23", "Rx Filter ECC Error Insertion 0", mask=0x200)
    RFVAL = Register(Word, 0x050A4, RO, 0, "8.2.3.7", "Receive Filter Validation (Debug)")

    # 8.2.3.8 receive DMA
    RDBAL = RegisterArray(Word, rx_queue(0x01000), RW, 0, "8.2.3.8.1", "Receive Descriptor Base Address Low", mask=0xFFFF_FF80)
    RDBAH = RegisterArray(Word, rx_queue(0x01004), RW, 0, "8.2.3.8.2", "Receive Descriptor Base Address High")
    RDLEN = RegisterArray(Word, rx_queue(0x01008), RW, 0, "8.2.3.8.3", "Receive Descriptor Length", mask=0x000F_FF80)
    RDH = RegisterArray(Word, rx_queue(0x01010), RW, 0, "8.2.3.8.4", "Receive Descriptor Head", mask=0xFFFF)
    RDT = RegisterArray(Word, rx_queue(0x01018), RW, 0, "8.2.3.8.5", "Receive Descriptor Tail", mask=0xFFFF)
    RXDCTL = RegisterArray(f.RXDCTL, rx_queue(0x01028), RW, 0, "8.2.3.8.6", "Receive Descriptor Control", mask=0x467F_4000)
    SRRCTL = RegisterArray(f.SRRCTL, rx_queue(0x01014), RW, 0x0000_0402, "8.2.3.8.7", "Split Receive Control", aliases=(Run(0x02100, 4, 16),),
                           mask=0x1FC0_3F1F)
    RDRXCTL = Register(f.RDRXCTL, 0x02F00, RW, 0x0010_8808, "8.2.3.8.8", "Receive DMA Control", mask=0x063E_0002)
    RXPBSIZE = RegisterArray(f.RXPBSIZE, Run(0x03C00, 4, 8), RW, 0x0008_0000, "8.2.3.8.9", "Receive Packet Buffer Size",
                             mask=0x000F_FC00, only_first=True)
    RXCTRL = Register(f.RXCTRL, 0x03000, RW, 0, "8.2.3.8.10", "Receive Control", mask=0x1)
    RSCCTL = RegisterArray(f.RSCCTL, rx_queue(0x0102C), RW, 0, "8.2.3.8.13", "RSC Control", mask=0xD)
    RSCDBU = Register(f.RSCDBU, 0x03028, RW, 0, "8.2.3.8.12", "RSC Data Buffer Control", mask=0xFF)
    # ASSUMPTION (datasheet not at hand): each packet buffer reads as empty, because in the emulator no frame stays in a
    # packet buffer between two register accesses.
    RXMEMWRAP = Register(f.RXMEMWRAP, 0x03190, RO, 0x8888_8888, "8.2.3.8.11", "Rx Packet Buffer Flush Detect")
    RDSTAT = RegisterArray(Word, Run(0x02C00, 4, 8), RO, 0, "8.2.3.8", "Rx DMA Statistics (Debug)")
    RDSTATCTL = Register(Word, 0x02C20, RO, 0, "8.2.3.8", "Rx DMA Statistics Control (Debug)")
    RDHMPN = Register(Word, 0x02F08, RO, 0, "8.2.3.8", "Rx Descriptor Handler Memory Page Number (Debug)")
    RIC_DW = RegisterArray(Word, Run(0x02F10, 4, 4), RO, 0, "8.2.3.8", "Rx Descriptor Handler Memory Data (Debug)")
    RDPROBE = Register(Word, 0x02F20, RO, 0, "8.2.3.8", "Rx Probe Mode Status (Debug)")
    PBRXECC = Register(Word, 0x03300, RO, 0, "8.2.3.8", "Rx Packet Buffer ECC (Debug)")
    RXBUFCTRL = Register(Word, 0x03600, RO, 0, "8.2.3.8", "Rx Packet Buffer Access Control (Debug)")
    RXBUFDATA = RegisterArray(Word, Run(0x03610, 4, 4), RO, 0, "8.2.3.8", "Rx Packet Buffer Access Data (Debug)")
    # fmt: on
