"""Registers through which a table behind them is commanded: security associations (82599 7.12), flow director (7.1.2.7).

The tables themselves are not modelled: a command is done as soon as it is given, and nothing ever matches.
"""

from __future__ import annotations

from .block import Block


class Tables(Block):
    def write_IPSTXIDX(self, index: int, value: int) -> None:
        self.raw.IPSTXIDX.write(value, READ=0, WRITE=0)

    def write_IPSRXIDX(self, index: int, value: int) -> None:
        self.raw.IPSRXIDX.write(value, READ=0, WRITE=0)

    def write_FDIRCTRL(self, index: int, value: int) -> None:
        # ASSUMPTION: initialisation is asked for by any write, and done at once; drivers poll INIT_DONE.
        self.raw.FDIRCTRL.write(value, INIT_DONE=1)

    def write_FDIRCMD(self, index: int, value: int) -> None:
        self.raw.FDIRCMD.write(value, CMD=0)
