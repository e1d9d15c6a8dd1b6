"""Reset, and the steps before and after it (82599 4.2.1, 4.6.3, 5.2.5.3.2, 8.2.3.1)."""

from __future__ import annotations

import time

from ... import fields as f
from .access import QUEUE_CONTROL, Access, vf_of_queue
from .findings import ERROR, WARNING, rule

CTRL_READABLE_S = 1e-3
PROGRAMMABLE_S = 10e-3
RESETS = f.CTRL.RST.mask | f.CTRL.LRST.mask


def since_reset_s(now: Access) -> float:
    """Seconds since the driver wrote CTRL.RST or LRST; infinite if it did not, or if delays hide it."""
    last = now.history.of(now.regs.CTRL)
    return time.monotonic() - last.written_s if last.written & RESETS and now.waits_are_seen else float("inf")


@rule("5.2.5.3.2", WARNING, "All queues are disabled before CTRL.GIO_DIS is set", writes=("CTRL",))
def queues_off_before_master_disable(now: Access) -> str | None:
    own = [ring for ring in now.rings if vf_of_queue(now.regs, ring.index) is None]
    return f"{own[0].control.name}.ENABLE is 1" if now.rises("GIO_DIS") and own else None


@rule(
    "4.2.1.6.1",
    WARNING,
    "Before the reset of a NIC with enabled queues, CTRL.GIO_DIS is set and STATUS.GIO_MASTER_EN read as 0",
    writes=("CTRL",),
)
def master_disable_before_reset(now: Access) -> str | None:
    if not now.value & RESETS or not any(
        f.RXDCTL(now.history.trails[name, queue].ever).ENABLE
        for name in QUEUE_CONTROL
        for queue in now.history.written.get(name, ())
    ):
        return None
    if not f.CTRL(now.before).GIO_DIS:
        return f"GIO_DIS is 0; {now.last_write(now.regs.CTRL)}"
    if now.history.of(now.regs.GCR_EXT).written_at > now.history.of(now.regs.CTRL).written_at:
        return None  # GIO_MASTER_EN stayed 1, and the driver discarded the requests (5.2.5.3.2)
    return now.not_read_since(now.regs.CTRL, now.regs.STATUS, GIO_MASTER_EN=0)


@rule("8.2.3.1.1", ERROR, "CTRL is not read for 1 ms after a reset", reads=("CTRL",))
def wait_before_reading_ctrl(now: Access) -> str | None:
    waited = since_reset_s(now)
    return f"the reset was {waited * 1e3:.2f} ms ago" if waited < CTRL_READABLE_S else None


@rule("4.6.3.2", ERROR, "No register is written for 10 ms after a reset", writes=("*",))
def wait_before_programming(now: Access) -> str | None:
    if now.vf is not None:
        return None  # a VF cannot know yet that the PF was reset
    waited = since_reset_s(now)
    return f"the reset was {waited * 1e3:.2f} ms ago" if waited < PROGRAMMABLE_S else None


# The reset itself masks interrupts, and Linux relies on it.
@rule(
    "4.6.3.1",
    WARNING,
    "After a reset, interrupts are masked again by EIMC before any is unmasked",
    writes=("EIMS", "EIMS_EX"),
)
def interrupts_masked_after_reset(now: Access) -> str | None:
    if not now.history.of(now.regs.CTRL).written & RESETS or now.wrote(now.regs.EIMC):
        return None
    return f"{now.last_write(now.regs.CTRL)} and EIMC had not been written since"


# Otherwise a late completion arrives for a request that was discarded.
@rule(
    "5.2.5.3.2",
    WARNING,
    "GCR_EXT.BUFFERS_CLEAR_FUNC is set only while HLREG0.LPBK is 1 and RXCTRL.RXEN is 0",
    writes=("GCR_EXT",),
)
def buffers_cleared_in_loopback(now: Access) -> str | None:
    if not now.rises("BUFFERS_CLEAR_FUNC") or (now.regs.HLREG0.read().LPBK and not now.regs.RXCTRL.read().RXEN):
        return None
    return f"HLREG0 is {now.regs.HLREG0.read()!r}, RXCTRL {now.regs.RXCTRL.read()!r}"
