"""Command registers of the security association tables (82599 7.12).

The tables are not modelled: a command completes at once, and no frame ever matches.
"""

from __future__ import annotations

from .block import Block


class Tables(Block):
    def write_IPSTXIDX(self, index: int, value: int) -> None:
        self.raw.IPSTXIDX.write(value, READ=0, WRITE=0)

    def write_IPSRXIDX(self, index: int, value: int) -> None:
        self.raw.IPSRXIDX.write(value, READ=0, WRITE=0)
