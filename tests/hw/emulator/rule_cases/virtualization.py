"""Cases of hw/emulator/rules/virtualization.py."""

from __future__ import annotations

from ixrings.hw.emulator import VirtualFunction
from tests.support.by_hand import ByHand


def mrqc_settings(nic: ByHand, wrong: bool) -> None:
    nic.regs.MRQC.write(MRQE=6 if wrong else 5)


def virtualization_everywhere(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.MTQC.write(VT_ENA=1, NUM_TC_OR_Q=1)
    nic.regs.MRQC.write(MRQE=8)
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.GCR_EXT.update(VT_MODE=0 if wrong else 3)
    start_both_directions(nic)


def start_both_directions(nic: ByHand) -> None:
    nic.set_up_reception()
    nic.start_reception()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)


def pools_before_pfrstd(nic: ByHand, wrong: bool) -> None:
    enabled_vf(nic)
    if not wrong:
        nic.regs.PFVTCTL.write(VT_ENA=1)
        nic.regs.GCR_EXT.update(VT_MODE=2)
    nic.regs.CTRL_EXT.update(PFRSTD=1)


def vf_waits_for_the_pf(nic: ByHand, wrong: bool) -> None:
    vf = enabled_vf(nic)
    nic.read_ready_bits()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.regs.PFVTCTL.write(VT_ENA=1)
    nic.regs.GCR_EXT.update(VT_MODE=2)
    if not wrong:
        nic.regs.CTRL_EXT.update(PFRSTD=1)
    memory = vf.alloc_dma(4096)
    for low, value in ((0, memory.iova & 0xFFFFFFFF), (4, memory.iova >> 32), (8, 128), (0x28, 1 << 25 | 32 | 1 << 8)):
        vf.write32(0x2000 + low, value)
    vf.close()


def mailbox_held_by_the_vf(nic: ByHand, wrong: bool) -> None:
    vf = enabled_vf(nic)
    vf.write32(0x2FC, 0 if wrong else 4)  # VFU
    vf.write32(0x200, 1)


def enabled_vf(nic: ByHand) -> VirtualFunction:
    """VF 0, enabled in the SR-IOV capability."""
    nic.nic.config_write(0x170, 2, 1)
    nic.nic.config_write(0x168, 2, 0x9)
    return nic.nic.vf(0)
