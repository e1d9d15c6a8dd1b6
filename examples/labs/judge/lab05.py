"""Lab 05: rings whose slots are used again and again (82599 7.1.9, 7.2.3.1)."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from . import shared
from .evidence import Evidence, Lab, Setup
from .nic import Pace
from .sandbox import Ending
from .shared import any_mac, frame

FRAMES = 100
RX_SLOTS, TX_SLOTS = 32, 8
BUFFER = 2048
SECTIONS = {"RDT": "8.2.3.8.5", "TDT": "8.2.3.9.9"}


def setup(random: Random) -> Setup:
    """A burst of frames is longer than the transmit ring, so the script has to wait for free slots."""
    mac = any_mac(random)
    frames = tuple(
        frame(mac, f"frame {number} ".encode() + random.randbytes(random.randrange(0, 100))) for number in range(FRAMES)
    )
    return Setup(mac, frames, pace=Pace(0.02, frames=16))


def answers(evidence: Evidence) -> list[bytes]:
    return [frame[6:12] + frame[:6] + frame[12:] for frame in evidence.setup.frames]


def filled(evidence: Evidence) -> str | None:
    first = next(iter(evidence.writes("RDT")), None)
    if first is None or len(first.given) < RX_SLOTS - 1:
        given = len(first.given) if first else 0
        return (
            f"At the start the NIC was given {given} of the {RX_SLOTS} receive descriptors. Give it all but one: fill "
            f"every descriptor, and write {RX_SLOTS - 1} to RDT[0] (82599 7.1.9)."
        )
    return None


def given_back(evidence: Evidence) -> str | None:
    count, tails = evidence.received[0], evidence.writes("RDT")
    taken = len(tails) - 1
    if count < FRAMES and not taken and evidence.given("TDT"):
        return (
            f"{count} of {FRAMES} frames were received, and RDT[0] was written once{evidence.instead('RDT', 0)}. Give "
            "a descriptor back when its frame is taken: fill it with its address again, and move RDT[0] on (82599 "
            "7.1.9)."
        )
    if taken < count and evidence.run.gave_up:
        return (
            f"The script took {taken} frames, and then none of the {count - taken} more that were in memory: the next "
            f"one is in descriptor {taken % RX_SLOTS}, with DD set (RX_DD, bit 0 of the second word). Go on by one "
            f"slot for each frame; slot 0 follows slot {RX_SLOTS - 1}."
        )
    if count < FRAMES:
        return (
            f"{count} of {FRAMES} frames were received. RDT[0] was last written with {tails[-1].value}, and the NIC "
            "waits for more descriptors."
        )
    return None


def own_buffers(evidence: Evidence) -> str | None:
    """Each slot of the receive ring must have a buffer of its own, and keep it."""
    first = sorted(evidence.writes("RDT")[0].given, key=lambda each: each.q0)
    for one, other in pairwise(first):
        if other.q0 - one.q0 < BUFFER:
            pair = sorted((one, other), key=lambda each: each.index)
            return (
                f"The descriptors {pair[0].index} and {pair[1].index} of RX queue 0 point to {pair[0].q0:#x} and "
                f"{pair[1].q0:#x}: these buffers overlap, so one frame overwrites another. Each slot has its own "
                "buffer, buffers.iova + slot * BUFFER."
            )
    return None


def receive_order(evidence: Evidence) -> str | None:
    """RDT must name the slot from which a frame was taken last: that slot stays free."""
    for number, access in enumerate(evidence.writes("RDT")[1:]):
        slot = number % RX_SLOTS
        if access.value == (slot + 1) % RX_SLOTS:
            return (
                f"RDT[0] was written with {access.value} after the frame of descriptor {slot} was taken: "
                "that is one too far. The slot at the tail is not the NIC's, and a tail equal to the head means an "
                "empty ring (82599 7.1.9)."
            )
        if access.value != slot:
            return (
                f"RDT[0] was written with {access.value} when frame {number} was taken, which is in descriptor {slot}. "
                "Take the frames in the order of the slots, and write the slot that was just filled again (82599 "
                "7.1.9)."
            )
    return None


def right_answers(evidence: Evidence) -> str | None:
    """Whether the script made the right answers; answered() asks what became of them."""
    given = evidence.given("TDT")
    if given and given[0].data in evidence.setup.frames:
        return (
            "The first frame was returned unchanged. In the answer, destination (bytes 0 to 5) and source (bytes 6 "
            "to 11) are exchanged."
        )
    for number, (descriptor, right) in enumerate(zip(given, answers(evidence))):
        if descriptor.data != right:
            return f"Answer {number}, as the script gave it to the NIC, {shared.difference(descriptor.data, right)}."
    return None


def answered(evidence: Evidence) -> str | None:
    wanted = answers(evidence)
    if evidence.sent == wanted:
        return None
    number = next(
        (i for i, (sent, right) in enumerate(zip(evidence.sent, wanted)) if sent != right), len(evidence.sent)
    )
    if number < len(evidence.sent):
        return (
            f"Answer {number} was right when the script gave it to the NIC, and wrong on the wire: the script wrote to "
            "its transmit slot again before the NIC had sent it. A slot is free when DD is set in its descriptor "
            "(7.2.3.2.4)."
        )
    if evidence.run.ending is Ending.FINISHED:
        return (
            f"{number} of {FRAMES} answers were sent, all of them right. Before it ends, the script has to wait until "
            "the NIC has sent the last frame."
        )
    return f"{number} of {FRAMES} answers were sent, all of them right; then the script stopped."


def empty_answers(evidence: Evidence) -> str | None:
    if any(descriptor.q1 & shared.DEXT and not descriptor.q1 & 0xFFFF for descriptor in evidence.given("TDT")):
        return (
            "The script answered an empty frame: a descriptor without DD has no frame yet, so receive() has to "
            "return None (7.1.6.2)."
        )
    return None


def goes_round(evidence: Evidence) -> str | None:
    for name, slots in (("RDT", RX_SLOTS), ("TDT", TX_SLOTS)):
        tails = [access.value for access in evidence.writes(name)]
        if any(value >= slots for value in tails):
            return (
                f"{name}[0] was written with {max(tails)}: the ring has {slots} descriptors, 0 to {slots - 1}, and "
                f"0 follows the last one (82599 {SECTIONS[name]})."
            )
    return None


def answers_given(evidence: Evidence) -> str | None:
    if evidence.received[0] and not evidence.writes("TDT"):
        if evidence.run.ending is not Ending.FINISHED and len(evidence.writes("RDT")) < 2:
            return None  # no frame was taken: given_back() says why
        if len(evidence.writes("RDT")) == 2:
            return None  # the script never came back from its first send(): transmit_waits() says why
        return (
            f"TDT[0] was never written{evidence.instead('TDT', 0)}, so nothing was sent: the tail tells the NIC which "
            "descriptors are its own (82599 7.2.3.1)."
        )
    return None


def tail_goes_on(evidence: Evidence) -> str | None:
    for number, access in enumerate(evidence.writes("TDT")):
        slot = number % TX_SLOTS
        if not access.given:
            return (
                f"TDT[0] was written with {access.value} for answer {number}, and that gave the NIC no descriptor: the "
                f"answer is in descriptor {slot}, and the tail is the first descriptor that is not the NIC's, "
                f"{(slot + 1) % TX_SLOTS}. Go on to the next slot, and then write it to TDT[0] (82599 7.2.3.1)."
            )
    return None


def transmit_waits(evidence: Evidence) -> str | None:
    """A script that waits for a slot that is free has taken a frame and not answered it."""
    taken, given = len(evidence.writes("RDT")) - 1, len(evidence.given("TDT"))
    if not evidence.run.gave_up or len(evidence.sent) != given:
        return None
    if given == taken < FRAMES or given > taken:
        return None
    return (
        f"The script waited for a transmit slot until it gave up, but the NIC had sent all {given} frames that it was "
        "given, and had set DD in their descriptors (TX_DD, bit 32 of the second word). A slot that was never used has "
        "no DD and is free."
    )


LAB = Lab(
    "05",
    setup,
    (
        filled,
        shared.bus_master,
        goes_round,
        answers_given,
        receive_order,
        shared.each_given("RDT"),
        own_buffers,
        empty_answers,
        tail_goes_on,
        shared.each_given("TDT"),
        shared.transmit_room(TX_SLOTS),
        right_answers,
        transmit_waits,
        given_back,
        answered,
    ),
)
