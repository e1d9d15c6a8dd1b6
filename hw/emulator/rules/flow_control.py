"""Flow control (82599 4.6.3.2, 8.2.3.3)."""

from __future__ import annotations

from ... import fields as f
from .access import Access
from .findings import ERROR, WARNING, rule

PAUSE, BY_PRIORITY, RESERVED = 1, 2, 3  # FCCFG.TFCE
# ASSUMPTION (datasheet contradicts itself): thresholds count 32 bytes, as bits 18:5 imply; the text says 16.
THRESHOLD_UNIT = 32
KB = 1024


@rule(
    "4.6.3.2, 8.2.3.3.4",
    WARNING,
    "FCRTH[0].RTH is set before reception starts, with or without flow control",
    writes=("RXCTRL",),
)
def pause_threshold_set(now: Access) -> str | None:
    threshold = now.regs.FCRTH[0].read()
    return f"FCRTH[0] is {threshold!r}" if now.rises("RXEN") and not threshold.RTH else None


@rule(
    "4.6.3.2",
    WARNING,
    "HLREG0.TXCRCEN is 1 when FCCFG.TFCE enables pause frames: the NIC adds their CRC",
    writes=("FCCFG",),
)
def crc_of_pause_frames(now: Access) -> str | None:
    if f.FCCFG(now.value).TFCE and not now.regs.HLREG0.read().TXCRCEN:
        return f"HLREG0 is {now.regs.HLREG0.read()!r}"
    return None


@rule(
    "8.2.3.3",
    WARNING,
    "When FCCFG.TFCE enables pause frames, FCRTH.FCEN and FCRTL say when to send them, and FCTTV is not 0",
    writes=("RXCTRL",),
)
def pause_frames_complete(now: Access) -> str | None:
    if not now.rises("RXEN") or now.regs.FCCFG.read().TFCE != PAUSE:
        return None
    high, low = now.regs.FCRTH[0].read(), now.regs.FCRTL[0].read()
    if not high.FCEN or low.RTL >= high.RTH:
        return f"FCCFG is {now.regs.FCCFG.read()!r}, FCRTH[0] {high!r}, FCRTL[0] {low!r}"
    return None if now.regs.FCTTV[0].read() else f"FCCFG is {now.regs.FCCFG.read()!r} and FCTTV[0] is 0"


@rule(
    "8.2.3.3.3, 8.2.3.3.4",
    ERROR,
    "FCRTL is below FCRTH: a pause ends at a lower fill level than it begins",
    writes=("FCRTH",),
)
def pause_thresholds_ordered(now: Access) -> str | None:
    high, low = f.FCRTH(now.value), now.regs.FCRTL[now.index].read()
    return f"FCRTL[{now.index}] is {low!r}" if high.FCEN and low.RTL >= high.RTH else None


@rule(
    "4.6.3.2, 8.2.3.3.4",
    WARNING,
    "FCRTH[n].RTH, in units of 32 bytes, is less than the size of packet buffer n",
    writes=("RXCTRL",),
)
def pause_threshold_within_buffer(now: Access) -> str | None:
    if not now.rises("RXEN"):
        return None
    for high, buffer in zip(now.regs.FCRTH, now.regs.RXPBSIZE):
        size_kb = buffer.read().SIZE
        if size_kb and high.read().RTH * THRESHOLD_UNIT >= size_kb * KB:
            return f"{high.name} is {high.read()!r}, {buffer.name} {size_kb} KB"
    return None


@rule(
    "8.2.3.3.2, 8.2.3.3.5",
    WARNING,
    "A pause is renewed before it ends: FCRTV is less than FCTTV",
    writes=("FCTTV", "FCRTV"),
)
def pause_renewed_in_time(now: Access) -> str | None:
    if now.name == "FCTTV" and now.index:
        return None  # FCTTV of other traffic classes
    time = f.FCTTV(now.value) if now.name == "FCTTV" else now.regs.FCTTV[0].read()
    again = f.FCRTV(now.value) if now.name == "FCRTV" else now.regs.FCRTV.read()
    return f"FCTTV[0] is {time!r}, FCRTV {again!r}" if time.TTV_0 and again.FC_REFRESH_TH >= time.TTV_0 else None


@rule(
    "8.2.3.3.7, 8.2.3.22.34",
    ERROR,
    "FCCFG.TFCE, MFLCN.RFCE and RPFCM enable pause frames (802.3x) or priority flow control, not both",
    writes=("FCCFG", "MFLCN"),
)
def one_kind_of_pause_frames(now: Access) -> str | None:
    sent = f.FCCFG(now.value) if now.name == "FCCFG" else now.regs.FCCFG.read()
    obeyed = f.MFLCN(now.value) if now.name == "MFLCN" else now.regs.MFLCN.read()
    both = sent.TFCE == RESERVED or ((sent.TFCE == PAUSE or obeyed.RFCE) and (sent.TFCE == BY_PRIORITY or obeyed.RPFCM))
    return f"FCCFG is {sent!r}, MFLCN {obeyed!r}" if both else None
