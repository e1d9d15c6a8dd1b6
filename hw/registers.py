"""The 82599's registers: one table, read by the driver, the emulator and every tool.

A line a register: layout (hw/fields.py, or Word), offset or runs, access, reset value, datasheet section.
A register that is missing is one more line. `mask` is what software can write; `aliases` are second addresses.
Section numbers of counters that no source cites are counted on from their cited neighbours.
"""

from __future__ import annotations

from . import fields as f
from .register import ALL_ONES, Access, DeviceGone, Register, RegisterArray, RegisterMap, Run, Word

RW, RO, WO, RC = Access.RW, Access.RO, Access.WO, Access.RC

BAR0_SIZE = 0x20000  # 128 KB of registers, no flash (8.1)
QUEUES = 128  # receive queues, and as many transmit queues
COUNTERS = 16  # statistics sets that queues are mapped to


def rx_queue(first: int) -> tuple[Run, Run]:
    """Receive queues 0..63 stand from 0x1000 on, 64..127 from 0xD000 on."""
    return Run(first, 0x40, 64), Run(first + 0xC000, 0x40, 64, index=64)


def tx_queue(first: int) -> Run:
    return Run(first, 0x40, 128)


class Registers(RegisterMap):
    """`Registers(device)`: the register block of one NIC."""

    # 8.2.3.1 general control
    CTRL = Register(f.CTRL, 0x00000, RW, 0x0000_0000, "8.2.3.1.1", aliases=(0x00004,))
    STATUS = Register(f.STATUS, 0x00008, RO, 0x0008_0000, "8.2.3.1.2")
    CTRL_EXT = Register(f.CTRL_EXT, 0x00018, RW, 0x0000_0000, "8.2.3.1.3", mask=0x1403_4000)
    ESDP = Register(f.ESDP, 0x00020, RW, 0x0000_0004, "8.2.3.1.4")

    # 8.2.3.2 EEPROM
    EEC = Register(f.EEC, 0x10010, RW, 0x0000_2730, "8.2.3.2.1", mask=0x0000_0077)
    EERD = Register(f.EERD, 0x10014, RW, 0x0000_0000, "8.2.3.2.2")

    # 8.2.3.3 flow control
    FCTTV = RegisterArray(Word, Run(0x03200, 4, 4), RW, 0, "8.2.3.3.2")
    FCRTL = RegisterArray(f.FCRTL, Run(0x03220, 4, 8), RW, 0, "8.2.3.3.3", mask=0x8007_FFF0)
    FCRTH = RegisterArray(f.FCRTH, Run(0x03260, 4, 8), RW, 0, "8.2.3.3.4", mask=0x8007_FFF0)
    FCRTV = Register(Word, 0x032A0, RW, 0, "8.2.3.3.5")
    FCCFG = Register(f.FCCFG, 0x03D00, RW, 0, "8.2.3.3.7")

    # 8.2.3.4 PCIe, firmware and semaphores
    SWSM = Register(f.SWSM, 0x10140, Access.SEMAPHORE, 0, "8.2.3.4.9")
    FWSM = Register(f.FWSM, 0x10148, RO, 0x0000_8040, "8.2.3.4.10")
    SW_FW_SYNC = Register(f.SW_FW_SYNC, 0x10160, RW, 0, "8.2.3.4.11", mask=0x0000_07FF)
    GCR_EXT = Register(f.GCR_EXT, 0x11050, RW, 0, "8.2.3.4.12")

    # 8.2.3.5 interrupts
    EICR = Register(f.CAUSES, 0x00800, Access.RC_W1C, 0, "8.2.3.5.1")
    EICS = Register(f.CAUSES, 0x00808, WO, 0, "8.2.3.5.2")
    EIAC = Register(f.CAUSES, 0x00810, RW, 0, "8.2.3.5.5", mask=0x4000_FFFF)
    EITR = RegisterArray(f.EITR, (Run(0x00820, 4, 24), Run(0x12300, 4, 105, index=24)), RW, 0, "8.2.3.5.12", mask=0x0FFF_8FF8)
    EIMS = Register(f.CAUSES, 0x00880, Access.W1S, 0, "8.2.3.5.3")
    EIMC = Register(f.CAUSES, 0x00888, WO, 0, "8.2.3.5.4")
    EIAM = Register(f.CAUSES, 0x00890, RW, 0, "8.2.3.5.6")
    GPIE = Register(f.GPIE, 0x00898, RW, 0, "8.2.3.5.18")
    IVAR = RegisterArray(f.IVAR, Run(0x00900, 4, 64), RW, 0, "8.2.3.5.16")
    IVAR_MISC = Register(f.IVAR_MISC, 0x00A00, RW, 0, "8.2.3.5.17")
    EICS_EX = RegisterArray(Word, Run(0x00A90, 4, 2), WO, 0, "8.2.3.5.7")
    EIMS_EX = RegisterArray(Word, Run(0x00AA0, 4, 2), Access.W1S, 0, "8.2.3.5.8")
    EIMC_EX = RegisterArray(Word, Run(0x00AB0, 4, 2), WO, 0, "8.2.3.5.9")
    EIAM_EX = RegisterArray(Word, Run(0x00AD0, 4, 2), RW, 0, "8.2.3.5.10")

    # 8.2.3.7 receive: filters and RSS
    FCTRL = Register(f.FCTRL, 0x05080, RW, 0, "8.2.3.7.1", mask=0x0000_0702)
    VLNCTRL = Register(f.VLNCTRL, 0x05088, RW, 0x0000_8100, "8.2.3.7.2")
    MCSTCTRL = Register(f.MCSTCTRL, 0x05090, RW, 0, "8.2.3.7.3", mask=0x7)
    PSRTYPE = RegisterArray(f.PSRTYPE, Run(0x0EA00, 4, 64), RW, 0, "8.2.3.7.4", aliases=(Run(0x05480, 4, 16),))
    RXCSUM = Register(f.RXCSUM, 0x05000, RW, 0, "8.2.3.7.5", mask=0x3000)
    RFCTL = Register(f.RFCTL, 0x05008, RW, 0, "8.2.3.7.6")
    MTA = RegisterArray(Word, Run(0x05200, 4, 128), RW, 0, "8.2.3.7.7")
    RAL = RegisterArray(Word, Run(0x0A200, 8, 128), RW, 0, "8.2.3.7.8", aliases=(Run(0x05400, 8, 16),))
    RAH = RegisterArray(f.RAH, Run(0x0A204, 8, 128), RW, 0, "8.2.3.7.9", aliases=(Run(0x05404, 8, 16),), mask=0x8000_FFFF)
    MPSAR = RegisterArray(Word, Run(0x0A600, 4, 256), RW, 0, "8.2.3.7.10")
    VFTA = RegisterArray(Word, Run(0x0A000, 4, 128), RW, 0, "8.2.3.7.11")
    MRQC = Register(f.MRQC, 0x05818, RW, 0, "8.2.3.7.12", aliases=(0x0EC80,), mask=0xFFFF_000F)
    RSSRK = RegisterArray(Word, Run(0x05C80, 4, 10), RW, 0, "8.2.3.7.14", aliases=(Run(0x0EB80, 4, 10),))
    RETA = RegisterArray(f.RETA, Run(0x05C00, 4, 32), RW, 0, "8.2.3.7.15", aliases=(Run(0x0EB00, 4, 32),), mask=0x0F0F_0F0F)
    FTQF = RegisterArray(f.FTQF, Run(0x0E600, 4, 128), RW, 0, "8.2.3.7.19")

    # 8.2.3.8 receive DMA
    RDBAL = RegisterArray(Word, rx_queue(0x01000), RW, 0, "8.2.3.8.1", mask=0xFFFF_FF80)
    RDBAH = RegisterArray(Word, rx_queue(0x01004), RW, 0, "8.2.3.8.2")
    RDLEN = RegisterArray(Word, rx_queue(0x01008), RW, 0, "8.2.3.8.3", mask=0x000F_FF80)
    RDH = RegisterArray(Word, rx_queue(0x01010), RW, 0, "8.2.3.8.4", mask=0xFFFF)
    RDT = RegisterArray(Word, rx_queue(0x01018), RW, 0, "8.2.3.8.5", mask=0xFFFF)
    RXDCTL = RegisterArray(f.RXDCTL, rx_queue(0x01028), RW, 0, "8.2.3.8.6", mask=0x467F_4000)
    SRRCTL = RegisterArray(f.SRRCTL, rx_queue(0x01014), RW, 0x0000_0402, "8.2.3.8.7", aliases=(Run(0x02100, 4, 16),),
                           mask=0x1FC0_3F1F)
    RDRXCTL = Register(f.RDRXCTL, 0x02F00, RW, 0x0010_8808, "8.2.3.8.8", mask=0x063E_0002)
    RXPBSIZE = RegisterArray(f.RXPBSIZE, Run(0x03C00, 4, 8), RW, 0x0008_0000, "8.2.3.8.9", mask=0x000F_FC00)
    RXCTRL = Register(f.RXCTRL, 0x03000, RW, 0, "8.2.3.8.10", mask=0x1)
    RSCCTL = RegisterArray(Word, rx_queue(0x0102C), RW, 0, "8.2.3.8.13")

    # 8.2.3.9 transmit
    DTXMXSZRQ = Register(f.DTXMXSZRQ, 0x08100, RW, 0x0000_0010, "8.2.3.9.1", mask=0xFFF)
    DMATXCTL = Register(f.DMATXCTL, 0x04A80, RW, 0x8100_0004, "8.2.3.9.2")
    TDBAL = RegisterArray(Word, tx_queue(0x06000), RW, 0, "8.2.3.9.5", mask=0xFFFF_FF80)
    TDBAH = RegisterArray(Word, tx_queue(0x06004), RW, 0, "8.2.3.9.6")
    TDLEN = RegisterArray(Word, tx_queue(0x06008), RW, 0, "8.2.3.9.7", mask=0x000F_FF80)
    TDH = RegisterArray(Word, tx_queue(0x06010), RW, 0, "8.2.3.9.8", mask=0xFFFF)
    TDT = RegisterArray(Word, tx_queue(0x06018), RW, 0, "8.2.3.9.9", mask=0xFFFF)
    TXDCTL = RegisterArray(f.TXDCTL, tx_queue(0x06028), RW, 0, "8.2.3.9.10", mask=0x067F_7F7F)
    TDWBAL = RegisterArray(f.TDWBAL, tx_queue(0x06038), RW, 0, "8.2.3.9.11")
    TDWBAH = RegisterArray(Word, tx_queue(0x0603C), RW, 0, "8.2.3.9.11")
    TXPBSIZE = RegisterArray(f.TXPBSIZE, Run(0x0CC00, 4, 8), RW, 0x0002_8000, "8.2.3.9.13", mask=0x000F_FC00)
    MTQC = Register(f.MTQC, 0x08120, RW, 0, "8.2.3.9.15", mask=0xF)
    TXPBTHRESH = RegisterArray(f.TXPBTHRESH, Run(0x04950, 4, 8), RW, 0x0000_0096, "8.2.3.9.16", mask=0x3FF)

    # 8.2.3.10 DCB arbiters, as far as a port without DCB sets them (4.6.11.3.4)
    RTTDCS = Register(f.RTTDCS, 0x04900, RW, 0x00C0_0000, "8.2.3.10.2", mask=0x8040_0053)
    RTTDQSEL = Register(Word, 0x04904, RW, 0, "8.2.3.10.13", mask=0x7F)
    RTTDT1C = Register(Word, 0x04908, RW, 0, "8.2.3.10.14")

    # 8.2.3.11 DCA, 8.2.3.12 security
    DCA_RXCTRL = RegisterArray(f.DCA_RXCTRL, rx_queue(0x0100C), RW, 0x0000_B200, "8.2.3.11.1", aliases=(Run(0x02200, 4, 16),))
    DCA_TXCTRL = RegisterArray(f.DCA_TXCTRL, tx_queue(0x0600C), RW, 0x0000_2A00, "8.2.3.11.2")
    SECTXCTRL = Register(f.SECTXCTRL, 0x08800, RW, 0x0000_0001, "8.2.3.12.1", mask=0x7)
    SECRXCTRL = Register(f.SECRXCTRL, 0x08D00, RW, 0x0000_0001, "8.2.3.12.5", mask=0x3)
    SECRXSTAT = Register(f.SECRXSTAT, 0x08D04, RO, 0x0000_0001, "8.2.3.12.6")

    # 8.2.3.22 MAC
    HLREG0 = Register(f.HLREG0, 0x04240, RW, 0x0801_2C0B, "8.2.3.22.8")
    MAXFRS = Register(f.MAXFRS, 0x04268, RW, 0x05EE_0000, "8.2.3.22.13", mask=0xFFFF_0000)
    MFLCN = Register(f.MFLCN, 0x04294, RW, 0, "8.2.3.22.34")
    AUTOC = Register(f.AUTOC, 0x042A0, RW, 0xC09C_6004, "8.2.3.22.19")
    LINKS = Register(f.LINKS, 0x042A4, RO, 0, "8.2.3.22.20")
    AUTOC2 = Register(f.AUTOC2, 0x042A8, RW, 0x0002_0000, "8.2.3.22.22")
    ANLP1 = Register(f.ANLP1, 0x042B0, RO, 0x0001_0000, "8.2.3.22.23")

    # 8.2.3.23 statistics: cleared by the read, stuck at the maximum until then
    CRCERRS = Register(Word, 0x04000, RC, 0, "8.2.3.23.1")
    ILLERRC = Register(Word, 0x04004, RC, 0, "8.2.3.23.2")
    ERRBC = Register(Word, 0x04008, RC, 0, "8.2.3.23.3")
    MPC = RegisterArray(Word, Run(0x03FA0, 4, 8), RC, 0, "8.2.3.23.4")
    MSPDC = Register(Word, 0x04010, RC, 0, "8.2.3.23.69")
    MLFC = Register(Word, 0x04034, RC, 0, "8.2.3.23.5")
    MRFC = Register(Word, 0x04038, RC, 0, "8.2.3.23.6")
    RLEC = Register(Word, 0x04040, RC, 0, "8.2.3.23.7")
    LXONTXC = Register(Word, 0x03F60, RC, 0, "8.2.3.23.8")
    LXONRXCNT = Register(Word, 0x041A4, RC, 0, "8.2.3.23.9")
    LXOFFTXC = Register(Word, 0x03F68, RC, 0, "8.2.3.23.10")
    LXOFFRXCNT = Register(Word, 0x041A8, RC, 0, "8.2.3.23.11")
    PXONTXC = RegisterArray(Word, Run(0x03F00, 4, 8), RC, 0, "8.2.3.23.12")
    PXONRXCNT = RegisterArray(Word, Run(0x04140, 4, 8), RC, 0, "8.2.3.23.13")
    PXOFFTXC = RegisterArray(Word, Run(0x03F20, 4, 8), RC, 0, "8.2.3.23.14")
    PXOFFRXCNT = RegisterArray(Word, Run(0x04160, 4, 8), RC, 0, "8.2.3.23.15")
    PXON2OFFCNT = RegisterArray(Word, Run(0x03240, 4, 8), RC, 0, "8.2.3.23.16")
    PRC64 = Register(Word, 0x0405C, RC, 0, "8.2.3.23.18")
    PRC127 = Register(Word, 0x04060, RC, 0, "8.2.3.23.19")
    PRC255 = Register(Word, 0x04064, RC, 0, "8.2.3.23.20")
    PRC511 = Register(Word, 0x04068, RC, 0, "8.2.3.23.21")
    PRC1023 = Register(Word, 0x0406C, RC, 0, "8.2.3.23.22")
    PRC1522 = Register(Word, 0x04070, RC, 0, "8.2.3.23.23")
    BPRC = Register(Word, 0x04078, RC, 0, "8.2.3.23.24")
    MPRC = Register(Word, 0x0407C, RC, 0, "8.2.3.23.25")
    GPRC = Register(Word, 0x04074, RC, 0, "8.2.3.23.26")
    GORCL = Register(Word, 0x04088, RC, 0, "8.2.3.23.27")
    GORCH = Register(Word, 0x0408C, RC, 0, "8.2.3.23.28")
    GPTC = Register(Word, 0x04080, RC, 0, "8.2.3.23.44")
    GOTCL = Register(Word, 0x04090, RC, 0, "8.2.3.23.45")
    GOTCH = Register(Word, 0x04094, RC, 0, "8.2.3.23.46")
    RUC = Register(Word, 0x040A4, RC, 0, "8.2.3.23.50")
    RFC = Register(Word, 0x040A8, RC, 0, "8.2.3.23.51")
    ROC = Register(Word, 0x040AC, RC, 0, "8.2.3.23.52")
    RJC = Register(Word, 0x040B0, RC, 0, "8.2.3.23.53")
    MNGPRC = Register(Word, 0x040B4, RC, 0, "8.2.3.23.54")
    MNGPDC = Register(Word, 0x040B8, RC, 0, "8.2.3.23.55")
    TORL = Register(Word, 0x040C0, RC, 0, "8.2.3.23.57")
    TORH = Register(Word, 0x040C4, RC, 0, "8.2.3.23.58")
    TPR = Register(Word, 0x040D0, RC, 0, "8.2.3.23.59")
    TPT = Register(Word, 0x040D4, RC, 0, "8.2.3.23.60")
    PTC64 = Register(Word, 0x040D8, RC, 0, "8.2.3.23.61")
    PTC127 = Register(Word, 0x040DC, RC, 0, "8.2.3.23.62")
    PTC255 = Register(Word, 0x040E0, RC, 0, "8.2.3.23.63")
    PTC511 = Register(Word, 0x040E4, RC, 0, "8.2.3.23.64")
    PTC1023 = Register(Word, 0x040E8, RC, 0, "8.2.3.23.65")
    PTC1522 = Register(Word, 0x040EC, RC, 0, "8.2.3.23.66")
    MPTC = Register(Word, 0x040F0, RC, 0, "8.2.3.23.67")
    BPTC = Register(Word, 0x040F4, RC, 0, "8.2.3.23.68")
    XEC = Register(Word, 0x04120, RC, 0, "8.2.3.23.70")
    RQSMR = RegisterArray(f.QUEUE_MAP, Run(0x02300, 4, 32), RW, 0, "8.2.3.23.71", mask=0x0F0F_0F0F)
    TQSM = RegisterArray(f.QUEUE_MAP, Run(0x08600, 4, 32), RW, 0, "8.2.3.23.73", mask=0x0F0F_0F0F)
    QPRC = RegisterArray(Word, Run(0x01030, 0x40, COUNTERS), RC, 0, "8.2.3.23.74")
    QPRDC = RegisterArray(Word, Run(0x01430, 0x40, COUNTERS), RC, 0, "8.2.3.23.75")
    QBRC_L = RegisterArray(Word, Run(0x01034, 0x40, COUNTERS), RC, 0, "8.2.3.23.76")
    QBRC_H = RegisterArray(Word, Run(0x01038, 0x40, COUNTERS), RC, 0, "8.2.3.23.77")
    QPTC = RegisterArray(Word, Run(0x06030, 0x40, COUNTERS), RC, 0, "8.2.3.23.78", aliases=(Run(0x08680, 4, COUNTERS),))
    QBTC_L = RegisterArray(Word, Run(0x08700, 8, COUNTERS), RC, 0, "8.2.3.23.79")
    QBTC_H = RegisterArray(Word, Run(0x08704, 8, COUNTERS), RC, 0, "8.2.3.23.80")

    # 8.2.3.27 virtualisation tables that are zeroed even without it (4.6.7)
    PFVLVF = RegisterArray(Word, Run(0x0F100, 4, 64), RW, 0, "8.2.3.27.15")
    PFVLVFB = RegisterArray(Word, Run(0x0F200, 4, 128), RW, 0, "8.2.3.27.16")
    PFUTA = RegisterArray(Word, Run(0x0F400, 4, 128), RW, 0, "8.2.3.27.17")

    def check_present(self, name: str) -> None:
        # STATUS has reserved bits that read 0, so all ones there are the bus answering for a device that is gone.
        if self.space.read32(Registers.STATUS.offset()) == ALL_ONES:
            raise DeviceGone(f"the NIC no longer answers: {name} and STATUS read 0xffffffff. It was unplugged, reset or put to sleep; "
                             "close the port, check `lspci`, and open it again")
