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
    return now.name == "DMATXCTL" and now.rises("TE") and bool(now.regs.RXCTRL.read().RXEN)


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


# What names the number of pools: GCR_EXT.VT_MODE and GPIE.VT_MODE, MRQC.MRQE, MTQC.NUM_TC_OR_Q
POOLS_OF_MODE = {1: 16, 2: 32, 3: 64}
POOLS_OF_MRQE = {8: 64, 10: 32, 11: 64, 12: 16, 13: 32}
POOLS_OF_MTQC = {1: 64, 2: 32, 3: 16}


@rule(
    "8.2.3.4.12, 8.2.3.5.18, 8.2.3.7.12, 8.2.3.9.15",
    WARNING,
    "With virtualisation, GCR_EXT.VT_MODE, MRQC.MRQE and MTQC.NUM_TC_OR_Q name the same number of pools, and so does "
    "GPIE.VT_MODE when CTRL_EXT.PFRSTD is set",
    writes=("RXCTRL", "DMATXCTL", "CTRL_EXT"),
)
def same_number_of_pools(now: Access) -> str | None:
    regs = now.regs
    mode = regs.GCR_EXT.read().VT_MODE
    pf_is_ready = now.name == "CTRL_EXT" and f.CTRL_EXT(now.value).PFRSTD and regs.RXCTRL.read().RXEN
    if not (pf_is_ready or starts_both_directions(now)) or not mode or not regs.PFVTCTL.read().VT_ENA:
        return None
    pools = {
        "GCR_EXT": POOLS_OF_MODE[mode],
        "MRQC": POOLS_OF_MRQE.get(regs.MRQC.read().MRQE, 0),
        "MTQC": POOLS_OF_MTQC.get(regs.MTQC.read().NUM_TC_OR_Q, 0),
    }
    if pf_is_ready:  # Linux writes it after RXEN
        pools["GPIE"] = POOLS_OF_MODE.get(regs.GPIE.read().VT_MODE, 0)
    if len(set(pools.values())) == 1:
        return None
    return "pools are " + ", ".join(f"{count or 'none'} by {name}" for name, count in pools.items())


@rule(
    "4.6.10, 8.2.3.27.1",
    WARNING,
    "PFVTCTL.VT_ENA and GCR_EXT.VT_MODE change only while RXCTRL.RXEN is 0",
    writes=("PFVTCTL", "GCR_EXT"),
)
def pools_cut_while_reception_is_off(now: Access) -> str | None:
    field = "VT_ENA" if now.name == "PFVTCTL" else "VT_MODE"
    if not (now.rises(field) or now.falls(field)) or not now.regs.RXCTRL.read().RXEN:
        return None
    return f"the previous value was {now.before:#010x}, and RXEN is 1"


# ASSUMPTION (datasheet not at hand): Linux and DPDK switch RSC and signature filters off in VT mode.
@rule("7.11, 8.2.3.8.13", WARNING, "With virtualisation, no queue uses RSC", writes=("RSCCTL",))
def no_rsc_with_pools(now: Access) -> str | None:
    control = now.regs.PFVTCTL.read()
    return f"PFVTCTL is {control!r}" if now.rises("RSCEN") and control.VT_ENA else None


@rule(
    "7.1.2.7, 8.2.3.21.1",
    WARNING,
    "With virtualisation, flow director has no signature filters: they choose a queue of any pool",
    writes=("FDIRCTRL",),
)
def no_signature_filters_with_pools(now: Access) -> str | None:
    asked, control = f.FDIRCTRL(now.value), now.regs.PFVTCTL.read()
    return f"PFVTCTL is {control!r}" if asked.PBALLOC and not asked.PERFECT_MATCH and control.VT_ENA else None
