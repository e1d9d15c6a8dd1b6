"""Flow control (82599 4.6.3.2, 8.2.3.3)."""

from __future__ import annotations

from ... import fields as f
from ..access import Access
from ..findings import WARNING, rule

PAUSE = 1  # FCCFG.TFCE


@rule("4.6.3.2, 8.2.3.3.4", WARNING, "FCRTH[0].RTH is set before reception starts, with flow control or without", writes=("RXCTRL",))
def pause_threshold_set(now: Access) -> str | None:
    threshold = now.regs.FCRTH[0].read()
    return f"FCRTH[0] is {threshold!r}" if now.rises("RXEN") and not threshold.RTH else None


@rule("4.6.3.2", WARNING, "The NIC makes the CRC of the pause frames that it sends: HLREG0.TXCRCEN with FCCFG.TFCE", writes=("FCCFG",))
def crc_of_pause_frames(now: Access) -> str | None:
    return f"HLREG0 is {now.regs.HLREG0.read()!r}" if f.FCCFG(now.value).TFCE and not now.regs.HLREG0.read().TXCRCEN else None


@rule("8.2.3.3", WARNING, "A NIC that sends pause frames knows when (FCRTH.FCEN, FCRTL) and for how long (FCTTV)", writes=("RXCTRL",))
def pause_frames_complete(now: Access) -> str | None:
    if not now.rises("RXEN") or now.regs.FCCFG.read().TFCE != PAUSE:
        return None
    high, low = now.regs.FCRTH[0].read(), now.regs.FCRTL[0].read()
    if not high.FCEN or low.RTL >= high.RTH:
        return f"FCCFG is {now.regs.FCCFG.read()!r}, FCRTH[0] {high!r}, FCRTL[0] {low!r}"
    return None if now.regs.FCTTV[0].read() else f"FCCFG is {now.regs.FCCFG.read()!r} and FCTTV[0] is 0"
