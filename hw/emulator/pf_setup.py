"""VT mode as the agent sets it up (82599 4.6.10, in the order of Linux's ixgbe): pools, filters, the switch."""

from __future__ import annotations

from ..registers import Registers

KEY = tuple(0x6D5A_56DA + 0x0101_0101 * i for i in range(10))  # of RSS
VLANS = 64
PART_KB = 160 // 8
RARS = 128
POOL_MODES = {16: 1, 32: 2, 64: 3}  # pools: VT_MODE in GCR_EXT and GPIE
MTQC_QUEUES = {16: 3, 32: 2, 64: 1}  # pools: MTQC.NUM_TC_OR_Q
MRQE_LINUX = {32: 10, 64: 11}  # RSS inside each pool
MRQE_DPDK = {16: 12, 32: 13, 64: 8}  # traffic classes, or one queue, inside each pool
PAUSE_THRESHOLD = 0x3D00


class PfSetup:
    """The registers of a PF with `vfs` VFs in `pools` pools; the PF has the pool after the VFs'."""

    def __init__(self, regs: Registers, vfs: int, pools: int, mac: bytes, *, rss: bool) -> None:
        self.regs, self.vfs, self.pools, self.mac = regs, vfs, pools, mac
        self.queues = 128 // pools
        self._mrqe = (MRQE_LINUX if rss else MRQE_DPDK)[pools]
        self._addresses: dict[int, tuple[bytes, int]] = {}  # RAR: address, pool

    def open(self, max_frame: int) -> None:
        """From a reset on until the VFs may go on."""
        regs = self.regs
        for register in (regs.EEC, regs.FWSM, regs.RDRXCTL):  # 4.6.3
            register.read()
        for table in (regs.PFUTA, regs.VFTA, regs.PFVLVF, regs.PFVLVFB, regs.MTA, regs.MPSAR, regs.FTQF):
            for each in table:
                each.write(0)
        regs.GCR_EXT.update(VT_MODE=POOL_MODES[self.pools])
        regs.GPIE.write(MSIX_MODE=1, VT_MODE=POOL_MODES[self.pools])
        regs.RTTDCS.update(ARBDIS=1)
        regs.MTQC.write(VT_ENA=1, RT_ENA=int(self.pools == 16), NUM_TC_OR_Q=MTQC_QUEUES[self.pools])
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
        regs.PFVTCTL.write(VT_ENA=1, DEF_PL=self.vfs, RPL_EN=1)
        own = ~((1 << self.vfs) - 1)
        for word in range(2):
            regs.PFVFRE[word].write(own >> 32 * word & 0xFFFF_FFFF)
            regs.PFVFTE[word].write(own >> 32 * word & 0xFFFF_FFFF)
        regs.PFDTXGSWC.write(LBE=1)
        regs.EITRSEL.write((1 << max(self.vfs - 32, 0)) - 1)
        self._open_ways(max_frame)
        self._addresses.clear()
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

    # ---- pools ----

    def set_pool(self, vf: int, *, receive: bool | None = None, transmit: bool | None = None) -> None:
        for registers, on in ((self.regs.PFVFRE, receive), (self.regs.PFVFTE, transmit)):
            if on is not None:
                register, bit = registers[vf // 32], 1 << vf % 32
                register.write(register.read() | bit if on else register.read() & ~bit)

    def drop_without_descriptor(self, vf: int) -> None:
        """A VF that takes no frames must not stop the others (PFQDE)."""
        for queue in range(vf * self.queues, (vf + 1) * self.queues):
            self.regs.PFQDE.write(QDE=1, WE=1, QUEUE_IDX=queue)

    def clear_write_back(self, vf: int) -> None:
        """A function-level reset leaves head write-back on."""
        for queue in range(vf * self.queues, (vf + 1) * self.queues):
            self.regs.TDWBAH[queue].write(0)
            self.regs.TDWBAL[queue].write(0)

    def accept(self, vf: int, **kinds: int) -> None:
        self.regs.PFVML2FLT[vf].update(**kinds)

    def count_spoofed(self, vf: int) -> None:
        register = self.regs.VMECM[vf // 32]
        register.write(register.read() | 1 << vf % 32)

    def check_source(self, vf: int, *, address: bool, vlan: bool) -> None:
        register = self.regs.PFVFSPOOF[vf // 8]
        kept = register.read() & ~(0x101 << vf % 8)
        register.write(kept | (int(address) | int(vlan) << 8) << vf % 8)

    def insert_tag(self, vf: int, tag: int) -> None:
        """The pool's frames all get this tag; 0: the tag that their descriptor asks for."""
        self.regs.PFVMVIR[vf].write(PORT_VLAN_ID=tag, VLANA=int(tag > 0))

    # ---- addresses ----

    def add_address(self, mac: bytes, pool: int) -> bool:
        """False when all RARs are taken."""
        free = next((rar for rar in range(RARS) if rar not in self._addresses), None)
        if free is None:
            return False
        self._addresses[free] = mac, pool
        regs = self.regs
        for word in range(2):
            regs.MPSAR[2 * free + word].write(1 << pool >> 32 * word & 0xFFFF_FFFF)
        regs.RAL[free].write(int.from_bytes(mac[:4], "little"))
        regs.RAH[free].write(RAH=int.from_bytes(mac[4:], "little"), AV=1)
        return True

    def remove_addresses(self, pool: int, *macs: bytes) -> None:
        """These addresses of the pool; without any, all of them."""
        for rar, (mac, owner) in list(self._addresses.items()):
            if owner == pool and (not macs or mac in macs):
                del self._addresses[rar]
                self.regs.RAH[rar].write(0)
                self.regs.RAL[rar].write(0)
                for word in range(2):
                    self.regs.MPSAR[2 * rar + word].write(0)

    def add_hash(self, value: int) -> None:
        """A multicast address by its 12-bit hash; the table is shared by all pools."""
        entry = self.regs.MTA[value >> 5 & 0x7F]
        entry.write(entry.read() | 1 << (value & 0x1F))

    # ---- VLANs: VLAN 0 has PFVLVF[0], others are taken from the last one downward ----

    def set_vlan(self, vlan: int, pool: int, on: bool) -> bool:
        """False when all filters are taken."""
        entry = self._vlan_entry(vlan)
        if entry is None:
            return not on
        regs = self.regs
        member, other = regs.PFVLVFB[2 * entry + pool // 32], regs.PFVLVFB[2 * entry + 1 - pool // 32]
        bit = 1 << pool % 32
        member.write(member.read() | bit if on else member.read() & ~bit)
        used = bool(member.read() or other.read())
        regs.PFVLVF[entry].write(VLAN_ID=vlan * used, VI_EN=int(used))
        table = regs.VFTA[vlan // 32]
        table.write(table.read() | 1 << vlan % 32 if used else table.read() & ~(1 << vlan % 32))
        return True

    def _vlan_entry(self, vlan: int) -> int | None:
        if vlan == 0:
            return 0
        free = None
        for entry in range(VLANS - 1, 0, -1):
            filter_ = self.regs.PFVLVF[entry].read()
            if filter_.VI_EN and filter_.VLAN_ID == vlan:
                return entry
            if not filter_.VI_EN and free is None:
                free = entry
        return free
