"""The link (82599 3.7, 8.2.3.22): AUTOC starts it, LINKS shows it. The engine has the carrier and the training time."""

from __future__ import annotations

from ... import fields as f
from .block import Block


class Link(Block):
    def reset(self) -> None:
        self.engine.call("nic_link_train")

    def write_AUTOC(self, index: int, value: int) -> None:
        restart = f.AUTOC(value).RESTART_AN
        self.raw.AUTOC.write(value, RESTART_AN=0)
        if restart:
            self.engine.call("nic_link_train")

    def read_LINKS(self, index: int) -> int:
        self.engine.call("nic_link_update")
        return self.raw.LINKS.read()

    def read_STATUS(self, index: int) -> int:
        self.engine.call("nic_link_update")
        return self.raw.STATUS.read()
