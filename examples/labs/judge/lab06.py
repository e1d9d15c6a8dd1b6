"""Lab 06: head write-back and batches (82599 7.2.3.5.2, 8.2.3.9.11), measured by counts."""

from __future__ import annotations

from random import Random

from . import shared
from .evidence import Evidence, Lab, Setup
from .record import Descriptor
from .shared import RS, any_mac

FRAMES, BATCH, SLOTS = 256, 32, 128
LABELS = ("one by one", "batches")


def setup(random: Random) -> Setup:
    return Setup(any_mac(random))


def head_asked_for(evidence: Evidence) -> str | None:
    low = next((access for access in reversed(evidence.writes("TDWBAL"))), None)
    if low is None or not low.word.HEAD_WB_EN:
        return (
            f"TDWBAL[0] was not written with HEAD_WB_EN=1{evidence.instead('TDWBAL', 0)}: without it the NIC does not "
            "write its head to memory (82599 7.2.3.5.2)."
        )
    if low.value & 0xE:
        return (
            f"TDWBAL[0] is {low.value:#x}: the address for the head must be 16-byte aligned, or the NIC writes "
            "nothing (82599 8.2.3.9.11)."
        )
    if not evidence.last("TDWBAH"):
        return (
            f"TDWBAH[0] is 0{evidence.instead('TDWBAH', 0)}, but the address for the head has more than 32 bits: write "
            "its upper half there (82599 8.2.3.9.11)."
        )
    enabled = evidence.set_at("TXDCTL", ENABLE=1)
    if enabled is not None and evidence.position(low) > evidence.position(enabled):
        return (
            "TDWBAL[0] was written after TXDCTL[0].ENABLE: the queue takes the address when it is enabled (82599 "
            "4.6.8)."
        )
    address = evidence.last("TDWBAH") << 32 | low.value & ~0x3
    ring = evidence.last("TDBAH") << 32 | evidence.last("TDBAL")
    in_the_ring = 0 <= address - ring < evidence.last("TDLEN")
    if enabled is not None and ("head" in enabled.nowhere or in_the_ring):
        return (
            f"TDWBAH[0] and TDWBAL[0] say that the NIC writes its head to {address:#x}, "
            f"{'which is in the ring' if in_the_ring else 'which is not mapped for it'}. Write self.head.iova there: "
            "iova >> 32 to TDWBAH, the lower 32 bits to TDWBAL (82599 8.2.3.9.11)."
        )
    if not evidence.writes("DCA_TXCTRL") or evidence.writes("DCA_TXCTRL")[-1].word.TXDESCWBRO:
        return (
            "DCA_TXCTRL[0].TXDESCWBRO is 1, its value after a reset: a relaxed write of the head may overtake the "
            "reads of the frames that it reports (82599 7.2.3.5.2)."
        )
    return None


def halves(evidence: Evidence) -> tuple[list[Descriptor], list[Descriptor]]:
    """The descriptors given one by one, and those given in batches."""
    given = evidence.given("TDT")
    return given[:FRAMES], given[FRAMES:]


def all_sent(evidence: Evidence) -> str | None:
    given, sent = len(evidence.given("TDT")), len(evidence.sent)
    if sent > 2 * FRAMES:
        return f"{sent} frames were on the wire; the lab asks for {FRAMES} one by one and {FRAMES} in batches."
    last = next(reversed(evidence.given("TDT")), None)
    if given == sent == 2 * FRAMES and (last is None or last.q1 & RS):
        return None
    if not evidence.writes("TDT"):
        return f"TDT[0] was never written{evidence.instead('TDT', 0)}: the NIC has no descriptors (82599 7.2.3.1)."
    reports = sum(bool(descriptor.q1 & RS) for descriptor in evidence.given("TDT"))
    if sent and not reports:
        return (
            f"{sent} frames are on the wire, but no descriptor had RS (bit 27): the NIC writes back its head only "
            "when a descriptor asks for it (7.2.3.5.2)."
        )
    if given == sent == FRAMES and evidence.numbers(LABELS[0]):
        return (
            f"{FRAMES} frames were sent one by one, and none in batches: in_batches() has to add {BATCH} frames and "
            "then write TDT[0] once."
        )
    if last and not last.q1 & RS:
        return (
            f"{sent} frames are on the wire, but the last descriptor given had no RS: the NIC does not report the head "
            "after it, and the script waits without end (7.2.3.5.2)."
        )
    if sent == given and evidence.run.gave_up:
        return (
            f"The NIC had sent all {sent} frames that it was given and had written its head to memory, but the script "
            "did not find the slots that it waited for. The head is a 32-bit little-endian number at the start of "
            "self.head; wait for as many slots as you then fill."
        )
    return f"{sent} of {2 * FRAMES} frames are on the wire; TDT[0] was last written with {evidence.last('TDT')}."


def in_batches(evidence: Evidence) -> str | None:
    tails = [len(access.given) for access in evidence.writes("TDT") if access.given]
    singles = tails[:FRAMES]
    if singles != [1] * FRAMES:
        return (
            f"The first {FRAMES} frames must be sent one by one; one write of TDT[0] gave {max(singles)} descriptors."
        )
    batches = tails[FRAMES:]
    if batches != [BATCH] * (FRAMES // BATCH):
        return (
            f"The second {FRAMES} frames took {len(batches)} writes of TDT[0]; in batches of {BATCH} they take "
            f"{FRAMES // BATCH}. A register write costs far more than a store to memory: write TDT[0] once a batch."
        )
    return None


def reported_once_a_batch(evidence: Evidence) -> str | None:
    reports = sum(bool(descriptor.q1 & RS) for descriptor in halves(evidence)[1])
    if reports != FRAMES // BATCH:
        return (
            f"{reports} of the {FRAMES} descriptors in batches had RS. Each RS makes the NIC write to memory; set it "
            f"in the last descriptor of each batch only, {FRAMES // BATCH} times (7.2.3.5.2)."
        )
    return None


def counted(evidence: Evidence) -> str | None:
    for label, given, tails in zip(LABELS, halves(evidence), (FRAMES, FRAMES // BATCH)):
        values = evidence.numbers(label)
        if not values:
            return f'The script did not print the line "{label}: frames={FRAMES} ...".'
        real = {
            "frames": FRAMES,
            "tail_writes": tails,
            "reports": sum(bool(descriptor.q1 & RS) for descriptor in given),
        }
        for name, number in real.items():
            if values.get(name) != number:
                printed = f"{name}={values[name]:g}" if name in values else f"no {name}="
                return (
                    f'The NIC counted {name}={number} for "{label}", the script printed {printed}. Print a line such '
                    f"as: {label}: frames={FRAMES} {name}={number} ..."
                )
        if values.get("us_a_frame", 0) <= 0:
            return f'The line "{label}:" has no us_a_frame=, the microseconds for one frame.'
    return None


LAB = Lab(
    "06",
    setup,
    (
        head_asked_for,
        shared.bus_master,
        shared.each_given("TDT"),
        shared.transmit_room(SLOTS),
        all_sent,
        in_batches,
        reported_once_a_batch,
        counted,
    ),
)
