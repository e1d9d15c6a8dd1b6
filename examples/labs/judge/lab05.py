"""Lab 05: rings whose slots are used again and again (82599 7.1.9, 7.2.3.1)."""

from __future__ import annotations

from random import Random

from . import shared
from .evidence import Evidence, Lab, Setup
from .nic import Pace
from .shared import any_mac, frame

FRAMES = 100
RX_SLOTS, TX_SLOTS = 32, 8
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
    count = evidence.received[0]
    if count >= FRAMES:
        return None
    tails = [access.value for access in evidence.writes("RDT")]
    if len(tails) == 1:
        return (
            f"{count} of {FRAMES} frames were received, and RDT[0] was written once. Give a descriptor back when its "
            "frame is taken: fill it with its address again, and move RDT[0] on (82599 7.1.9)."
        )
    return (
        f"{count} of {FRAMES} frames were received. RDT[0] was last written with {tails[-1]}, and the NIC waits for "
        "more descriptors."
    )


def receive_order(evidence: Evidence) -> str | None:
    """RDT must name the slot from which a frame was taken last: that slot stays free."""
    for number, access in enumerate(evidence.writes("RDT")[1:]):
        if access.value == (number + 1) % RX_SLOTS and len(access.given) > 1:
            return (
                f"RDT[0] was written with {access.value} after the frame of descriptor {number % RX_SLOTS} was taken: "
                "that is one too far. The slot at the tail is not the NIC's, and a tail equal to the head means an "
                "empty ring (82599 7.1.9)."
            )
    return None


def answered(evidence: Evidence) -> str | None:
    wanted = answers(evidence)
    if evidence.sent == wanted:
        return None
    if any(frame in evidence.setup.frames for frame in evidence.sent[:1]):
        return (
            "The first frame was returned unchanged. In the answer, destination (bytes 0 to 5) and source (bytes 6 "
            "to 11) are exchanged."
        )
    number = next(
        (i for i, (sent, right) in enumerate(zip(evidence.sent, wanted)) if sent != right), len(evidence.sent)
    )
    if number == len(evidence.sent) and len(evidence.sent) <= FRAMES:
        return (
            f"{number} of {FRAMES} answers were sent, all of them right. TDT[0] was last written with "
            f"{evidence.last('TDT')}, in a ring of {TX_SLOTS}. Before it ends, the script has to wait until the NIC "
            "has sent the last frame."
        )
    name = evidence.sent[number][14:30]
    return (
        f"Answer {number} on the wire should be for `frame {number}` and is {name!r}: the script wrote to a transmit "
        "slot before the NIC had sent the frame in it. A slot is free when DD is set in its descriptor (7.2.3.2.4)."
    )


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
    if [access.value for access in evidence.writes("RDT")[1:3]] == [0, 0] or (
        evidence.last("RDT") == 0 and len(evidence.writes("RDT")) == 2
    ):
        return (
            "RDT[0] stays at 0: the script reads slot 0 again, but the next frame is in slot 1. Go on to the next slot."
        )
    return None


def answers_given(evidence: Evidence) -> str | None:
    if evidence.received[0] and not evidence.writes("TDT"):
        return (
            "TDT[0] was never written, so nothing was sent: the tail tells the NIC which descriptors are its own "
            "(82599 7.2.3.1)."
        )
    return None


def transmit_room(evidence: Evidence) -> str | None:
    previous = 0
    for access in evidence.writes("TDT"):
        waiting = (previous - access.head) % TX_SLOTS
        if access.value == access.head and waiting:
            return (
                f"TDT[0] was written with {access.value}, the value of the head. That means an empty ring, but "
                f"{waiting + 1} frames were in it. One slot stays free: before a write, wait for the slot after the "
                "one that is written (82599 7.2.3.1)."
            )
        if (access.value - access.head) % TX_SLOTS < waiting:
            return (
                f"TDT[0] was written with {access.value} while the head was {access.head} and the tail {previous}: "
                "the script wrote to slots before the NIC had sent the frames in them. A slot is free when DD is set "
                "in its descriptor (7.2.3.2.4)."
            )
        previous = access.value
    return None


LAB = Lab(
    "05",
    setup,
    (
        filled,
        shared.each_given("RDT"),
        empty_answers,
        goes_round,
        answers_given,
        transmit_room,
        shared.each_given("TDT"),
        receive_order,
        given_back,
        answered,
    ),
)
