"""Cases of hw/emulator/rules/memory.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand, frame

from .steps import bring_up


def dma_read(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.post(frame(), address=0x1000 if wrong else nic.tx[0].buffer(0))
    nic.kick()
    nic.nic.step()


def dma_write(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.rx[0].write(0, 0x1000 if wrong else nic.rx[0].buffer(0), 0)
    nic.send(frame())
