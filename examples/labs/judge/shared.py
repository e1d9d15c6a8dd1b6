"""Setups and questions that several labs share."""

from __future__ import annotations

from random import Random

from .evidence import Evidence, Step
from .record import Descriptor

PEER = bytes.fromhex("020000000009")
TEST_TYPE = bytes.fromhex("88b5")  # the EtherType for local experiments (IEEE 802)
EOP, IFCS, RS, DEXT = 1 << 24, 1 << 25, 1 << 27, 1 << 29
DTYP_DATA = 3


def any_mac(random: Random) -> bytes:
    """A random unicast address, locally administered. No two bytes are equal, so a wrong order of bytes is found."""
    return bytes([0x02, *random.sample(range(0x10, 0xF0), 5)])


def frame(to: bytes, payload: bytes, length: int = 60) -> bytes:
    return (to + PEER + TEST_TYPE + payload).ljust(length, b"\0")


# ---- transmit ----


def transmit_on(evidence: Evidence) -> str | None:
    if evidence.set_at("DMATXCTL", TE=1) is None:
        return "DMATXCTL.TE was never set: without it no transmit queue works (82599 4.6.8)."
    return None


def transmit_ring(evidence: Evidence) -> str | None:
    return ring_programmed(evidence, "T")


def receive_ring(evidence: Evidence) -> str | None:
    return ring_programmed(evidence, "R")


def ring_programmed(evidence: Evidence, side: str, queue: int = 0) -> str | None:
    section = "8.2.3.9.5" if side == "T" else "8.2.3.8.1"
    for part, what in (("BAL", "the lower 32 bits"), ("BAH", "the upper 32 bits")):
        name = f"{side}D{part}"
        if not evidence.writes(name, queue):
            return (
                f"{name}[{queue}] was never written{evidence.instead(name, queue)}: it tells the NIC where the ring "
                f"is, and gets {what} of the ring's .iova (82599 {section})."
            )
    length = evidence.last(f"{side}DLEN", queue)
    if not length:
        state = (
            "is 0"
            if evidence.writes(f"{side}DLEN", queue)
            else f"was never written{evidence.instead(f'{side}DLEN', queue)}"
        )
        return f"{side}DLEN[{queue}] {state}: a ring of 0 bytes has no descriptors (82599 {section})."
    if length % 128:
        return (
            f"{side}DLEN[{queue}] is {length}: it counts bytes, 16 for each descriptor, and must be a multiple of 128."
        )
    enabled = evidence.set_at(f"{side}XDCTL", queue, ENABLE=1)
    if enabled and "ring" in enabled.nowhere:
        base = evidence.last(f"{side}DBAL", queue) | evidence.last(f"{side}DBAH", queue) << 32
        return (
            f"{side}DBAH[{queue}] and {side}DBAL[{queue}] say that the ring is at {base:#x}, which is not mapped for "
            f"the NIC. The ring is at its .iova: the lower 32 bits go to {side}DBAL, iova >> 32 to {side}DBAH (82599 "
            f"{section})."
        )
    return None


def queue_enabled(evidence: Evidence, side: str, queue: int = 0) -> str | None:
    """The queue must be enabled after its ring was programmed, and read as enabled before its tail moves."""
    control, tail = f"{side}XDCTL", f"{side}DT"
    section = "4.6.8" if side == "T" else "4.6.7"
    enabled = evidence.set_at(control, queue, ENABLE=1)
    if enabled is None:
        other = evidence.instead(control, queue)
        return (
            f"{control}[{queue}].ENABLE was never set{other}: the queue is off and does not use its ring (82599 "
            f"{section})."
        )
    for name in (f"{side}DBAL", f"{side}DLEN"):
        written = evidence.writes(name, queue)
        if written and evidence.position(written[0]) > evidence.position(enabled):
            return (
                f"{name}[{queue}] was written after {control}[{queue}].ENABLE: the queue takes its ring from the "
                f"registers when it is enabled (82599 {section})."
            )
    ready = evidence.seen_at(control, queue, ENABLE=1)
    first_tail = next((access for access in evidence.writes(tail, queue) if access.value), None)
    if ready is None or (first_tail is not None and evidence.position(first_tail) < evidence.position(ready)):
        return (
            f"{control}[{queue}].ENABLE was not read as 1 before {tail}[{queue}] moved: enabling takes time, "
            f"and a tail written too early is lost (82599 {section})."
        )
    return None


def transmit_enabled(evidence: Evidence) -> str | None:
    te, enable = evidence.set_at("DMATXCTL", TE=1), evidence.set_at("TXDCTL", ENABLE=1)
    if te and enable and evidence.position(enable) < evidence.position(te):
        return "TXDCTL[0].ENABLE was set before DMATXCTL.TE: the datasheet asks for TE first (82599 4.6.8)."
    return queue_enabled(evidence, "T")


def receive_enabled(evidence: Evidence) -> str | None:
    return queue_enabled(evidence, "R")


def tail_moved(name: str, queue: int, why: str) -> Step:
    """Asks whether this tail was written and gave the NIC a descriptor. why: what the tail is for."""

    def step(evidence: Evidence) -> str | None:
        if not evidence.writes(name, queue):
            return f"{name}[{queue}] was never written{evidence.instead(name, queue)}: {why}"
        if not evidence.given(name, queue):
            return (
                f"{name}[{queue}] was written with {evidence.writes(name, queue)[-1].value}, and that gave the NIC no "
                "descriptor: its descriptors are those from the head up to, but not including, the tail."
            )
        return None

    return step


def transmit_descriptor(descriptor: Descriptor, evidence: Evidence) -> str | None:
    """The first mistake in a descriptor of a whole frame in one buffer (7.2.3.2.4), or None."""
    at, q1 = f"Descriptor {descriptor.index} of TX queue {descriptor.queue}", descriptor.q1
    if not descriptor.q0 and not q1:
        return (
            f"{at} is all zeros: TDT[{descriptor.queue}] gave it to the NIC, but the script did not write it. The tail "
            "is the number of the first descriptor that is not the NIC's (82599 7.2.3.1)."
        )
    if not descriptor.q0:
        return f"{at} has address 0: its first word tells the NIC where the frame is (7.2.3.2.4)."
    if not q1 & DEXT or q1 >> 20 & 0xF != DTYP_DATA:
        return (
            f"{at} is not an advanced data descriptor: DEXT (bit 29) is {q1 >> 29 & 1} and DTYP (bits 23:20) is "
            f"{q1 >> 20 & 0xF}, but must be 1 and 3 (7.2.3.2.4)."
        )
    if not q1 & 0xFFFF:
        return f"{at} has DTALEN 0: bits 15:0 must have the length of the data in its buffer (7.2.3.2.4)."
    if not q1 & EOP:
        return (
            f"{at} has no EOP (bit 24): the NIC waits for more descriptors of this frame, and sends nothing "
            "(7.2.3.2.4)."
        )
    if q1 >> 46 != q1 & 0xFFFF:
        return (
            f"{at} has PAYLEN {q1 >> 46} (bits 63:46) and DTALEN {q1 & 0xFFFF} (bits 15:0): for a frame in one "
            "buffer they are equal (7.2.3.2.4)."
        )
    if not q1 & IFCS:
        return f"{at} has no IFCS (bit 25): the NIC must add the CRC, as it may pad the frame (7.2.3.2.2)."
    return unmapped(descriptor, evidence)


def bus_master(evidence: Evidence) -> str | None:
    tails = [access for access in evidence.record if access.write and access.name in ("RDT", "TDT") and access.value]
    if not tails or any(access.bus_master for access in tails):
        return None
    return (
        f"Bus mastering was off when {tails[0].label} was written: then the NIC must not use DMA and reads no "
        "descriptor. Bit 2 of the PCI command register allows it: device.enable_bus_master(True) (82599 9.3.3.3)."
    )


def difference(found: bytes, right: bytes) -> str:
    """Where a frame is wrong, as the end of a sentence: "is wrong from byte 14 on, ..."."""
    at = next((i for i, (one, other) in enumerate(zip(found, right)) if one != other), min(len(found), len(right)))
    if at == len(right) or (at == len(found) and at >= 12):
        return f"has {len(found)} bytes and should have {len(right)}"
    field = "destination" if at < 6 else "source" if at < 12 else "EtherType" if at < 14 else "payload"
    return (
        f"is wrong from byte {at} on, in its {field}: it has {found[at : at + 16].hex(' ')}, the lab asks for "
        f"{right[at : at + 16].hex(' ')} (packets.pcap has the whole frame)"
    )


def transmit_room(slots: int) -> Step:
    """Asks whether each slot of TX queue 0 was free when the tail passed it."""

    def step(evidence: Evidence) -> str | None:
        previous = 0
        for access in evidence.writes("TDT"):
            waiting = (previous - access.head) % slots
            if access.value == access.head and waiting:
                return (
                    f"TDT[0] was written with {access.value}, the value of the head. That means an empty ring, but "
                    f"{waiting} frames were in it that the NIC had not sent: the script did not wait for a free slot. "
                    "One slot stays free: before a write, wait until the slot after the one that is written is free "
                    "(82599 7.2.3.1)."
                )
            if (access.value - access.head) % slots < waiting:
                return (
                    f"TDT[0] was written with {access.value} while the head was {access.head} and the tail {previous}: "
                    "the script wrote to slots before the NIC had sent the frames in them. Wait until they are free "
                    "(82599 7.2.3.1)."
                )
            previous = access.value
        return None

    return step


def unmapped(descriptor: Descriptor, evidence: Evidence) -> str | None:
    if evidence.setup.expects_faults or descriptor.mapped:
        return None
    return (
        f"Descriptor {descriptor.index} of queue {descriptor.queue} points to {descriptor.q0:#x}, which is not mapped "
        "for the NIC: a descriptor has the NIC's address of the memory (.iova), not this process's (.address)."
    )


# ---- receive ----


def receive_buffers(evidence: Evidence) -> str | None:
    asked = next((access.word for access in reversed(evidence.writes("SRRCTL"))), None)
    if asked is None or asked.DESCTYPE != 1:
        other = evidence.instead("SRRCTL", 0)
        is_now = f"was never written{other}" if asked is None else f"has DESCTYPE {asked.DESCTYPE}"
        return f"SRRCTL[0] {is_now}: advanced descriptors with one buffer need DESCTYPE 1 (82599 8.2.3.8.7)."
    if asked.BSIZEPACKET != 2:
        return (
            f"SRRCTL[0].BSIZEPACKET is {asked.BSIZEPACKET}: it counts KB, and the buffers have 2 KB (82599 8.2.3.8.7)."
        )
    return None


def reception_on(evidence: Evidence) -> str | None:
    on = evidence.set_at("RXCTRL", RXEN=1)
    if on is None:
        return "RXCTRL.RXEN was never set: the NIC drops every frame (82599 4.6.7 step 11)."
    stopped = evidence.set_at("SECRXCTRL", RX_DIS=1)
    ready = evidence.seen_at("SECRXSTAT", SECRX_RDY=1)
    if (
        stopped is None
        or ready is None
        or evidence.position(ready) > evidence.position(on)
        or evidence.position(stopped) > evidence.position(ready)
    ):
        return (
            "RXCTRL.RXEN was set while a frame could be half received. Before it, set SECRXCTRL.RX_DIS=1 and wait "
            "for SECRXSTAT.SECRX_RDY=1 (82599 4.6.7 step 11)."
        )
    before = [access for access in evidence.writes("SECRXCTRL") if evidence.position(access) < evidence.position(on)]
    if not before[-1].word.RX_DIS:
        return (
            "SECRXCTRL.RX_DIS was cleared before RXCTRL.RXEN was set, so a frame could be half received. Set RXEN "
            "first (82599 4.6.7 step 11)."
        )
    if evidence.writes("SECRXCTRL")[-1].word.RX_DIS:
        return (
            "SECRXCTRL.RX_DIS is still 1: the path from the wire to memory is closed. Clear it after RXEN is set "
            "(82599 4.6.7 step 11)."
        )
    return None


def receive_descriptor(descriptor: Descriptor, evidence: Evidence) -> str | None:
    at = f"Descriptor {descriptor.index} of RX queue {descriptor.queue}"
    if descriptor.q1:
        return (
            f"{at} was given to the NIC with {descriptor.q1:#x} in its second word: it must be 0, or an old frame "
            "looks like a new one (82599 7.1.6.1)."
        )
    if not descriptor.q0:
        return (
            f"{at} was given to the NIC with address 0: its first word tells the NIC where to write the frame (82599 "
            f"7.1.6.1). RDT[{descriptor.queue}] is the number of the first descriptor that is not the NIC's."
        )
    return unmapped(descriptor, evidence)


def each_given(name: str, queue: int = 0) -> Step:
    """Asks whether the descriptors that this tail gave to the NIC are right."""
    wrong = transmit_descriptor if name == "TDT" else receive_descriptor

    def step(evidence: Evidence) -> str | None:
        return next((text for descriptor in evidence.given(name, queue) if (text := wrong(descriptor, evidence))), None)

    return step
