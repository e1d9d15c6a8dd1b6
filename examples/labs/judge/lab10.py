"""Lab 10: the netmap API (netmap(4))."""

from __future__ import annotations

from random import Random

from .evidence import Evidence, Lab, Setup
from .lab05 import answers
from .nic import Pace
from .sandbox import Ending
from .shared import any_mac, difference, frame

FRAMES = 500
REACTION_S = 0.04  # the NIC fetches this late; a script that does not wait for the last frames has ended by then


def setup(random: Random) -> Setup:
    mac = any_mac(random)
    return Setup(
        mac,
        tuple(
            frame(mac, f"frame {number} ".encode() + random.randbytes(random.randrange(0, 100)))
            for number in range(FRAMES)
        ),
        pace=Pace(0.002, after_tail_s=REACTION_S),
    )


def opened(evidence: Evidence) -> str | None:
    if evidence.set_at("RXCTRL", RXEN=1) is None:
        return "The port was not opened: open_port(nic_name()) does all that labs 02 to 08 did."
    return None


def received(evidence: Evidence) -> str | None:
    """At an rxsync the driver gives the NIC the slots that the program has released."""
    if evidence.received[0] == FRAMES:
        return None
    got = f"{evidence.received[0]} of {FRAMES} frames were received, "
    if evidence.run.output.startswith("0 frames answered, 0 wait"):
        return got + (
            "but the program saw none of them: a frame is in the ring after a sync; port.poll() waits for a "
            "frame and syncs (netmap(4))."
        )
    if evidence.run.output.startswith("0 frames answered"):
        return got + (
            "but answer() found none: the slots from head to tail are the program's, and ring.space is their "
            "number (netmap(4))."
        )
    return got + (
        "and then the receive ring got no slot back: slots are the program's until advance() releases them (netmap(4))."
    )


def answered(evidence: Evidence) -> str | None:
    wanted = answers(evidence)
    if evidence.sent == wanted:
        return None
    if not evidence.given("TDT"):
        return (
            "Nothing was sent: advance() releases the slots that were written, and txsync() gives them to the NIC "
            "(netmap(4))."
        )
    if evidence.sent and evidence.sent[0] in evidence.setup.frames:
        return "The first frame was returned unchanged: exchange destination (bytes 0 to 5) and source (bytes 6 to 11)."
    number = next(
        (i for i, (sent, right) in enumerate(zip(evidence.sent, wanted)) if sent != right), len(evidence.sent)
    )
    if number < len(evidence.sent):
        sent, right = evidence.sent[number], wanted[number] if number < FRAMES else b""
        if len(sent) != len(right):
            return (
                f"Answer {number} has {len(sent)} bytes and should have {len(right)}: copy len to the transmit slot "
                "together with the buffer."
            )
        text = f"Answer {number} on the wire {difference(sent, right)}."
        same = sum(one == other for one, other in zip(sent[12:], right[12:])) == len(right) - 12
        return text if same else f"{text} The transmit slot must get the buffer with that frame."
    why = (
        "flush() waits until the NIC has sent the last one."
        if evidence.run.ending is Ending.FINISHED
        else "then the script stopped."
    )
    return f"{number} of {FRAMES} answers were sent, all of them right; {why}"


def swapped(evidence: Evidence) -> str | None:
    """Zero copy: each frame is sent from the buffer that received it."""
    received = {descriptor.q0 for descriptor in evidence.given("RDT")}
    copied = sum(descriptor.q0 not in received for descriptor in evidence.given("TDT"))
    if copied:
        return (
            f"{copied} of {FRAMES} answers were sent from buffers that the receive ring never had: frames were copied. "
            "Exchange buf_idx of the two slots instead, and set SlotFlag.NS_BUF_CHANGED in both (netmap(4))."
        )
    return None


def one_owner(evidence: Evidence) -> str | None:
    """A buffer is in one slot: the receive ring must not get one back that a transmit slot still has."""
    in_slots: dict[int, int] = {}  # by transmit slot, its buffer's address
    for access in evidence.record:
        for descriptor in access.given if access.name in ("RDT", "TDT") and access.write else ():
            if access.name == "TDT":
                in_slots[descriptor.index] = descriptor.q0
            elif descriptor.q0 in in_slots.values():
                return (
                    "The receive ring was given a buffer that a transmit slot still has, so the next frame may "
                    "overwrite an answer. Exchange buf_idx: each slot gets the other's buffer (netmap(4))."
                )
    return None


LAB = Lab("10", setup, (opened, received, answered, swapped, one_owner))
