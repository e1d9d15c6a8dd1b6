"""Flow director: its memory, its masks, its commands (82599 7.1.2.7, 8.2.3.21)."""

from __future__ import annotations

from ... import fields as f
from .access import Access
from .findings import ERROR, WARNING, rule

ADD = 1
# Filters in the table: this number doubled by each step of PBALLOC, without those that the NIC reserves (7.1.2.7.2).
PERFECT, SIGNATURE, RESERVED = 1024, 4096, 2


@rule(
    "7.1.2.7.4, 8.2.3.21.2, 8.2.3.21.3",
    WARNING,
    "FDIRHKEY and FDIRSKEY are written before FDIRCTRL.PBALLOC gives flow director memory",
    writes=("FDIRCTRL",),
)
def director_keys_first(now: Access) -> str | None:
    return now.not_written([now.regs.FDIRHKEY, now.regs.FDIRSKEY]) if f.FDIRCTRL(now.value).PBALLOC else None


@rule(
    "7.1.2.7.3, 8.2.3.21.1",
    ERROR,
    "FDIRCTRL.INIT_DONE is read as 1 before FDIRCMD starts a command",
    writes=("FDIRCMD",),
)
def director_init_awaited(now: Access) -> str | None:
    return now.not_read_since(now.regs.FDIRCTRL, now.regs.FDIRCTRL, INIT_DONE=1) if f.FDIRCMD(now.value).CMD else None


@rule("8.2.3.21.22", WARNING, "FDIRCMD.CMD is read as 0 before FDIRCMD starts the next command", writes=("FDIRCMD",))
def director_command_awaited(now: Access) -> str | None:
    again = f.FDIRCMD(now.value).CMD and f.FDIRCMD(now.history.of(now.regs.FDIRCMD).written).CMD
    return now.not_read_since(now.regs.FDIRCMD, now.regs.FDIRCMD, CMD=0) if again else None


@rule(
    "8.2.3.21.21, 8.2.3.21.22",
    WARNING,
    "FDIRHASH is written before FDIRCMD starts a command: it selects the filter",
    writes=("FDIRCMD",),
)
def director_hash_first(now: Access) -> str | None:
    return now.not_written([now.regs.FDIRHASH]) if f.FDIRCMD(now.value).CMD else None


@rule(
    "8.2.3.21.22",
    WARNING,
    "A flow director filter has FDIRCMD.QUEUE_EN or DROP set: its frames go to a queue or are dropped",
    writes=("FDIRCMD",),
)
def director_filter_leads_somewhere(now: Access) -> str | None:
    asked = f.FDIRCMD(now.value)
    return f"the command is {asked!r}" if asked.CMD == ADD and not asked.QUEUE_EN and not asked.DROP else None


# All filters share the masks, and hashes are computed from masked fields: existing filters would no longer be found.
@rule(
    "8.2.3.21.4 to 8.2.3.21.9",
    WARNING,
    "Flow director's masks change only while it has no filters",
    writes=("FDIRDIP4M", "FDIRSIP4M", "FDIRTCPM", "FDIRUDPM", "FDIRSCTPM", "FDIRIP6M", "FDIRM"),
)
def director_masks_first(now: Access) -> str | None:
    control = now.regs.FDIRCTRL.read()
    capacity = ((PERFECT if control.PERFECT_MATCH else SIGNATURE) << control.PBALLOC) - RESERVED
    filters = capacity - now.regs.FDIRFREE.read().FREE if control.PBALLOC else 0
    if filters > 0 and now.value != now.before:
        return f"it has {filters} filters; the previous mask was {now.before:#010x}"
    return None
