"""Virtual functions, as their PF's driver and their own drivers use them (82599 4.6.10, 8.2.3.27, 8.3.5)."""

from __future__ import annotations

from ... import fields as f
from .access import Access
from .findings import ERROR, WARNING, rule

POOLS = 64
OWN_EITRS = 32  # VFs; further ones share EITR with the PF
VECTORS = 3  # of a VF
RESERVED_VLANA = 3
ENTRIES = 64  # of PFVLVF


def pools(registers: tuple[int, int]) -> int:
    """Two registers as one bit for each pool."""
    return registers[0] | registers[1] << 32


# ---- the PF's reset ends: CTRL_EXT.PFRSTD ----


def ends_reset(now: Access) -> int:
    """The number of VFs that this write of CTRL_EXT lets go on; 0 when it lets none."""
    return int(now.regs.STATUS.read().NUM_VFS) if now.rises("PFRSTD") else 0


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


@rule(
    "4.6.10, 8.2.3.27.12",
    WARNING,
    "With virtual functions enabled, PFDTXGSWC is written again after each reset, before CTRL_EXT.PFRSTD is set",
    writes=("CTRL_EXT",),
)
def switch_before_pfrstd(now: Access) -> str | None:
    return now.not_written([now.regs.PFDTXGSWC]) if ends_reset(now) else None


@rule(
    "8.2.3.5.11",
    WARNING,
    "With more than 32 virtual functions, EITRSEL is written before CTRL_EXT.PFRSTD is set: it gives EITR to VFs",
    writes=("CTRL_EXT",),
)
def intervals_before_pfrstd(now: Access) -> str | None:
    return now.not_written([now.regs.EITRSEL]) if ends_reset(now) > OWN_EITRS else None


@rule(
    "4.6.10, 8.2.3.27.7, 8.2.3.27.8",
    WARNING,
    "A VF's pool is opened in PFVFRE and PFVFTE only after CTRL_EXT.PFRSTD, when the VF asks for it",
    writes=("CTRL_EXT",),
)
def vf_pools_closed_at_pfrstd(now: Access) -> str | None:
    theirs = (1 << ends_reset(now)) - 1
    for registers in (now.regs.PFVFRE, now.regs.PFVFTE):
        opened = pools((registers[0].read(), registers[1].read())) & theirs
        if opened:
            return f"{registers[0].row.name} has the pools of VFs, {opened:#x}"
    return None


# ---- what a PF's driver sets for a VF ----


# ASSUMPTION (datasheet not at hand): filter tables keep their values over a reset, so the pool's has to be written.
@rule(
    "4.6.10, 8.2.3.27.7, 8.2.3.27.14",
    WARNING,
    "PFVFRE opens the pool of a VF only after PFVML2FLT says which frames it accepts",
    writes=("PFVFRE",),
)
def filters_before_vfre(now: Access) -> str | None:
    opened = now.value & ~now.before
    vfs = [32 * now.index + bit for bit in range(32) if opened >> bit & 1]
    return now.not_written([now.regs.PFVML2FLT[vf] for vf in vfs if vf < now.regs.STATUS.read().NUM_VFS])


@rule(
    "8.2.3.27.11",
    WARNING,
    "PFVFSPOOF checks VLAN tags (VLANAS) only of pools whose addresses it checks (MACAS)",
    writes=("PFVFSPOOF",),
)
def vlan_spoofing_needs_addresses(now: Access) -> str | None:
    asked = f.PFVFSPOOF(now.value)
    alone = asked.VLANAS & ~asked.MACAS
    return f"VLANAS has {alone:#04x} without MACAS, which has no effect" if alone else None


@rule("8.2.3.27", ERROR, "PFVMVIR.VLANA is 0, 1 or 2: 3 is reserved", writes=("PFVMVIR",))
def tag_insertion_valid(now: Access) -> str | None:
    return f"VLANA is {RESERVED_VLANA}" if f.PFVMVIR(now.value).VLANA == RESERVED_VLANA else None


@rule(
    "8.2.3.27.15, 8.2.3.27.16",
    WARNING,
    "PFVLVF enables a VLAN only after PFVLVFB names its pools, else its frames are lost",
    writes=("PFVLVF",),
)
def vlan_has_pools(now: Access) -> str | None:
    members = now.regs.PFVLVFB[2 * now.index], now.regs.PFVLVFB[2 * now.index + 1]
    if not now.rises("VI_EN") or any(each.read() for each in members):
        return None
    return f"{members[0].name} and {members[1].name} are 0"


@rule("8.2.3.27.15", WARNING, "No two entries of PFVLVF have the same VLAN", writes=("PFVLVF",))
def vlans_differ(now: Access) -> str | None:
    asked = f.PFVLVF(now.value)
    if not asked.VI_EN:
        return None
    for index in range(ENTRIES):
        other = now.regs.PFVLVF[index].read()
        if index != now.index and other.VI_EN and other.VLAN_ID == asked.VLAN_ID:
            return f"PFVLVF[{index}] has VLAN {asked.VLAN_ID}, too"
    return None


# ---- what a VF's driver does ----


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


@rule(
    "8.3.5.2.7, 8.3.5.2.8",
    ERROR,
    "VTIVAR and VTIVAR_MISC name vectors that a VF has: 0 and 1 for queues, 0 to 2 for the mailbox",
    writes=("PVTIVAR", "PVTIVAR_MISC"),
)
def vf_vector_exists(now: Access) -> str | None:
    if now.name == "PVTIVAR_MISC":
        asked = f.PVTIVAR_MISC(now.value)
        return f"the mailbox has vector {asked.VECTOR}" if asked.VALID and asked.VECTOR >= VECTORS else None
    for entry in (now.value >> shift & 0xFF for shift in range(0, 32, 8)):
        if entry & 0x80 and entry & 0x7E:
            return f"a queue has vector {entry & 0x7F}"
    return None


@rule(
    "8.2.3.9.11",
    ERROR,
    "After the reset of a VF, TDWBAL is written before a transmit queue is enabled: the reset does not clear it",
    writes=("TXDCTL",),
)
def write_back_after_vf_reset(now: Access) -> str | None:
    if now.vf is None or not now.rises("ENABLE"):
        return None
    address = now.regs.TDWBAL[now.index]
    if not address.read().HEAD_WB_EN or now.wrote(address):
        return None
    return f"{address.name} is {address.read()!r} from before the reset"
