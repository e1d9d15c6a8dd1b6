"""DCB and virtualisation, of which this NIC emulates next to nothing, but a driver may get them wrong (82599 4.6.10, 4.6.11, 8.2.3.7.12)."""

from __future__ import annotations

from ixrings.hw import fields as f
from ixrings.hw.registers import Registers

from .access import Access
from .findings import ERROR, WARNING, rule

# MRQC.MRQE: what exists, and what of it divides by traffic classes, by pools
MRQE = {0, 1, 2, 3, 4, 5, 8, 10, 11, 12, 13}
MRQE_DCB = {2, 3, 4, 5, 12, 13}
MRQE_POOLS = {8, 10, 11, 12, 13}


def plain(regs: Registers) -> bool:
    """The receiver has neither DCB nor virtualisation."""
    return regs.MRQC.read().MRQE not in MRQE_DCB | MRQE_POOLS


def _both_ways_on(now: Access) -> bool:
    """The write makes it so that frames go in and out."""
    if now.name == "RXCTRL":
        return now.rises("RXEN") and bool(now.regs.DMATXCTL.read().TE)
    return now.rises("TE") and bool(now.regs.RXCTRL.read().RXEN)


@rule(
    "8.2.3.7.12", ERROR, "MRQC.MRQE is a way of choosing queues that exists: 0 to 5, 8, or 10 to 13", writes=("MRQC",)
)
def mrqc_settings(now: Access) -> str | None:
    asked = f.MRQC(now.value)
    return None if asked.MRQE in MRQE else f"MRQE {asked.MRQE} is reserved"


@rule(
    "4.6.10, 8.2.3.27.1",
    WARNING,
    "Virtualisation is on everywhere or nowhere: PFVTCTL.VT_ENA, MRQC.MRQE, MTQC.VT_ENA and GCR_EXT.VT_MODE",
    writes=("RXCTRL", "DMATXCTL"),
)
def virtualization_everywhere(now: Access) -> str | None:
    regs = now.regs
    says = {
        bool(regs.PFVTCTL.read().VT_ENA),
        regs.MRQC.read().MRQE in MRQE_POOLS,
        bool(regs.MTQC.read().VT_ENA),
        bool(regs.GCR_EXT.read().VT_MODE),
    }
    if not _both_ways_on(now) or len(says) == 1:
        return None
    return f"PFVTCTL is {regs.PFVTCTL.read()!r}, MRQC {regs.MRQC.read()!r}, MTQC {regs.MTQC.read()!r}, GCR_EXT {regs.GCR_EXT.read()!r}"
