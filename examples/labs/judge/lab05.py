"""Lab 05: rings that go round (82599 7.1.9, 7.2.3.1)."""

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
    """Frames come in bursts that the transmit ring has no room for, so that a script has to wait for it."""
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
            f"The receive ring began with {given} of its {RX_SLOTS} descriptors given to the NIC: all but one can be, "
            f"with buffers in all of them and RDT[0] at {RX_SLOTS - 1} (82599 7.1.9)."
        )
    return None


def given_back(evidence: Evidence) -> str | None:
    came = evidence.received[0]
    if came >= FRAMES:
        return None
    tails = [access.value for access in evidence.writes("RDT")]
    if len(tails) == 1:
        return (
            f"{came} of {FRAMES} frames came in, and RDT[0] was written once: a descriptor that was looked at goes back to the NIC, "
            "with a fresh address and RDT[0] moved on (82599 7.1.9)."
        )
    return f"{came} of {FRAMES} frames came in; RDT[0] was last written {tails[-1]}, and the NIC waits for descriptors behind that one."


def receive_order(evidence: Evidence) -> str | None:
    """RDT names the slot that stays empty: the one that was emptied last."""
    for number, access in enumerate(evidence.writes("RDT")[1:]):
        if access.value == (number + 1) % RX_SLOTS and len(access.given) > 1:
            return (
                f"RDT[0] was written {access.value} when descriptor {number % RX_SLOTS} had been emptied: the tail is not the NIC's, so that is one too far, "
                "and a tail that meets the head is an empty ring (82599 7.1.9)."
            )
    return None


def answered(evidence: Evidence) -> str | None:
    wanted = answers(evidence)
    if evidence.sent == wanted:
        return None
    if any(frame in evidence.setup.frames for frame in evidence.sent[:1]):
        return "The first frame came back as it was: the answer's destination, bytes 0 to 5, is the source of what came in, bytes 6 to 11, and the other way round."
    number = next(
        (i for i, (sent, right) in enumerate(zip(evidence.sent, wanted)) if sent != right), len(evidence.sent)
    )
    if number == len(evidence.sent) and len(evidence.sent) <= FRAMES:
        return (
            f"{number} of {FRAMES} answers went out, all of them right. The last TDT[0] was {evidence.last('TDT')}, in a ring of {TX_SLOTS}; "
            f"the script has to wait until the NIC is done before it ends."
        )
    name = evidence.sent[number][14:30]
    return (
        f"Answer {number} on the wire should be for `frame {number}` and is {name!r}: a slot of the transmit ring was written again before the NIC had sent "
        "what was in it. A slot is free when DD is set in its descriptor (7.2.3.2.4)."
    )


def nothing_there(evidence: Evidence) -> str | None:
    if any(descriptor.q1 & shared.DEXT and not descriptor.q1 & 0xFFFF for descriptor in evidence.given("TDT")):
        return "An empty frame was answered: a descriptor without DD has no frame yet, so receive() has to return None for it (7.1.6.2)."
    return None


def goes_round(evidence: Evidence) -> str | None:
    for name, slots in (("RDT", RX_SLOTS), ("TDT", TX_SLOTS)):
        tails = [access.value for access in evidence.writes(name)]
        if any(value >= slots for value in tails):
            return f"{name}[0] was written {max(tails)}: the ring has {slots} descriptors, 0 to {slots - 1}, and goes on at 0 (82599 {SECTIONS[name]})."
    if [access.value for access in evidence.writes("RDT")[1:3]] == [0, 0] or (
        evidence.last("RDT") == 0 and len(evidence.writes("RDT")) == 2
    ):
        return "RDT[0] stays at 0: the script looks at slot 0 again, though the NIC's next frame is in slot 1. Go on to the next slot."
    return None


def answers_given(evidence: Evidence) -> str | None:
    if evidence.received[0] and not evidence.writes("TDT"):
        return "TDT[0] was never written, so nothing was sent: the tail is how the NIC learns that there are descriptors for it (82599 7.2.3.1)."
    return None


def transmit_room(evidence: Evidence) -> str | None:
    former = 0
    for access in evidence.writes("TDT"):
        waiting = (former - access.head) % TX_SLOTS
        if access.value == access.head and waiting:
            return (
                f"TDT[0] was written {access.value}, where the head was: that is an empty ring, though {waiting + 1} frames were in it. "
                "One slot stays free: wait for the slot behind the one that is written (82599 7.2.3.1)."
            )
        if (access.value - access.head) % TX_SLOTS < waiting:
            return (
                f"TDT[0] was written {access.value} while the head was {access.head} and the tail {former}: slots were written again before the NIC had sent "
                "what was in them. A slot is free when DD is set in its descriptor (7.2.3.2.4)."
            )
        former = access.value
    return None


LAB = Lab(
    "05",
    setup,
    (
        filled,
        shared.each_given("RDT"),
        nothing_there,
        goes_round,
        answers_given,
        transmit_room,
        shared.each_given("TDT"),
        receive_order,
        given_back,
        answered,
    ),
)
