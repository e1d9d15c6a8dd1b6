"""The NIC as the agent sets it up: VT mode (82599 4.6.10, in the order of Linux's ixgbe), and no rings of its own."""

from __future__ import annotations

from ..pf.pools import MRQE_CLASSES, MRQE_RSS, Pools
from ..registers import Registers

KEY = tuple(0x6D5A_56DA + 0x0101_0101 * i for i in range(10))  # of RSS
PART_KB = 160 // 8
PAUSE_THRESHOLD = 0x3D00


class PfSetup(Pools):
    """Pools of a PF that has no rings."""

    def __init__(self, regs: Registers, vfs: int, pools: int, mac: bytes, *, rss: bool) -> None:
        super().__init__(regs, vfs, pools)
        self.mac = mac
        self._mrqe = (MRQE_RSS if rss else MRQE_CLASSES)[pools]

    def open(self, max_frame: int) -> None:
        """From a reset on until the VFs may go on."""
        regs = self.regs
        for register in (regs.EEC, regs.FWSM, regs.RDRXCTL):  # 4.6.3
            register.read()
        for table in (regs.PFUTA, regs.VFTA, regs.PFVLVF, regs.PFVLVFB, regs.MTA, regs.MPSAR, regs.FTQF):
            for each in table:
                each.write(0)
        self.cut()
        regs.RTTDCS.update(ARBDIS=1)
        self.cut_transmit()
        regs.RTTDCS.update(ARBDIS=0)
        if self.pools == 16:  # eight traffic classes, each with a part of the packet buffer (4.6.11.3)
            for size, threshold in zip(regs.TXPBSIZE, regs.TXPBTHRESH):
                size.write(SIZE=PART_KB)
                threshold.write(THRESH=PART_KB - 10)
        for key, word in zip(regs.RSSRK, KEY):
            key.write(word)
        for entry in regs.RETA:
            entry.write(0x0302_0100)  # four queues at most are a pool's
        regs.MRQC.write(MRQE=self._mrqe, TCPIPV4=1, IPV4=1, IPV6=1, TCPIPV6=1)
        self.switch_on()
        self._open_ways(max_frame)
        self.add_address(self.mac, self.vfs)
        regs.PFVML2FLT[self.vfs].write(AUPE=1, BAM=1, ROMPE=1)
        self.set_vlan(0, self.vfs, True)

    def _open_ways(self, max_frame: int) -> None:
        regs = self.regs
        regs.FCTRL.write(BAM=1)
        regs.MCSTCTRL.write(MFE=1)
        regs.VLNCTRL.update(VFE=1)
        regs.RDRXCTL.update(CRCSTRIP=1, RSCFRSTSIZE=0, RSCACKC=1, FCOE_WRFIX=1)
        regs.HLREG0.update(RXCRCSTRP=1, JUMBOEN=1, TXPADEN=1)
        regs.MAXFRS.write(MFS=max_frame)
        regs.FCRTH[0].write(RTH=PAUSE_THRESHOLD)
        regs.CTRL_EXT.update(NS_DIS=1)
        regs.SECRXCTRL.update(RX_DIS=1)
        regs.SECRXSTAT.read()
        regs.RXCTRL.write(RXEN=1)
        regs.SECRXCTRL.update(RX_DIS=0)
        regs.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0xFFF)
        for queue in range(128):
            regs.RTTDQSEL.write(queue)
            regs.RTTDT1C.write(0)
        regs.DMATXCTL.update(TE=1)
