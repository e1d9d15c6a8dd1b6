"""The registers of a PF that has virtual functions (82599 4.6.10, 8.2.3.27): pools, their filters, the switch.

ASSUMPTION (datasheet not at hand): values and order are those of Linux's ixgbe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..rate import MAKES_UP_KB, write_rate
from ..register import ALL_ONES
from ..registers import Registers
from .words import mac_words

VLANS = 64
RARS = 128
POOL_MODES = {16: 1, 32: 2, 64: 3}  # pools: VT_MODE in GCR_EXT and GPIE
MTQC_QUEUES = {16: 3, 32: 2, 64: 1}  # pools: MTQC.NUM_TC_OR_Q
MRQE_RSS = {32: 10, 64: 11}  # RSS inside each pool
MRQE_CLASSES = {16: 12, 32: 13, 64: 8}  # traffic classes, or one queue, inside each pool
FIRST_EITR = 127  # of VF 0; each VF has two, below those of the VF before it (X550 7.3.4.3)
OWN_EITRS = 32  # VFs; EITRSEL gives the registers of further ones to them, and takes them from the PF


class Pools:
    """`vfs` VFs in the first of `pools` pools; the PF has the pool after theirs.

    queues: of each pool. all_vlans: the PF receives the frames of every VLAN. own_hashes: of the PF's multicast groups.
    """

    def __init__(self, regs: Registers, vfs: int, pools: int) -> None:
        self.regs, self.vfs, self.pools = regs, vfs, pools
        self.queues = 128 // pools
        self.all_vlans = False
        self.own_hashes: list[int] = []
        self._addresses: dict[int, tuple[bytes, int]] = {}  # RAR: address, pool

    # ---- VT mode, in this order ----

    def cut(self) -> None:
        """Cut the queues into pools, which must be done before VFs are used."""
        self.regs.GCR_EXT.update(VT_MODE=POOL_MODES[self.pools])
        self.regs.GPIE.update(MSIX_MODE=1, VT_MODE=POOL_MODES[self.pools])

    def cut_transmit(self) -> None:
        """MTQC. The caller has set RTTDCS.ARBDIS."""
        self.regs.MTQC.write(VT_ENA=1, RT_ENA=int(self.pools == 16), NUM_TC_OR_Q=MTQC_QUEUES[self.pools])

    def switch_on(self, pf_vectors: int = 1) -> None:
        """Pools and the switch between them. Until a VF is reset, only the PF's pool receives and sends.

        pf_vectors: so many EITR belong to the PF, whatever VF would have them.
        """
        regs = self.regs
        regs.PFVTCTL.write(VT_ENA=1, DEF_PL=self.vfs, RPL_EN=1)
        own = ~((1 << self.vfs) - 1)
        for word in range(2):
            regs.PFVFRE[word].write(own >> 32 * word & 0xFFFF_FFFF)
            regs.PFVFTE[word].write(own >> 32 * word & 0xFFFF_FFFF)
        regs.PFDTXGSWC.write(LBE=1)
        theirs = [vf for vf in range(OWN_EITRS, self.vfs) if FIRST_EITR - 2 * vf >= pf_vectors]
        regs.EITRSEL.write(sum(1 << vf - OWN_EITRS for vf in theirs))
        self._addresses.clear()

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

    def check_source(self, vf: int, on: bool) -> None:
        """Whether the VF may send only from its addresses, and tagged frames only of its VLANs."""
        register, both = self.regs.PFVFSPOOF[vf // 8], 0x101 << vf % 8
        register.write(register.read() | both if on else register.read() & ~both)

    def insert_tag(self, vf: int, tag: int) -> None:
        """The pool's frames all get this tag; 0: the tag that their descriptor asks for."""
        self.regs.PFVMVIR[vf].write(PORT_VLAN_ID=tag, VLANA=int(tag > 0))

    def limit_rate(self, vf: int, rate_mbps: int, link_mbps: int) -> None:
        """At most rate_mbps from each queue of the pool; 0, or the link's speed and more: no limit (8.2.3.10.16)."""
        if rate_mbps and not self.regs.RTTBCNRM.read():  # a port with long frames has set more
            self.regs.RTTBCNRM.write(MMW_SIZE=MAKES_UP_KB)
        for queue in range(vf * self.queues, (vf + 1) * self.queues):
            write_rate(self.regs, queue, rate_mbps or None, link_mbps)

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
        low, high = mac_words(mac)
        regs.RAL[free].write(low)
        regs.RAH[free].write(RAH=high, AV=1)
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

    def keep_hashes(self, of_vfs: Iterable[int]) -> None:
        """Only these hashes and the PF's own stay in the multicast table."""
        table = [0] * len(self.regs.MTA)
        for value in (*self.own_hashes, *of_vfs):
            table[value >> 5 & 0x7F] |= 1 << (value & 0x1F)
        for entry, word in zip(self.regs.MTA, table):
            entry.write(word)

    # ---- VLANs: VLAN 0 has PFVLVF[0], others are taken from the last one downward ----

    def set_vlan(self, vlan: int, pool: int, on: bool) -> bool:
        """False when all filters are taken."""
        entry = self._vlan_entry(vlan)
        if entry is None:
            return not on
        members = self._members(entry)
        self._write_vlan(entry, vlan, members | 1 << pool if on else members & ~(1 << pool))
        return True

    def vlans_of(self, pool: int) -> frozenset[int]:
        return frozenset(vlan for entry, vlan in self._vlans() if self._members(entry) >> pool & 1)

    def receive_all_vlans(self, on: bool) -> None:
        """Give the PF the frames of every VLAN; off: of none. VLANs without a filter go to the default pool, its own.

        What the PF received by set_vlan() is forgotten.
        """
        self.all_vlans = on
        entries = list(self._vlans())
        for entry, vlan in entries:
            self._write_vlan(entry, vlan, self._members(entry) & ~(1 << self.vfs))
        words = [ALL_ONES if on else 0] * len(self.regs.VFTA)
        for _, vlan in self._vlans():
            words[vlan // 32] |= 1 << vlan % 32
        for register, word in zip(self.regs.VFTA, words):
            register.write(word)

    def _vlans(self) -> Iterator[tuple[int, int]]:
        """The entries in use and their VLANs."""
        for entry, register in enumerate(self.regs.PFVLVF):
            filter_ = register.read()
            if filter_.VI_EN:
                yield entry, filter_.VLAN_ID

    def _members(self, entry: int) -> int:
        return int(self.regs.PFVLVFB[2 * entry].read()) | int(self.regs.PFVLVFB[2 * entry + 1].read()) << 32

    def _write_vlan(self, entry: int, vlan: int, members: int) -> None:
        regs, own = self.regs, 1 << self.vfs
        if self.all_vlans:  # a frame for an entry goes only to its members
            members = members | own if members & ~own else 0
        used = bool(members)
        for half in range(2):
            regs.PFVLVFB[2 * entry + half].write(members >> 32 * half & ALL_ONES)
        regs.PFVLVF[entry].write(VLAN_ID=vlan * used, VI_EN=int(used))
        table = regs.VFTA[vlan // 32]
        table.write(table.read() | 1 << vlan % 32 if used or self.all_vlans else table.read() & ~(1 << vlan % 32))

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
