"""Lab 04: one frame in (82599 4.6.7, 7.1.6)."""

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


def came_in(evidence: Evidence) -> str | None:
    if evidence.received[0] or evidence.run.ending is not Ending.FINISHED:
        return None
    return (
        "The script ended before the frame was in its memory: the NIC writes DD (bit 0 of the descriptor's second word) when it is. "
        "Wait for that, with a bound (7.1.6.2)."
    )


def shown(evidence: Evidence) -> str | None:
    wire = evidence.setup.frames[0]
    printed = "".join(evidence.run.output.split()).lower()
    if wire.hex() in printed:
        if wire.hex() + "00" in printed:
            return f"More bytes were printed than came in: the frame has {len(wire)}, the length in the descriptor's bits 47:32 of the second word (7.1.6.2)."
        return None
    if not evidence.received[0]:
        return "No frame came into the queue, and none was printed."
    if wire.hex()[:6] in printed:
        return f"Only the beginning of the frame was printed: it has {len(wire)} bytes, as the descriptor says in bits 47:32 of its second word (7.1.6.2)."
    return "The frame is in the buffer, but its bytes were not printed: print(frame.hex()), of as many bytes as the descriptor says (7.1.6.2)."


def odd_bit_cleared(evidence: Evidence) -> str | None:
    """Frames come in all the same, here; cards were seen to corrupt them."""
    if all(access.word.MUST_BE_ZERO for access in evidence.writes("DCA_RXCTRL")):
        return "DCA_RXCTRL[0] bit 12 (MUST_BE_ZERO) is still 1, as after a reset; the datasheet wants it 0 for a queue that receives (82599 8.2.3.11.1)."
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
        shared.tail_moved("RDT", 0, "the tail is how the NIC learns that there are buffers for it (82599 7.1.9)."),
        shared.each_given("RDT"),
        came_in,
        shown,
    ),
)
