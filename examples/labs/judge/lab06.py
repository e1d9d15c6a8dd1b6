"""Lab 06: head write-back and batching (82599 7.2.3.5.2, 8.2.3.9.11), measured by counting."""

from __future__ import annotations

from random import Random

from . import shared
from .evidence import Evidence, Lab, Setup
from .nic import Descriptor
from .shared import RS, any_mac

FRAMES, BATCH = 256, 32
LABELS = ("one by one", "batches")


def setup(random: Random) -> Setup:
    return Setup(any_mac(random))


def head_asked_for(evidence: Evidence) -> str | None:
    low = next((access for access in reversed(evidence.writes("TDWBAL"))), None)
    if low is None or not low.word.HEAD_WB_EN:
        return "TDWBAL[0] was not written with HEAD_WB_EN: the NIC writes its head to memory only when it is told where (82599 7.2.3.5.2)."
    if low.value & 0xE:
        return f"TDWBAL[0] is {low.value:#x}: the head's place must be 16-byte aligned, or nothing is written (82599 8.2.3.9.11)."
    if not evidence.last("TDWBAH"):
        return "TDWBAH[0] is 0, but the address of the head's place has more than 32 bits: its upper half belongs there (82599 8.2.3.9.11)."
    enabled = evidence.set_at("TXDCTL", ENABLE=1)
    if enabled is not None and evidence.position(low) > evidence.position(enabled):
        return "TDWBAL[0] was written after TXDCTL[0].ENABLE: the queue took the address when it was enabled (82599 4.6.8)."
    if not evidence.writes("DCA_TXCTRL") or evidence.writes("DCA_TXCTRL")[-1].word.TXDESCWBRO:
        return (
            "DCA_TXCTRL[0].TXDESCWBRO is 1, as after a reset: a relaxed write of the head may overtake the reads of the frames "
            "that it reports (82599 7.2.3.5.2)."
        )
    return None


def halves(evidence: Evidence) -> tuple[list[Descriptor], list[Descriptor]]:
    given = evidence.given("TDT")
    return given[:FRAMES], given[FRAMES:]


def all_sent(evidence: Evidence) -> str | None:
    given, sent = len(evidence.given("TDT")), len(evidence.sent)
    if sent > 2 * FRAMES:
        return f"{sent} frames came out of the wire; the lab asks for {FRAMES} one by one and {FRAMES} in batches."
    if given == sent == 2 * FRAMES:
        return None
    reports = sum(bool(descriptor.q1 & RS) for descriptor in evidence.given("TDT"))
    if sent and not reports:
        return (
            f"{sent} frames are on the wire, but no descriptor had RS (bit 27): the NIC writes its head back when a descriptor asks for it, "
            "and never else (7.2.3.5.2)."
        )
    if not evidence.writes("TDT"):
        return "TDT[0] was never written: the NIC knows of no descriptor (82599 7.2.3.1)."
    if given == sent == FRAMES:
        return f"{FRAMES} frames went out one by one, and none in batches."
    last = next(reversed(evidence.given("TDT")), None)
    if last and not last.q1 & RS:
        return (
            f"{sent} frames are on the wire, and the last descriptor given had no RS: the head is not reported behind it, "
            "so the script waits in vain (7.2.3.5.2)."
        )
    return (
        f"{sent} of {2 * FRAMES} frames are on the wire; TDT[0] was last written {evidence.last('TDT')}. "
        "The script saw no room though the NIC reported its head: free slots are (head - tail - 1) modulo the ring's size."
    )


def in_batches(evidence: Evidence) -> str | None:
    tails = [len(access.given) for access in evidence.writes("TDT") if access.given]
    singles = tails[:FRAMES]
    if singles != [1] * FRAMES:
        return f"The first {FRAMES} frames were to go one by one; TDT[0] was written with {max(singles)} new descriptors at once."
    batches = tails[FRAMES:]
    if batches != [BATCH] * (FRAMES // BATCH):
        return (
            f"The second {FRAMES} frames took {len(batches)} writes of TDT[0]; in batches of {BATCH} they take {FRAMES // BATCH}: "
            "a write to a register costs far more than a store to memory, so one a batch."
        )
    return None


def reported_once_a_batch(evidence: Evidence) -> str | None:
    reports = sum(bool(descriptor.q1 & RS) for descriptor in halves(evidence)[1])
    if reports != FRAMES // BATCH:
        return (
            f"{reports} of the {FRAMES} descriptors in batches had RS: each makes the NIC write to memory, and {FRAMES // BATCH} are enough, "
            "on the last of each batch (7.2.3.5.2)."
        )
    return None


def counted(evidence: Evidence) -> str | None:
    for label, given, tails in zip(LABELS, halves(evidence), (FRAMES, FRAMES // BATCH)):
        said = evidence.numbers(label)
        real = {
            "frames": FRAMES,
            "tail_writes": tails,
            "reports": sum(bool(descriptor.q1 & RS) for descriptor in given),
        }
        for name, number in real.items():
            if said.get(name) != number:
                told = f"{name}={said[name]:g}" if name in said else "nothing of it"
                return f'The NIC counted {name}={number} for "{label}", the script printed {told}. A line looks like: {label}: frames={FRAMES} {name}={number} ...'
        if said.get("us_a_frame", 0) <= 0:
            return f'The line "{label}:" has no us_a_frame=, the microseconds that a frame took.'
    return None


LAB = Lab("06", setup, (head_asked_for, shared.each_given("TDT"), all_sent, in_batches, reported_once_a_batch, counted))
