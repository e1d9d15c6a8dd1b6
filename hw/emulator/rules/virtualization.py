"""Virtualisation, and DCB, which is not emulated but whose settings are checked (82599 4.6.10, 4.6.11, 8.2.3.7.12)."""

from __future__ import annotations

from ... import fields as f
from ...registers import Registers
from .access import Access
from .findings import ERROR, WARNING, rule

# MRQC.MRQE: the values that are not reserved, those with traffic classes, those with pools
MRQE = {0, 1, 2, 3, 4, 5, 8, 10, 11, 12, 13}
MRQE_DCB = {2, 3, 4, 5, 12, 13}
MRQE_POOLS = {8, 10, 11, 12, 13}


def plain(regs: Registers) -> bool:
    """The receiver has neither DCB nor virtualisation."""
    return regs.MRQC.read().MRQE not in MRQE_DCB | MRQE_POOLS


def starts_both_directions(now: Access) -> bool:
    """With this write both reception and transmission are enabled."""
    if now.name == "RXCTRL":
        return now.rises("RXEN") and bool(now.regs.DMATXCTL.read().TE)
    return now.rises("TE") and bool(now.regs.RXCTRL.read().RXEN)


@rule("8.2.3.7.12", ERROR, "MRQC.MRQE has a value that is not reserved: 0 to 5, 8, or 10 to 13", writes=("MRQC",))
def mrqc_settings(now: Access) -> str | None:
    asked = f.MRQC(now.value)
    return None if asked.MRQE in MRQE else f"MRQE {asked.MRQE} is reserved"


@rule(
    "4.6.10, 8.2.3.27.1",
    WARNING,
    "PFVTCTL.VT_ENA, MRQC.MRQE, MTQC.VT_ENA and GCR_EXT.VT_MODE agree on whether virtualisation is on",
    writes=("RXCTRL", "DMATXCTL"),
)
def virtualization_everywhere(now: Access) -> str | None:
    regs = now.regs
    answers = {
        bool(regs.PFVTCTL.read().VT_ENA),
        regs.MRQC.read().MRQE in MRQE_POOLS,
        bool(regs.MTQC.read().VT_ENA),
        bool(regs.GCR_EXT.read().VT_MODE),
    }
    if not starts_both_directions(now) or len(answers) == 1:
        return None
    registers = (regs.PFVTCTL, regs.MRQC, regs.MTQC, regs.GCR_EXT)
    return ", ".join(f"{register.name} is {register.read()!r}" for register in registers)


@rule(
    "4.6.10",
    WARNING,
    "With virtual functions enabled, CTRL_EXT.PFRSTD is set only after PFVTCTL.VT_ENA and GCR_EXT.VT_MODE",
    writes=("CTRL_EXT",),
)
def pools_before_pfrstd(now: Access) -> str | None:
    regs = now.regs
    if not f.CTRL_EXT(now.value).PFRSTD or not regs.STATUS.read().NUM_VFS:
        return None
    if regs.PFVTCTL.read().VT_ENA and regs.GCR_EXT.read().VT_MODE:
        return None
    return f"PFVTCTL is {regs.PFVTCTL.read()!r}, GCR_EXT is {regs.GCR_EXT.read()!r}"


# Until then only the mailbox may be used. VF drivers switch queues off before they look, which does no harm.
@rule("8.3.5.1.5", WARNING, "A VF enables a queue only after VFMAILBOX.RSTI is 0", writes=("RXDCTL", "TXDCTL"))
def vf_waits_for_the_pf(now: Access) -> str | None:
    if now.vf is None or not now.rises("ENABLE"):
        return None
    mailbox = now.regs.PVFMAILBOX[now.vf].read()
    return f"VFMAILBOX is {mailbox!r}" if mailbox.RSTI else None


@rule("8.3.5.1.5", WARNING, "A VF writes VFMBMEM only while it holds the buffer: VFMAILBOX.VFU", writes=("PFMBMEM",))
def mailbox_held_by_the_vf(now: Access) -> str | None:
    if now.vf is None:
        return None
    mailbox = now.regs.PVFMAILBOX[now.vf].read()
    return None if mailbox.VFU else f"VFMAILBOX is {mailbox!r}"
