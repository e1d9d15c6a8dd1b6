"""Reset and what goes before and after it (82599 4.2.1, 4.6.3, 5.2.5.3.2, 8.2.3.1)."""

from __future__ import annotations

import time

from ... import fields as f
from ..access import Access
from ..findings import ERROR, WARNING, rule

CTRL_READABLE_S = 1e-3
PROGRAMMABLE_S = 10e-3


def since_reset_s(now: Access) -> float:
    """How long ago the driver wrote CTRL.RST or LRST; infinite without that."""
    last = now.history.of(now.regs.CTRL)
    asked = f.CTRL(last.written)
    return time.monotonic() - last.written_s if now.waits_are_seen and (asked.RST or asked.LRST) else float("inf")


@rule("5.2.5.3.2", WARNING, "Queues are off before CTRL.GIO_DIS stops their DMA", writes=("CTRL",))
def queues_off_before_master_disable(now: Access) -> str | None:
    if not now.rises("GIO_DIS") or not now.rings:
        return None
    return f"{now.rings[0].control.name}.ENABLE is 1"


@rule("4.2.1.6.1", WARNING, "CTRL.GIO_DIS, and STATUS.GIO_MASTER_EN read as 0, go before a reset of a NIC whose queues ran", writes=("CTRL",))
def master_disable_before_reset(now: Access) -> str | None:
    asked = f.CTRL(now.value)
    if not (asked.RST or asked.LRST) or not any(f.RXDCTL(trail.ever).ENABLE for (name, _), trail in now.history.trails.items()
                                               if name in ("RXDCTL", "TXDCTL")):
        return None
    if not f.CTRL(now.before).GIO_DIS:
        return f"GIO_DIS is 0; {now.last_write(now.regs.CTRL)}"
    if now.history.of(now.regs.GCR_EXT).written_at > now.history.of(now.regs.CTRL).written_at:
        return None  # it did not fall, and what was outstanding was thrown away (5.2.5.3.2)
    disabled, status = now.history.of(now.regs.CTRL), now.history.of(now.regs.STATUS)
    if status.read_at > disabled.written_at and not f.STATUS(status.value).GIO_MASTER_EN:
        return None
    return f"{now.last_write(now.regs.CTRL)} and STATUS.GIO_MASTER_EN had not been read as 0 since"


@rule("8.2.3.1.1", ERROR, "CTRL is not read for 1 ms after a reset", reads=("CTRL",))
def wait_before_reading_ctrl(now: Access) -> str | None:
    waited = since_reset_s(now)
    return f"the reset was {waited * 1e3:.2f} ms ago" if waited < CTRL_READABLE_S else None


@rule("4.6.3.2", ERROR, "Nothing is programmed for 10 ms after a reset", writes=("*",))
def wait_before_programming(now: Access) -> str | None:
    waited = since_reset_s(now)
    return f"the reset was {waited * 1e3:.2f} ms ago" if waited < PROGRAMMABLE_S else None


@rule("4.6.3.1", ERROR, "Interrupts are masked again, by EIMC, after a reset and before any is unmasked", writes=("EIMS", "EIMS_EX"))
def interrupts_masked_after_reset(now: Access) -> str | None:
    last = now.history.of(now.regs.CTRL)
    if not (f.CTRL(last.written).RST or f.CTRL(last.written).LRST) or now.wrote(now.regs.EIMC):
        return None
    return f"{now.last_write(now.regs.CTRL)} and EIMC not since"
