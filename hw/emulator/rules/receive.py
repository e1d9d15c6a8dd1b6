"""Receive initialisation, filters and DMA (82599 4.6.7, 4.6.11.3.4, 7.1, 8.2.3.7, 8.2.3.8)."""

from __future__ import annotations

from typing import Any

from ... import fields as f
from ...register import Accessor
from ..engine.findings import FindingKind
from .access import Access
from .findings import ERROR, WARNING, Found, Rule, rule
from .virtualization import plain

KB = 1024
BUFFER_KB = 512
SMALLEST_BUFFER_OF_FLOW_DIRECTOR_KB = 32  # FDIRCTRL.PBALLOC 1; each step doubles it
STANDARD_FRAME = 1518
DESCTYPES = (0, 1, 2, 5)
SPLIT = (2, 5)
LONGEST_BUFFER_KB = 16
LONGEST_HEADER = 16  # units of 64 bytes


@rule("8.2.3.7.1", WARNING, "FCTRL changes only while RXCTRL.RXEN is 0", writes=("FCTRL",))
def fctrl_while_reception_is_off(now: Access) -> str | None:
    return now.last_write(now.regs.RXCTRL) if now.value != now.before and now.regs.RXCTRL.read().RXEN else None


@rule("8.2.3.7.5", WARNING, "RXCSUM changes only while RXCTRL.RXEN is 0", writes=("RXCSUM",))
def rxcsum_while_reception_is_off(now: Access) -> str | None:
    return now.last_write(now.regs.RXCTRL) if now.value != now.before and now.regs.RXCTRL.read().RXEN else None


@rule(
    "4.6.7 step 11",
    WARNING,
    "RXCTRL.RXEN is set only after SECRXCTRL.RX_DIS was set and SECRXSTAT.SECRX_RDY read as 1",
    writes=("RXCTRL",),
)
def rxen_with_the_path_stopped(now: Access) -> str | None:
    if not now.rises("RXEN"):
        return None
    if not now.regs.SECRXCTRL.read().RX_DIS:
        return f"SECRXCTRL.RX_DIS is 0; {now.last_write(now.regs.SECRXCTRL)}"
    return now.not_read_since(now.regs.SECRXCTRL, now.regs.SECRXSTAT, SECRX_RDY=1)


# A warning: iPXE leaves CRCSTRIP 0 and RXCRCSTRP 1, and receives.
@rule(
    "8.2.3.8.8",
    WARNING,
    "HLREG0.RXCRCSTRP and RDRXCTL.CRCSTRIP are equal when reception starts",
    writes=("RXCTRL",),
)
def crc_strip_agrees(now: Access) -> str | None:
    mac, dma = now.regs.HLREG0.read().RXCRCSTRP, now.regs.RDRXCTL.read().CRCSTRIP
    return f"RXCRCSTRP is {mac}, CRCSTRIP is {dma}" if now.rises("RXEN") and mac != dma else None


# A warning: the datasheet has no exception, but DPDK sets RSCACKC and FCOE_WRFIX only with RSC, and receives.
@rule(
    "8.2.3.8.8",
    WARNING,
    "RDRXCTL has RSCFRSTSIZE 0, RSCACKC 1 and FCOE_WRFIX 1 when reception starts",
    writes=("RXCTRL",),
)
def rdrxctl_settings(now: Access) -> str | None:
    is_now = now.regs.RDRXCTL.read()
    right = not is_now.RSCFRSTSIZE and is_now.RSCACKC and is_now.FCOE_WRFIX
    return f"RDRXCTL is {is_now!r}" if now.rises("RXEN") and not right else None


@rule(
    "8.2.3.8.7",
    ERROR,
    "SRRCTL has BSIZEPACKET 1 to 16 KB, a valid DESCTYPE, and with header split BSIZEHEADER 64 to 1024 bytes",
    writes=("RXDCTL",),
    found=(
        Found(
            FindingKind.RX_BUFFER_SIZE,
            "SRRCTL[{queue}]",
            "SRRCTL[{queue}] is {first:#010x}: BSIZEPACKET must be 1 to 16 KB",
        ),
    ),
)
def srrctl_values(now: Access) -> str | None:
    asked = now.regs.SRRCTL[now.index].read()
    # ASSUMPTION (datasheet not at hand): BSIZEHEADER is limited only with header split, because DPDK leaves it 0.
    headers = asked.DESCTYPE not in SPLIT or 1 <= asked.BSIZEHEADER <= LONGEST_HEADER
    if not now.rises("ENABLE") or (asked.BSIZEPACKET <= LONGEST_BUFFER_KB and asked.DESCTYPE in DESCTYPES and headers):
        return None
    return f"SRRCTL[{now.index}] is {asked!r}"


# A warning: iPXE writes SRRCTL after it has enabled the queue, and receives.
@rule(
    "4.6.7, 8.2.3.8.7",
    WARNING,
    "SRRCTL.BSIZEPACKET, BSIZEHEADER and DESCTYPE do not change while their queue is enabled",
    writes=("SRRCTL",),
)
def buffers_stay(now: Access) -> str | None:
    buffers = f.SRRCTL.BSIZEPACKET.mask | f.SRRCTL.BSIZEHEADER.mask | f.SRRCTL.DESCTYPE.mask
    control = now.regs.RXDCTL[now.index]
    changes = (now.value ^ now.before) & buffers and control.read().ENABLE
    return f"the previous value was {now.before:#010x}; {now.last_write(control)}" if changes else None


@rule("7.1.10", WARNING, "Header split is not used", writes=("RXDCTL",))
def no_header_split(now: Access) -> str | None:
    asked = now.regs.SRRCTL[now.index].read()
    return f"SRRCTL[{now.index}] is {asked!r}" if now.rises("ENABLE") and asked.DESCTYPE in SPLIT else None


DESCRIPTOR_TYPE_HERE = Rule(
    "descriptor_type_here",
    "8.2.3.8.7",
    ERROR,
    "SRRCTL.DESCTYPE is one that this emulator supports: 0 (legacy) or 1 (advanced, one buffer)",
    found=(Found(FindingKind.RX_DESCRIPTOR_TYPE, "SRRCTL[{queue}]", "SRRCTL[{queue}].DESCTYPE is {first}"),),
)


@rule("8.2.3.22.13", ERROR, "HLREG0.JUMBOEN is set when MAXFRS is above 1518", writes=("RXCTRL",))
def jumbo_frames_enabled(now: Access) -> str | None:
    longest = now.regs.MAXFRS.read().MFS
    if now.rises("RXEN") and longest > STANDARD_FRAME and not now.regs.HLREG0.read().JUMBOEN:
        return f"MAXFRS.MFS is {longest}, JUMBOEN is 0"
    return None


@rule("4.6.7, 8.2.3.7, 8.2.3.27", WARNING, "Filter tables are initialised before reception starts", writes=("RXCTRL",))
def filter_tables_initialized(now: Access) -> str | None:
    if not now.rises("RXEN"):
        return None
    regs = now.regs
    entries: list[Accessor[Any]] = []
    for table in (regs.PFUTA, regs.VFTA, regs.PFVLVF, regs.PFVLVFB, regs.MTA, regs.MPSAR, regs.FTQF):
        entries += list(table)
    return now.not_written(entries)


@rule(
    "4.6.11.3.4, 8.2.3.8.9",
    WARNING,
    "Receive packet buffer 0 has all of the 512 KB that flow director does not use; buffers of DCB or VT share them",
    writes=("RXCTRL",),
)
def receive_packet_buffer(now: Access) -> str | None:
    if not now.rises("RXEN"):
        return None
    taken = now.regs.FDIRCTRL.read().PBALLOC
    left = BUFFER_KB - (SMALLEST_BUFFER_OF_FLOW_DIRECTOR_KB << taken if taken else 0)
    sizes = [buffer.read().SIZE for buffer in now.regs.RXPBSIZE]
    right = sizes == [left] + [0] * 7 if plain(now.regs) else sum(sizes) <= left
    return None if right else f"RXPBSIZE is {sizes} KB, {left} KB are available"


@rule(
    "8.2.3.8.9, 8.2.3.21.1",
    WARNING,
    "RXPBSIZE and FDIRCTRL.PBALLOC change only while RXCTRL.RXEN is 0",
    writes=("RXPBSIZE", "FDIRCTRL"),
)
def receive_packet_buffer_divided_first(now: Access) -> str | None:
    divides = f.FDIRCTRL.PBALLOC.mask if now.name == "FDIRCTRL" else f.RXPBSIZE.SIZE.mask
    if (now.value ^ now.before) & divides and now.regs.RXCTRL.read().RXEN:
        return now.last_write(now.regs.RXCTRL)
    return None


# Linux and DPDK set FLU with LPBK. Without FLU a port in loopback waits for a cable.
@rule(
    "8.2.3.22.8, 8.2.3.22.19",
    WARNING,
    "AUTOC.FLU forces the link up when HLREG0.LPBK selects MAC loopback",
    writes=("RXCTRL",),
)
def loopback_with_link(now: Access) -> str | None:
    if now.rises("RXEN") and now.regs.HLREG0.read().LPBK and not now.regs.AUTOC.read().FLU:
        return f"AUTOC is {now.regs.AUTOC.read()!r}"
    return None


def running(now: Access) -> bool:
    """The queue receives already, so the last steps of 4.6.7 should have been done before this access."""
    used = now.falls("ENABLE") if now.name == "RXDCTL" else now.ring.enabled
    return used and bool(now.regs.RXCTRL.read().RXEN)


@rule("4.6.7", WARNING, "CTRL_EXT.NS_DIS is 1 while queues receive", writes=("RDT", "RXDCTL"))
def no_snoop_disabled(now: Access) -> str | None:
    return f"CTRL_EXT is {now.regs.CTRL_EXT.read()!r}" if running(now) and not now.regs.CTRL_EXT.read().NS_DIS else None


@rule("4.6.7, 8.2.3.11.1", WARNING, "DCA_RXCTRL bit 12 is 0 while the queue receives", writes=("RDT", "RXDCTL"))
def dca_rxctrl_bit_12(now: Access) -> str | None:
    control = now.regs.DCA_RXCTRL[now.index]
    return f"{control.name} is {control.read()!r}" if running(now) and control.read().MUST_BE_ZERO else None
