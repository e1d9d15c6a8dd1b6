"""Receive side coalescing, not emulated, but checked when a driver enables it (82599 7.11, 8.2.3.8.12, 8.2.3.8.13).

The limits are from Linux and DPDK, which cite the datasheet for them.
"""

from __future__ import annotations

from ... import fields as f
from .access import Access
from .findings import WARNING, rule

ADVANCED_ONE_BUFFER = 1
SMALLEST_BUFFER_KB = 2
LARGEST_PACKET_KB = 64
DESCRIPTORS = (1, 4, 8, 16)  # RSCCTL.MAXDESC


def coalesces(now: Access) -> bool:
    """After the write the queue is enabled and has RSC."""
    asked = f.RSCCTL(now.value) if now.name == "RSCCTL" else now.regs.RSCCTL[now.index].read()
    control = f.RXDCTL(now.value) if now.name == "RXDCTL" else now.regs.RXDCTL[now.index].read()
    return bool(asked.RSCEN and control.ENABLE)


@rule(
    "7.11, 8.2.3.8.13",
    WARNING,
    "RSC needs advanced descriptors and buffers of at least 2 KB; MAXDESC buffers have at most 64 KB together",
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
    if coalesces(now) and not right:
        return f"SRRCTL[{now.index}] is {buffers!r}, MAXDESC allows {most} descriptors"
    return None


@rule(
    "7.11, 8.2.3.8.8, 8.2.3.8.12",
    WARNING,
    "RSC needs RDRXCTL.CRCSTRIP 1, RSCDBU.RSCACKDIS 1 and RFCTL.RSC_DIS 0",
    writes=("RXDCTL", "RSCCTL"),
)
def rsc_settings(now: Access) -> str | None:
    regs = now.regs
    right = regs.RDRXCTL.read().CRCSTRIP and regs.RSCDBU.read().RSCACKDIS and not regs.RFCTL.read().RSC_DIS
    if coalesces(now) and not right:
        return f"RDRXCTL is {regs.RDRXCTL.read()!r}, RSCDBU {regs.RSCDBU.read()!r}, RFCTL {regs.RFCTL.read()!r}"
    return None
