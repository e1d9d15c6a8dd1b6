"""Receive side coalescing, which this NIC does not do, but a driver may ask for (82599 7.11, 8.2.3.8.12, 8.2.3.8.13).

The limits are those of Linux and DPDK, which cite the datasheet for them.
"""

from __future__ import annotations

from ixrings.hw import fields as f

from .access import Access
from .findings import WARNING, rule

ADVANCED_ONE_BUFFER = 1
SMALLEST_BUFFER_KB = 2
LARGEST_PACKET_KB = 64
DESCRIPTORS = (1, 4, 8, 16)  # RSCCTL.MAXDESC


def _coalesces(now: Access) -> bool:
    """The write leaves a queue that is on and has RSC."""
    asked = f.RSCCTL(now.value) if now.name == "RSCCTL" else now.regs.RSCCTL[now.index].read()
    control = f.RXDCTL(now.value) if now.name == "RXDCTL" else now.regs.RXDCTL[now.index].read()
    return bool(asked.RSCEN and control.ENABLE)


@rule(
    "7.11, 8.2.3.8.13",
    WARNING,
    "RSC has advanced descriptors, buffers of 2 KB or more, and together, as many as MAXDESC says, at most 64 KB",
    writes=("RXDCTL", "RSCCTL"),
)
def rsc_buffers(now: Access) -> str | None:
    buffers = now.regs.SRRCTL[now.index].read()
    most = DESCRIPTORS[(f.RSCCTL(now.value) if now.name == "RSCCTL" else now.regs.RSCCTL[now.index].read()).MAXDESC]
    right = (
        buffers.DESCTYPE == ADVANCED_ONE_BUFFER
        and buffers.BSIZEPACKET >= SMALLEST_BUFFER_KB
        and most * buffers.BSIZEPACKET <= LARGEST_PACKET_KB
    )
    return (
        f"SRRCTL[{now.index}] is {buffers!r}, MAXDESC allows {most} descriptors"
        if _coalesces(now) and not right
        else None
    )


@rule(
    "7.11, 8.2.3.8.8, 8.2.3.8.12",
    WARNING,
    "RSC goes with CRCs stripped, RSCDBU.RSCACKDIS at 1, and RFCTL.RSC_DIS at 0",
    writes=("RXDCTL", "RSCCTL"),
)
def rsc_settings(now: Access) -> str | None:
    regs = now.regs
    right = regs.RDRXCTL.read().CRCSTRIP and regs.RSCDBU.read().RSCACKDIS and not regs.RFCTL.read().RSC_DIS
    return (
        f"RDRXCTL is {regs.RDRXCTL.read()!r}, RSCDBU {regs.RSCDBU.read()!r}, RFCTL {regs.RFCTL.read()!r}"
        if _coalesces(now) and not right
        else None
    )
