"""MDIO (82599 3.7.2.2, 8.2.3.22.11): an access takes its time, and an SFP+ board has no PHY that would answer.

Linux looks for one; our own driver does not, as the module speaks on two wires of its own (i2c.py).
"""

from __future__ import annotations

from ixrings.hw import fields as f

from .block import Block

NOBODY = 0xFFFF  # the data line is pulled up
OPCODE_READ = 2  # and above: of clause 45 two kinds, of clause 22 one
BITS = 64  # of an access, preamble included (802.3 22.2.4.5, 45.3)
FAST_MHZ, SLOW_MHZ = 24, 2.4  # MDC at 10 Gbit/s (8.2.3.22.8)


class Mdio(Block):
    _done_ns = 0

    def write_MSCA(self, index: int, value: int) -> None:
        """ASSUMPTION: while an access is under way the register takes no other."""
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
        self.raw.MSRWD.update(MDIWRDATA=value & NOBODY)

    def _settled(self) -> f.MSCA:
        """MSCA, after an access that has come to its end by now did."""
        asked = self.raw.MSCA.read()
        if asked.MDICMD and self.engine.call("nic_now") >= self._done_ns:
            self.raw.MSCA.update(MDICMD=0)
            if asked.OPCODE >= OPCODE_READ:
                self.raw.MSRWD.update(MDIRDDATA=NOBODY)
        return self.raw.MSCA.read()
