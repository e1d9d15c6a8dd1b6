"""Cases of hw/emulator/rules/virtual_functions.py."""

from __future__ import annotations

from ixrings.hw.emulator import VirtualFunction
from tests.support.by_hand import ByHand


def enabled_vf(nic: ByHand, count: int = 1) -> VirtualFunction:
    """VF 0 of so many that the SR-IOV capability enables."""
    nic.nic.config_write(0x170, 2, count)
    nic.nic.config_write(0x168, 2, 0x9)
    return nic.nic.vf(0)


def cut_pools(nic: ByHand) -> None:
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.GCR_EXT.update(VT_MODE=3)
    nic.regs.PFDTXGSWC.write(LBE=1)


def pools_before_pfrstd(nic: ByHand, wrong: bool) -> None:
    enabled_vf(nic)
    nic.regs.PFDTXGSWC.write(LBE=1)
    if not wrong:
        cut_pools(nic)
    nic.regs.CTRL_EXT.update(PFRSTD=1)


def switch_before_pfrstd(nic: ByHand, wrong: bool) -> None:
    enabled_vf(nic)
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.GCR_EXT.update(VT_MODE=2)
    if not wrong:
        nic.regs.PFDTXGSWC.write(0)  # as a switch outside of the NIC needs it
    nic.regs.CTRL_EXT.update(PFRSTD=1)


def intervals_before_pfrstd(nic: ByHand, wrong: bool) -> None:
    enabled_vf(nic, 34)
    cut_pools(nic)
    if not wrong:
        nic.regs.EITRSEL.write(0x3)
    nic.regs.CTRL_EXT.update(PFRSTD=1)


def vf_pools_closed_at_pfrstd(nic: ByHand, wrong: bool) -> None:
    enabled_vf(nic)
    cut_pools(nic)
    nic.regs.PFVML2FLT[0].write(BAM=1)
    nic.regs.PFVFRE[0].write(0xFFFF_FFFF if wrong else 0xFFFF_FFFE)
    nic.regs.CTRL_EXT.update(PFRSTD=1)


def filters_before_vfre(nic: ByHand, wrong: bool) -> None:
    enabled_vf(nic)
    cut_pools(nic)
    nic.regs.CTRL_EXT.update(PFRSTD=1)
    if not wrong:
        nic.regs.PFVML2FLT[0].write(BAM=1, AUPE=1)
    nic.regs.PFVFRE[0].write(0x1)


def vlan_spoofing_needs_addresses(nic: ByHand, wrong: bool) -> None:
    nic.regs.PFVFSPOOF[0].write(MACAS=1 if wrong else 3, VLANAS=2)


def tag_insertion_valid(nic: ByHand, wrong: bool) -> None:
    nic.regs.PFVMVIR[0].write(VLANA=3 if wrong else 2)


def vlan_has_pools(nic: ByHand, wrong: bool) -> None:
    if not wrong:
        nic.regs.PFVLVFB[127].write(0x1)  # pool 32
    nic.regs.PFVLVF[63].write(VLAN_ID=7, VI_EN=1)


def vlans_differ(nic: ByHand, wrong: bool) -> None:
    for entry, vlan in ((63, 7), (62, 7 if wrong else 8)):
        nic.regs.PFVLVFB[2 * entry].write(0x1)
        nic.regs.PFVLVF[entry].write(VLAN_ID=vlan, VI_EN=1)


def vf_waits_for_the_pf(nic: ByHand, wrong: bool) -> None:
    vf = enabled_vf(nic)
    prepare_transmission(nic)
    if not wrong:
        nic.regs.CTRL_EXT.update(PFRSTD=1)
    start_transmit_queue(vf)
    vf.close()


def prepare_transmission(nic: ByHand) -> None:
    nic.read_ready_bits()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    cut_pools(nic)


def start_transmit_queue(vf: VirtualFunction) -> None:
    memory = vf.alloc_dma(4096)
    for low, value in ((0, memory.iova & 0xFFFFFFFF), (4, memory.iova >> 32), (8, 128), (0x28, 1 << 25 | 32 | 1 << 8)):
        vf.write32(0x2000 + low, value)


def mailbox_held_by_the_vf(nic: ByHand, wrong: bool) -> None:
    vf = enabled_vf(nic)
    vf.write32(0x2FC, 0 if wrong else 4)  # VFU
    vf.write32(0x200, 1)


def vf_vector_exists(nic: ByHand, wrong: bool) -> None:
    vf = enabled_vf(nic)
    cut_pools(nic)
    vf.write32(0x140, 0x80 | (3 if wrong else 2))  # VTIVAR_MISC
    vf.write32(0x120, 0x8180_8180)  # VTIVAR


def write_back_after_vf_reset(nic: ByHand, wrong: bool) -> None:
    vf = enabled_vf(nic)
    prepare_transmission(nic)
    nic.regs.CTRL_EXT.update(PFRSTD=1)
    vf.write32(0x2038, 0x1001)  # VFTDWBAL
    vf.write32(0x200C, 0x2200)  # VFDCA_TXCTRL without TXDESCWBRO
    vf.reset()
    vf.enable_bus_master(True)
    vf.write32(0x200C, 0x2200)
    if not wrong:
        vf.write32(0x2038, 0x0)
    start_transmit_queue(vf)
    vf.close()
