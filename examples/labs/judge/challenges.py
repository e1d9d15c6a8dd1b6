"""The challenges that check.py NN --challenge judges: each is a lab with other questions about its run."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from . import lab01, lab02, lab03, lab04, lab05, lab06, lab08, lab09, shared
from .evidence import Evidence, Lab, Setup
from .nic import Pace
from .shared import EOP, RS, any_mac, frame

VECTORS = 64  # of the 82599 (8.2.3.5, PCI capability MSI-X)
SLACK_S = 0.25  # between the script's clock and the judge's
HEADER = 14  # bytes of Ethernet
SMALL_BUFFER = 1024
MOST_RETURNS = 1 + lab05.FRAMES // 8  # writes of RDT: the first, and one for eight frames
MOST_REPORTS = 4
BESIDE = 10  # frames of queue 1 while queue 0 stands


# ---- 01 ----


def vectors_printed(evidence: Evidence) -> str | None:
    if evidence.numbers("MSI-X").get("vectors") == VECTORS:
        return None
    return (
        'The script did not print "MSI-X: vectors=N" with the right number. The capability list starts at the offset '
        "in byte 0x34 of configuration space. Byte 0 of an entry is its ID (MSI-X: 0x11), byte 1 the next offset. Bits "
        "10:0 of the two bytes after them are the number of vectors minus 1."
    )


# ---- 02 ----


def slow_link(random: Random) -> Setup:
    return replace(lab02.setup(random), link_up_s=random.uniform(0.3, 0.8))


def training_measured(evidence: Evidence) -> str | None:
    starts = evidence.set_at("AUTOC", RESTART_AN=1)
    printed = evidence.numbers("training").get("seconds")
    if printed is None or starts is None:
        return 'The script did not print "training: seconds=0.123", the time from RESTART_AN to LINK_UP.'
    ups = [access.at_s for access in evidence.reads("LINKS") if access.word.LINK_UP and access.at_s > starts.at_s]
    real = ups[0] - starts.at_s if ups else 0.0
    if abs(printed - real) <= SLACK_S and printed > 0:
        return None
    return f"The script printed {printed:g} s; from its write of RESTART_AN to its read of LINK_UP it was {real:.3f} s."


# ---- 03 ----


def two_pieces(evidence: Evidence) -> str | None:
    given = evidence.given("TDT")
    if len(given) != 2 or given[0].q1 & EOP or not given[1].q1 & EOP:
        return (
            f"TDT[0] gave the NIC {len(given)} descriptors. The challenge asks for two: the first without EOP, the "
            "second with it (7.2.3.2.4)."
        )
    lengths = [descriptor.q1 & 0xFFFF for descriptor in given]
    if lengths[0] != HEADER:
        return f"The first descriptor has DTALEN {lengths[0]}: the Ethernet header has {HEADER} bytes."
    if given[0].q1 >> 46 != sum(lengths):
        return (
            f"The first descriptor has PAYLEN {given[0].q1 >> 46} (bits 63:46): it is the length of the whole frame, "
            f"{sum(lengths)}, also when the frame is in several buffers (7.2.3.2.4)."
        )
    return next((text for descriptor in given if (text := shared.unmapped(descriptor, evidence))), None)


# ---- 04 ----


def long_frame(random: Random) -> Setup:
    mac = any_mac(random)
    length = random.randrange(1200, 1500)
    return Setup(mac, (frame(mac, random.randbytes(length - HEADER)),), pace=Pace(0.002, after_tail_s=0.05))


def small_buffers(evidence: Evidence) -> str | None:
    asked = evidence.writes("SRRCTL")
    if not asked or asked[-1].word.BSIZEPACKET != SMALL_BUFFER // 1024:
        size = asked[-1].word.BSIZEPACKET if asked else 0
        return f"SRRCTL[0].BSIZEPACKET is {size}: the challenge asks for buffers of 1 KB, so a frame takes two."
    return None


# ---- 05 ----


def returned_in_eights(evidence: Evidence) -> str | None:
    count = len(evidence.writes("RDT"))
    if count <= MOST_RETURNS:
        return None
    return (
        f"RDT[0] was written {count} times; the challenge asks for {MOST_RETURNS} at most. Fill eight slots again, and "
        "then write RDT[0] once, with the last of them."
    )


# ---- 06 ----


def few_reports(evidence: Evidence) -> str | None:
    reports = sum(bool(descriptor.q1 & RS) for descriptor in lab06.halves(evidence)[1])
    if reports <= MOST_REPORTS:
        return None
    return (
        f"{reports} of the descriptors in batches had RS; the challenge asks for {MOST_REPORTS} at most. One report "
        "may stand for two batches, as long as the ring has room for what is not reported."
    )


# ---- 08 ----


def two_queues(evidence: Evidence) -> str | None:
    entries = [evidence.last("RETA", entry // 4) >> 8 * (entry % 4) & 0xF for entry in range(lab08.ENTRIES)]
    shares = [entries.count(queue) for queue in range(lab08.QUEUES)]
    if shares != [96, 0, 32, 0]:
        return (
            f"RETA names the queues 0 to 3 in {', '.join(map(str, shares))} entries; the challenge asks for 96, 0, 32 "
            "and 0 (82599 8.2.3.7.15)."
        )
    right = sum(evidence.numbers(f"queue {queue}").get("predicted", 0) for queue in range(lab08.QUEUES))
    if right != lab08.FLOWS * lab08.PACKETS:
        return f"The script predicted the queue of {right:g} of {lab08.FLOWS * lab08.PACKETS} frames."
    return None


# ---- 09 ----


def sent_beside(evidence: Evidence) -> str | None:
    off = next((access for access in evidence.writes("TXDCTL") if not access.word.ENABLE), None)
    before = evidence.record[: evidence.position(off)] if off else evidence.record
    given = sum(len(access.given) for access in before if access.write and access.label == "TDT[1]")
    if given < BESIDE:
        return (
            f"Queue 1 was given {given} frames before TXDCTL[0].ENABLE was cleared; the challenge asks for {BESIDE}. "
            "It needs a ring of its own, and its frames are sent although queue 0 stands."
        )
    if len(evidence.sent) != BESIDE + 1 or lab09.GOOD not in evidence.sent[-1]:
        return (
            f"{len(evidence.sent)} frames were on the wire; the challenge asks for {BESIDE} of queue 1, and then the "
            f"good one of queue 0, with {lab09.GOOD.decode()!r} in it."
        )
    return None


CHALLENGES = {
    lab.number: lab
    for lab in (
        Lab("01", lab01.setup, (*lab01.LAB.steps, vectors_printed)),
        Lab("02", slow_link, (*lab02.LAB.steps, training_measured)),
        Lab("03", lab03.setup, (shared.transmit_on, shared.bus_master, two_pieces, lab03.the_frame, lab03.awaited)),
        Lab("04", long_frame, (small_buffers, shared.reception_on, shared.bus_master, lab04.shown)),
        Lab("05", lab05.setup, (lab05.right_answers, lab05.answered, returned_in_eights)),
        Lab("06", lab06.setup, (lab06.head_asked_for, lab06.all_sent, lab06.in_batches, few_reports, lab06.counted)),
        Lab("08", lab08.setup, (lab08.key_written, two_queues)),
        Lab("09", lab09.setup, (lab09.broken, lab09.noticed, lab09.stopped, sent_beside)),
    )
    if lab.is_here
}
