"""MDIO (82599 3.7.2.2, 8.2.3.22.11): accesses end at once, and an SFP+ board has no PHY that would answer."""

from __future__ import annotations

from .. import fields as f
from .block import Block

NOBODY = 0xFFFF  # the data line is pulled up
OPCODE_READ_AND_NEXT = 2


class Mdio(Block):
    def write_MSCA(self, index: int, value: int) -> None:
        asked = f.MSCA(value & self.raw.MSCA.row.mask)
        if asked.MDICMD and asked.OPCODE >= OPCODE_READ_AND_NEXT:
            self.raw.MSRWD.update(MDIRDDATA=NOBODY)
        self.raw.MSCA.write(asked, MDICMD=0)

    def write_MSRWD(self, index: int, value: int) -> None:
        self.raw.MSRWD.update(MDIWRDATA=value & NOBODY)
