"""Receive filters, flow director and RSS (82599 7.1.1, 7.1.2, 8.2.3.7, 8.2.3.21).

The engine keeps these tables in a faster form; a write tells it to update them.
"""

from __future__ import annotations

from .block import Block


class Filters(Block):
    def reset(self) -> None:
        self.engine.call("nic_rss_key_changed")
        self.engine.call("nic_filters_changed")

    def write_RAL(self, index: int, value: int) -> None:
        self.raw.RAL[index].write(value)
        self.engine.call("nic_addresses_changed")

    def write_RAH(self, index: int, value: int) -> None:
        self.raw.RAH[index].write(value & self.raw.RAH.row.mask)
        self.engine.call("nic_addresses_changed")

    def write_ETQF(self, index: int, value: int) -> None:
        self.raw.ETQF[index].write(value & self.raw.ETQF.row.mask)
        self.engine.call("nic_filters_changed")

    def write_FTQF(self, index: int, value: int) -> None:
        self.raw.FTQF[index].write(value)
        self.engine.call("nic_filters_changed")

    def write_FDIRCTRL(self, index: int, value: int) -> None:
        self.raw.FDIRCTRL.write(value)
        self.engine.call("nic_director_init")

    def write_FDIRCMD(self, index: int, value: int) -> None:
        self.raw.FDIRCMD.write(value)
        self.engine.call("nic_director_command")

    def write_RSSRK(self, index: int, value: int) -> None:
        self.raw.RSSRK[index].write(value)
        self.engine.call("nic_rss_key_changed")
