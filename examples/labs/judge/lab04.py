"""Lab 04: receive one frame (82599 4.6.7, 7.1.6)."""

from __future__ import annotations

from random import Random

from . import shared
from .evidence import Evidence, Lab, Setup
from .nic import Pace
from .sandbox import Ending
from .shared import any_mac, frame


def setup(random: Random) -> Setup:
    mac = any_mac(random)
    return Setup(mac, (frame(mac, random.randbytes(random.randrange(60, 200))),), pace=Pace(0.002, after_tail_s=0.05))


def received(evidence: Evidence) -> str | None:
    if evidence.received[0] or evidence.run.ending is not Ending.FINISHED:
        return None
    return (
        "The script ended before the frame was in its memory. The NIC sets DD, bit 0 of the descriptor's second word, "
        "when the frame is there: wait for it, with a bound (7.1.6.2)."
    )


def shown(evidence: Evidence) -> str | None:
    wire = evidence.setup.frames[0]
    printed = "".join(evidence.run.output.split()).lower()
    if wire.hex() in printed:
        if wire.hex() + "00" in printed:
            return (
                f"The script printed too many bytes: the frame has {len(wire)}, the length in bits 47:32 of the "
                "descriptor's second word (7.1.6.2)."
            )
        return None
    if not evidence.received[0]:
        return "The queue received no frame, and the script printed none."
    if wire.hex()[:6] in printed:
        return (
            f"The script printed only the beginning of the frame: it has {len(wire)} bytes, the length in bits 47:32 "
            "of the descriptor's second word (7.1.6.2)."
        )
    if evidence.run.gave_up:
        return (
            "The frame is in the buffer and the NIC has set DD, but the script did not find it: DD is bit 0 of the "
            "second word of descriptor 0, load(ring, 0)[1] & 1 (7.1.6.2)."
        )
    return (
        f"The frame is in the buffer, but the script printed none of its {len(wire)} bytes: take the length from bits "
        "47:32 of the second word of descriptor 0 (7.1.6.2)."
    )


def odd_bit_cleared(evidence: Evidence) -> str | None:
    """The emulated NIC receives with either value; real NICs have been seen to corrupt frames."""
    if all(access.word.MUST_BE_ZERO for access in evidence.writes("DCA_RXCTRL")):
        return (
            f"DCA_RXCTRL[0] bit 12 (MUST_BE_ZERO) is still 1{evidence.instead('DCA_RXCTRL', 0)}, its value after a "
            "reset; a queue that receives needs 0 "
            "(82599 8.2.3.11.1)."
        )
    return None


LAB = Lab(
    "04",
    setup,
    (
        shared.receive_ring,
        shared.receive_buffers,
        odd_bit_cleared,
        shared.receive_enabled,
        shared.reception_on,
        shared.tail_moved("RDT", 0, "the tail tells the NIC which buffers are its own (82599 7.1.9)."),
        shared.bus_master,
        shared.each_given("RDT"),
        received,
        shown,
    ),
)
