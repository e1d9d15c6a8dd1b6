"""MDIO (82599 3.7.2.2, 8.2.3.22.11): an access takes time, and an SFP+ board has no PHY that answers.

Linux looks for a PHY. Our driver does not: it reads the module over its two-wire bus (i2c.py).
"""

from __future__ import annotations

from ... import fields as f
from .block import Block

NO_ANSWER = 0xFFFF  # the data line is pulled up
OPCODE_READ = 2  # this and above are reads: two kinds in clause 45, one in clause 22
BITS = 64  # an access, preamble included (802.3 22.2.4.5, 45.3)
FAST_MHZ, SLOW_MHZ = 24, 2.4  # MDC at 10 Gbit/s (8.2.3.22.8)


class Mdio(Block):
    _done_ns = 0

    def write_MSCA(self, index: int, value: int) -> None:
        """Start an access.

        ASSUMPTION (datasheet not at hand): a write during an access is ignored; every known driver waits for its end.
        """
        if self._settled().MDICMD:
            return
        asked = f.MSCA(value & self.raw.MSCA.row.mask)
        self.raw.MSCA.write(asked)
        mhz = FAST_MHZ if self.raw.HLREG0.read().MDCSPD else SLOW_MHZ
        self._done_ns = self.engine.call("nic_now") + round(BITS / mhz * 1000)

    def read_MSCA(self, index: int) -> int:
        return self._settled()

    def read_MSRWD(self, index: int) -> int:
        self._settled()
        return self.raw.MSRWD.read()

    def write_MSRWD(self, index: int, value: int) -> None:
        self.raw.MSRWD.update(MDIWRDATA=value & NO_ANSWER)

    def _settled(self) -> f.MSCA:
        """End the access if its time is over, and return MSCA."""
        asked = self.raw.MSCA.read()
        if asked.MDICMD and self.engine.call("nic_now") >= self._done_ns:
            self.raw.MSCA.update(MDICMD=0)
            if asked.OPCODE >= OPCODE_READ:
                self.raw.MSRWD.update(MDIRDDATA=NO_ANSWER)
        return self.raw.MSCA.read()
