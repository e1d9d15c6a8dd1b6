"""Flow director: its memory, its masks, its commands (82599 7.1.2.7, 8.2.3.21)."""

from __future__ import annotations

from ixrings.hw import fields as f

from .access import Access
from .findings import ERROR, WARNING, rule

ADD = 1
PERFECT, SIGNATURE, RESERVED = (
    1024,
    4096,
    2,
)  # filters, doubled by each step of PBALLOC, but for those that the NIC keeps (7.1.2.7.2)


@rule(
    "7.1.2.7.4, 8.2.3.21.2, 8.2.3.21.3",
    WARNING,
    "Flow director has its hash keys before FDIRCTRL gives it memory",
    writes=("FDIRCTRL",),
)
def director_keys_first(now: Access) -> str | None:
    return now.not_written([now.regs.FDIRHKEY, now.regs.FDIRSKEY]) if f.FDIRCTRL(now.value).PBALLOC else None


@rule(
    "7.1.2.7.3, 8.2.3.21.1",
    ERROR,
    "FDIRCTRL.INIT_DONE is awaited before flow director gets commands",
    writes=("FDIRCMD",),
)
def director_init_awaited(now: Access) -> str | None:
    return now.not_read_since(now.regs.FDIRCTRL, now.regs.FDIRCTRL, INIT_DONE=1) if f.FDIRCMD(now.value).CMD else None


@rule("8.2.3.21.22", WARNING, "FDIRCMD.CMD is read as 0 before flow director gets another command", writes=("FDIRCMD",))
def director_command_awaited(now: Access) -> str | None:
    again = f.FDIRCMD(now.value).CMD and f.FDIRCMD(now.history.of(now.regs.FDIRCMD).written).CMD
    return now.not_read_since(now.regs.FDIRCMD, now.regs.FDIRCMD, CMD=0) if again else None


@rule(
    "8.2.3.21.21, 8.2.3.21.22",
    WARNING,
    "FDIRHASH says which filter is meant before FDIRCMD starts a command",
    writes=("FDIRCMD",),
)
def director_hash_first(now: Access) -> str | None:
    return now.not_written([now.regs.FDIRHASH]) if f.FDIRCMD(now.value).CMD else None


@rule(
    "8.2.3.21.22",
    WARNING,
    "A flow director filter says where its frames go: FDIRCMD.QUEUE_EN or DROP",
    writes=("FDIRCMD",),
)
def director_filter_leads_somewhere(now: Access) -> str | None:
    asked = f.FDIRCMD(now.value)
    return f"that is {asked!r}" if asked.CMD == ADD and not asked.QUEUE_EN and not asked.DROP else None


# All filters share the masks, and a hash is made of what they leave: the table's filters would not be found any more.
@rule(
    "8.2.3.21.4 to 8.2.3.21.9",
    WARNING,
    "What flow director compares changes only while it has no filters",
    writes=("FDIRDIP4M", "FDIRSIP4M", "FDIRTCPM", "FDIRUDPM", "FDIRSCTPM", "FDIRIP6M", "FDIRM"),
)
def director_masks_first(now: Access) -> str | None:
    control = now.regs.FDIRCTRL.read()
    capacity = ((PERFECT if control.PERFECT_MATCH else SIGNATURE) << control.PBALLOC) - RESERVED
    filters = capacity - now.regs.FDIRFREE.read().FREE if control.PBALLOC else 0
    return f"it has {filters}; it was {now.before:#010x}" if filters > 0 and now.value != now.before else None
