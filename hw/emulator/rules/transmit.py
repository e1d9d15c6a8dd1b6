"""Transmit initialisation and queues (82599 4.6.8, 4.6.11.3.4, 7.2.3.5, 8.2.3.9)."""

from __future__ import annotations

from ... import fields as f
from .access import Access, unwritten
from .findings import ERROR, WARNING, rule

KB = 1024
BUFFER_KB = 160
ON_CHIP = 40  # descriptors of one queue (8.2.3.9.10)
ALL_REQUESTS = 0xFFF
QUEUES_OF_AN_IVAR = 2
QUEUES_WITHOUT_DCB = 64
CLASSES = {2: 4, 3: 8}  # NUM_TC_OR_Q with DCB
MODES = {(0, 0): (0,), (1, 0): (2, 3), (0, 1): (1, 2), (1, 1): (2, 3)}  # (RT_ENA, VT_ENA): NUM_TC_OR_Q


@rule("8.2.3.9.15", ERROR, "MTQC is written only while RTTDCS.ARBDIS is 1 and DMATXCTL.TE is 0", writes=("MTQC",))
def mtqc_while_stopped(now: Access) -> str | None:
    if not now.regs.RTTDCS.read().ARBDIS:
        return f"RTTDCS is {now.regs.RTTDCS.read()!r}"
    return now.last_write(now.regs.DMATXCTL) if now.regs.DMATXCTL.read().TE else None


@rule(
    "7.2.1.2.1, 8.2.3.9.15",
    ERROR,
    "MTQC.NUM_TC_OR_Q is 0 without RT_ENA and VT_ENA, 1 or 2 with VT_ENA alone, 2 or 3 with RT_ENA",
    writes=("MTQC",),
)
def mtqc_values(now: Access) -> str | None:
    asked = f.MTQC(now.value)
    return f"the value is {asked!r}" if asked.NUM_TC_OR_Q not in MODES[asked.RT_ENA, asked.VT_ENA] else None


@rule(
    "7.2.1.2.1",
    ERROR,
    "Transmit queues 64 to 127 are enabled only when MTQC enables DCB or virtualisation",
    writes=("TXDCTL",),
)
def transmit_queue_exists(now: Access) -> str | None:
    mode = now.regs.MTQC.read()
    unused = now.rises("ENABLE") and now.index >= QUEUES_WITHOUT_DCB and not mode.RT_ENA and not mode.VT_ENA
    return f"MTQC is {mode!r}" if unused else None


# A warning: iPXE sets TE last, and it sends.
@rule("4.6.8, 8.2.3.9.2", WARNING, "DMATXCTL.TE is set before a transmit queue is enabled", writes=("TXDCTL",))
def te_before_queues(now: Access) -> str | None:
    if now.rises("ENABLE") and not now.regs.DMATXCTL.read().TE:
        return f"{now.last_write(now.regs.DMATXCTL)}; the queue sends nothing before TE is 1"
    return None


@rule(
    "4.6.11.3.4, 8.2.3.9.1", WARNING, "Without DCB, DTXMXSZRQ is 0xFFF when transmission starts", writes=("DMATXCTL",)
)
def dtxmxszrq_at_most(now: Access) -> str | None:
    limit = now.regs.DTXMXSZRQ.read()
    low = limit.MAX_BYTES_NUM_REQ != ALL_REQUESTS and not now.regs.MTQC.read().RT_ENA
    return f"DTXMXSZRQ is {limit!r}" if now.rises("TE") and low else None


@rule(
    "4.6.11.3.4, 8.2.3.10.14",
    WARNING,
    "Without DCB, RTTDT1C is cleared for every queue (selected by RTTDQSEL) before transmission starts",
    writes=("DMATXCTL",),
)
def rate_limits_cleared(now: Access) -> str | None:
    if not now.rises("TE") or now.regs.MTQC.read().RT_ENA:
        return None
    missing = set(range(len(now.regs.TXDCTL))) - now.history.written.get("RTTDT1C", set())
    return unwritten([f"RTTDT1C of queue {queue}" for queue in sorted(missing)])


@rule(
    "8.2.3.10.13, 8.2.3.10.16",
    WARNING,
    "RTTDQSEL chooses the queue before RTTBCNRC gives it a rate",
    writes=("RTTBCNRC",),
)
def rate_of_a_chosen_queue(now: Access) -> str | None:
    return now.not_written([now.regs.RTTDQSEL])


@rule(
    "8.2.3.10.16",
    WARNING,
    "With RTTBCNRC.RS_ENA, the factor RF_INT.RF_DEC is at least 1: no rate exceeds that of the link",
    writes=("RTTBCNRC",),
)
def rate_within_the_link(now: Access) -> str | None:
    asked = f.RTTBCNRC(now.value)
    return f"the value is {asked!r}" if asked.RS_ENA and not asked.RF_INT else None


@rule(
    "8.2.3.10.16",
    WARNING,
    "RTTBCNRM.MMW_SIZE is not 0 when a queue gets a rate: without it the queue makes up for no delay",
    writes=("RTTBCNRC",),
)
def rate_makes_up_for_delays(now: Access) -> str | None:
    return now.last_write(now.regs.RTTBCNRM) if now.rises("RS_ENA") and not now.regs.RTTBCNRM.read().MMW_SIZE else None


@rule(
    "4.6.11.3, 8.2.3.9.13",
    WARNING,
    "Transmit packet buffer 0 has all 160 KB, with DCB each class an equal part; TXPBTHRESH leaves room for a frame",
    writes=("DMATXCTL",),
)
def transmit_packet_buffer(now: Access) -> str | None:
    if not now.rises("TE"):
        return None
    frame_kb = -(-now.regs.MAXFRS.read().MFS // KB)
    sizes = [buffer.read().SIZE for buffer in now.regs.TXPBSIZE]
    thresholds = [threshold.read().THRESH for threshold in now.regs.TXPBTHRESH]
    mode = now.regs.MTQC.read()
    classes = CLASSES.get(mode.NUM_TC_OR_Q, 1) if mode.RT_ENA else 1
    size = BUFFER_KB // classes
    room = all(0 < threshold <= size - frame_kb for threshold in thresholds[:classes])
    if sizes == [size] * classes + [0] * (8 - classes) and room and not any(thresholds[classes:]):
        return None
    return f"TXPBSIZE is {sizes} KB, TXPBTHRESH {thresholds} KB, a frame {frame_kb} KB"


@rule("8.2.3.9.13", WARNING, "TXPBSIZE changes only while DMATXCTL.TE is 0", writes=("TXPBSIZE",))
def transmit_packet_buffer_divided_first(now: Access) -> str | None:
    return now.last_write(now.regs.DMATXCTL) if now.value != now.before and now.regs.DMATXCTL.read().TE else None


@rule(
    "4.6.8, 8.2.3.9.3, 8.2.3.9.4",
    WARNING,
    "The TCP flag masks of segmentation, DTXTCPFLGL and DTXTCPFLGH, change only while DMATXCTL.TE is 0",
    writes=("DTXTCPFLGL", "DTXTCPFLGH"),
)
def tcp_flags_while_stopped(now: Access) -> str | None:
    return now.last_write(now.regs.DMATXCTL) if now.value != now.before and now.regs.DMATXCTL.read().TE else None


@rule(
    "8.2.3.10.2",
    WARNING,
    "The descriptor arbiter runs when a transmit queue is enabled: RTTDCS.ARBDIS is 0",
    writes=("TXDCTL",),
)
def arbiter_runs(now: Access) -> str | None:
    return now.last_write(now.regs.RTTDCS) if now.rises("ENABLE") and now.regs.RTTDCS.read().ARBDIS else None


@rule("8.2.3.9.10", WARNING, "TXDCTL.HTHRESH is not 0 when PTHRESH is not 0", writes=("TXDCTL",))
def hthresh_with_pthresh(now: Access) -> str | None:
    asked = f.TXDCTL(now.value)
    return f"PTHRESH is {asked.PTHRESH}, HTHRESH is 0" if asked.PTHRESH and not asked.HTHRESH else None


@rule(
    "8.2.3.9.10",
    WARNING,
    "TXDCTL.PTHRESH plus WTHRESH is at most 40: the chip holds 40 descriptors of a queue",
    writes=("TXDCTL",),
)
def thresholds_fit_on_chip(now: Access) -> str | None:
    asked = f.TXDCTL(now.value)
    return f"PTHRESH {asked.PTHRESH} + WTHRESH {asked.WTHRESH}" if asked.PTHRESH + asked.WTHRESH > ON_CHIP else None


@rule(
    "7.2.3.5.2, 8.2.3.9.11",
    ERROR,
    "The head write-back address is a multiple of 16: real cards write to no other address",
    writes=("TDWBAL",),
)
def head_writeback_alignment(now: Access) -> str | None:
    return f"its low 4 bits are {now.value & 0xF:#x}" if f.TDWBAL(now.value).HEAD_WB_EN and now.value & 0xE else None


@rule("7.2.3.5.2", ERROR, "With head write-back, DCA_TXCTRL.TXDESCWBRO is 0: no relaxed ordering", writes=("TXDCTL",))
def head_writeback_ordering(now: Access) -> str | None:
    relaxed = now.regs.DCA_TXCTRL[now.index].read().TXDESCWBRO and now.regs.TDWBAL[now.index].read().HEAD_WB_EN
    if now.rises("ENABLE") and relaxed:
        return f"DCA_TXCTRL[{now.index}] is {now.regs.DCA_TXCTRL[now.index].read()!r}"
    return None


@rule(
    "8.2.3.9.10",
    WARNING,
    "With WTHRESH above 1, the queue's vector has an interval in EITR; otherwise transmission may hang",
    writes=("TDT",),
)
def interval_with_wthresh(now: Access) -> str | None:
    control = now.regs.TXDCTL[now.index].read()
    if not control.ENABLE or control.WTHRESH <= 1:
        return None
    ivar = now.regs.IVAR[now.index // QUEUES_OF_AN_IVAR].read() >> (16 * (now.index % QUEUES_OF_AN_IVAR) + 8) & 0xFF
    if not ivar & 0x80 or now.regs.EITR[ivar & 0x3F].read().ITR_INTERVAL:
        return None
    return f"WTHRESH is {control.WTHRESH} and EITR[{ivar & 0x3F}] has interval 0"
