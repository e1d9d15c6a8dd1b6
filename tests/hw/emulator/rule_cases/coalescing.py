"""Cases of hw/emulator/rules/coalescing.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand

from .steps import enable_receive_queue


def enable_with_rsc(nic: ByHand, **srrctl: int) -> None:
    nic.regs.RDRXCTL.update(CRCSTRIP=1)
    nic.regs.RSCCTL[0].write(RSCEN=1, MAXDESC=3)
    enable_receive_queue(nic, **srrctl)


def rsc_buffers(nic: ByHand, wrong: bool) -> None:
    nic.regs.RSCDBU.write(RSCACKDIS=1)
    enable_with_rsc(nic, BSIZEPACKET=5 if wrong else 4)  # 16 of them


def rsc_settings(nic: ByHand, wrong: bool) -> None:
    nic.regs.RSCDBU.write(RSCACKDIS=int(not wrong))
    enable_with_rsc(nic, BSIZEPACKET=2)
