"""Direct cache access and write ordering, not emulated (82599 8.2.3.11)."""

from __future__ import annotations

from ... import fields as f
from .access import Access
from .findings import ERROR, WARNING, rule


@rule(
    "8.2.3.11.1, 8.2.3.11.4",
    WARNING,
    "A queue enables DCA only while DCA_CTRL.DCA_DIS is 0",
    writes=("DCA_RXCTRL", "DCA_TXCTRL"),
)
def dca_enabled_in_dca_ctrl(now: Access) -> str | None:
    receive, transmit = f.DCA_RXCTRL(now.value), f.DCA_TXCTRL(now.value)
    asks = (
        receive.RXDCA_DESC or receive.RXDCA_HDR or receive.RXDCA_PAYL
        if now.name == "DCA_RXCTRL"
        else transmit.TXDCA_DESC
    )
    return now.last_write(now.regs.DCA_CTRL) if asks and now.regs.DCA_CTRL.read().DCA_DIS else None


@rule(
    "8.2.3.11.1",
    ERROR,
    "DCA_RXCTRL.RXDESCWBRO is 0: receive descriptors are not written back with relaxed ordering",
    writes=("RXDCTL",),
)
def receive_writeback_ordering(now: Access) -> str | None:
    control = now.regs.DCA_RXCTRL[now.index]
    return f"{control.name} is {control.read()!r}" if now.rises("ENABLE") and control.read().RXDESCWBRO else None
