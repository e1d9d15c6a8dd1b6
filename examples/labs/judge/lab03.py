"""Lab 03: one frame, one descriptor (82599 4.6.8, 7.2.3.2.4)."""

from __future__ import annotations

from random import Random

from . import shared
from .evidence import Evidence, Lab, Setup
from .nic import Pace
from .sandbox import Ending
from .shared import any_mac

PAYLOAD = b"Hello, wire!"
REACTION_S = (
    0.05  # the NIC fetches this late; a script that does not wait has ended by then, and its memory is unmapped
)


def setup(random: Random) -> Setup:
    return Setup(any_mac(random), pace=Pace(0.002, after_tail_s=REACTION_S))


def wanted(evidence: Evidence) -> bytes:
    return (b"\xff" * 6 + evidence.setup.mac + shared.TEST_TYPE + PAYLOAD).ljust(60, b"\0")


def on_the_wire(evidence: Evidence) -> str | None:
    if evidence.sent or evidence.run.ending is not Ending.FINISHED:
        return None
    left = evidence.run.seconds - evidence.writes("TDT")[-1].at_s
    return (
        f"The script ended {max(left, 0) * 1e3:.0f} ms after it wrote TDT[0], before the frame was on the wire: "
        "the NIC needs time to fetch descriptor and frame. Wait until it has written back DD, bit 32 of the "
        "descriptor's second word (7.2.3.2.4)."
    )


def status_asked(evidence: Evidence) -> str | None:
    rs = evidence.given("TDT")[0].q1 & shared.RS
    if rs or not evidence.sent:
        return None
    return (
        "The descriptor has no RS (bit 27): the frame is on the wire, but the NIC writes back DD only when RS asks "
        "for it (7.2.3.2.4)."
    )


def the_frame(evidence: Evidence) -> str | None:
    right = wanted(evidence)
    if not evidence.sent:
        return "No frame was on the wire."
    sent = evidence.sent[0]
    if len(evidence.sent) > 1:
        return f"{len(evidence.sent)} frames were on the wire; the lab asks for one."
    if sent != right:
        return f"The frame on the wire {shared.difference(sent, right)}."
    return None


def awaited(evidence: Evidence) -> str | None:
    if evidence.printed("sent"):
        return None
    if evidence.run.gave_up:
        return (
            "The frame was on the wire and the NIC had set DD, but the script did not find it: DD is bit 32 of the "
            "second word of descriptor 0, load(ring, 0)[1] & 1 << 32 (7.2.3.2.4)."
        )
    return (
        'The frame is on the wire, but the script did not print "sent". Wait until the NIC has written back DD, then '
        "print it."
    )


LAB = Lab(
    "03",
    setup,
    (
        shared.transmit_on,
        shared.transmit_ring,
        shared.transmit_enabled,
        shared.tail_moved("TDT", 0, "the tail tells the NIC which descriptors are its own (82599 7.2.3.1)."),
        shared.bus_master,
        shared.each_given("TDT"),
        on_the_wire,
        status_asked,
        the_frame,
        awaited,
    ),
)
