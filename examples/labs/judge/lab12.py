"""Lab 12: a virtual function, its mailbox, and a frame with a neighbour's address (82599 4.6.10, 8.3.5)."""

from __future__ import annotations

import re
from random import Random

from . import shared
from .evidence import Command, Evidence, Lab, Setup, Step
from .record import Access
from .shared import TEST_TYPE, any_mac, difference

EVERYBODY = b"\xff" * 6
OTHER = bytes.fromhex("02000000c0de")
PAYLOAD = b"who am I?"
RESET, SET_MAC, NEGOTIATE = 0x01, 0x02, 0x08
API_1_3 = 4
ACK, NACK = 1 << 31, 1 << 30
OF_A_QUEUE = re.compile(r"\b(T(?:DBAL|DBAH|DLEN|DH|DT|XDCTL))\b")


def frame(source: bytes) -> bytes:
    return (EVERYBODY + source + TEST_TYPE + PAYLOAD).ljust(60, b"\0")


def setup(random: Random) -> Setup:
    return Setup(any_mac(random), neighbour=any_mac(random))


def of_vf(step: Step) -> Step:
    """The question with the names that a VF's registers have."""

    def renamed(evidence: Evidence) -> str | None:
        text = step(evidence)
        return OF_A_QUEUE.sub(r"VF\1", text) if text else text

    return renamed


# ---- the mailbox ----


def first(evidence: Evidence, name: str, *, write: bool, start: int = 0, index: int | None = None) -> int | None:
    """The position of the first such access from `start` on."""
    for at, access in enumerate(evidence.record[start:], start):
        if access.name == name and access.write == write and index in (None, access.index):
            return at
    return None


def shows(evidence: Evidence, bit: str, number: int, start: int, end: int) -> bool:
    """Whether a read of VFMAILBOX between these positions had this bit so."""
    return any(
        not access.write and access.name == "VFMAILBOX" and getattr(access.word, bit) == number
        for access in evidence.record[start:end]
    )


def reset(evidence: Evidence) -> str | None:
    at = next((i for i, access in enumerate(evidence.record) if is_reset(access)), None)
    if at is None:
        return "VFCTRL.RST was never set: the function may still do what its last driver wanted (82599 8.3.5.1.1)."
    words = first(evidence, "VFMBMEM", write=True, start=at)
    if not shows(evidence, "RSTI", 0, at, len(evidence.record) if words is None else words):
        return (
            "VFMAILBOX.RSTI was not read as 0 after VFCTRL.RST: while it is 1 the PF is in reset, and answers nobody "
            "(82599 8.3.5.1.5)."
        )
    return None


def is_reset(access: Access) -> bool:
    return access.write and access.name == "VFCTRL" and bool(access.word.RST)


def asked(evidence: Evidence) -> str | None:
    words = first(evidence, "VFMBMEM", write=True)
    if words is None:
        return (
            "VFMBMEM was never written: a request is up to 16 words there, and word 0 says what is asked "
            "(82599 8.3.5.1.6)."
        )
    if not shows(evidence, "VFU", 1, 0, words):
        return (
            "VFMBMEM was written before VFMAILBOX.VFU was read as 1. The buffer is used in both directions, so the PF "
            "could write an answer at the same time (82599 8.3.5.1.5)."
        )
    called = next(
        (i for i, access in enumerate(evidence.record) if access.write and is_call(access) and i > words), None
    )
    if called is None:
        return "VFMAILBOX.REQ was never written as 1: it tells the PF that there is a request (82599 8.3.5.1.5)."
    if evidence.record[called].word.VFU:
        return (
            "VFMAILBOX was written with REQ and VFU: then the VF keeps the buffer, and the PF cannot take it. Write "
            "REQ alone (82599 8.3.5.1.5)."
        )
    return None


def is_call(access: Access) -> bool:
    return access.name == "VFMAILBOX" and bool(access.word.REQ)


def answered(evidence: Evidence) -> str | None:
    called = next(i for i, access in enumerate(evidence.record) if access.write and is_call(access))
    taken = first(evidence, "VFMAILBOX", write=True, start=called + 1)
    read = first(evidence, "VFMBMEM", write=False, start=called)
    end = min(at if at is not None else len(evidence.record) for at in (taken, read))
    if not shows(evidence, "PFSTS", 1, called, end):
        return (
            "VFMAILBOX.PFSTS was not read as 1 after the request: until then the words in the buffer are those of the "
            "request (82599 8.3.5.1.5)."
        )
    if read is None:
        return "The answer was never read: it is in VFMBMEM, where the request was (82599 8.3.5.1.6)."
    if not any(access.write and access.name == "VFMAILBOX" and access.word.ACK for access in evidence.record[read:]):
        return "VFMAILBOX.ACK was never written as 1: it tells the PF that the answer was read (82599 8.3.5.1.5)."
    return None


def introduced(evidence: Evidence) -> str | None:
    requests = evidence.pools.requests
    if not requests:
        return "No request reached the PF: VFMAILBOX.REQ was written while the PF could not take the buffer."
    words, _ = requests[0]
    if words[0] != RESET:
        return (
            f"The first request has {words[0]:#x} in word 0. It must be RESET, which is 1: before it the PF refuses "
            "everything else."
        )
    negotiated = [(words, reply) for words, reply in requests if words[0] == NEGOTIATE]
    if not negotiated:
        return (
            "There was no NEGOTIATE, which is 8 in word 0: without it the PF assumes version 1.0, which has fewer "
            "requests."
        )
    words, reply = negotiated[0]
    if not reply or not reply[0] & ACK or words[1] != API_1_3:
        verdict = "refused" if not reply or not reply[0] & ACK else "accepted"
        return f"NEGOTIATE had {words[1]} in word 1, which the PF {verdict}. The code of version 1.3 is {API_1_3}."
    return None


# ---- frames ----


def tail(evidence: Evidence) -> str | None:
    return shared.tail_moved("TDT", 0, "it gives descriptors to the NIC, as in lab 03 (82599 8.3.5.4.5).")(evidence)


def counted(evidence: Evidence) -> str | None:
    tail = first(evidence, "TDT", write=True)
    if first(evidence, "VFGPTC", write=False) in (None, *range(tail or 0, len(evidence.record))):
        return (
            "VFGPTC was not read before the first frame was sent. A counter of a VF is never cleared; only the "
            "difference of two reads says what a frame did (82599 8.3.5.6)."
        )
    return None


def own_address(evidence: Evidence) -> str | None:
    wanted = frame(evidence.setup.mac)
    if evidence.sent[:1] == [wanted]:
        return None
    given = evidence.given("TDT")[0].data
    if given[6:12] != evidence.setup.mac:
        return (
            f"The first frame has the source {given[6:12].hex(':')}. The PF gave this function "
            f"{evidence.setup.mac.hex(':')}: words 1 and 2 of the answer to RESET have it, the first byte in the "
            "lowest bits."
        )
    if not evidence.sent:
        return "The first frame did not leave the function: queue, descriptor and tail are those of lab 03."
    return f"The first frame on the wire {difference(evidence.sent[0], wanted)}."


def commanded(evidence: Evidence, text: str, after: int = 0) -> Command | None:
    """The first such command from number `after` on."""
    return next((each for each in evidence.pools.commands[after:] if each.text.split() == text.split()), None)


def spoofed(evidence: Evidence) -> str | None:
    """The check was on when the first foreign frame came: nothing of it is on the wire."""
    off = commanded(evidence, "vf 1 spoofchk off")
    dropped = off.spoofed if off else evidence.pools.spoofed
    if dropped:
        return None
    return (
        "The NIC has dropped no frame of this function while the check was on. Send one whose source is the "
        "neighbour's address: DD comes, and VFGPTC does not count it (82599 8.2.3.27.11)."
    )


def seen(evidence: Evidence) -> str | None:
    if evidence.printed("with the neighbour's address: 0 sent"):
        return None
    return (
        'The NIC dropped a frame, but the script did not print "with the neighbour\'s address: 0 sent": that is what '
        "send() returns, the difference of VFGPTC."
    )


def requests_for_other(evidence: Evidence, first: int, end: int | None) -> list[tuple[list[int], list[int]]]:
    return [(words, reply) for words, reply in evidence.pools.requests[first:end] if words[0] & 0xFFFF == SET_MAC]


def refused(evidence: Evidence) -> str | None:
    trust = commanded(evidence, "vf 1 trust on")
    before = requests_for_other(evidence, 0, trust.requests if trust else None)
    if not before:
        return (
            "The PF was not asked for another address before it trusted the function: SET_MAC is 2 in word 0, and the "
            "address is in words 1 and 2."
        )
    words, reply = before[0]
    if not reply or not reply[0] & NACK or mac_in(words) != OTHER:
        return f"SET_MAC asked for {mac_in(words).hex(':')}; the lab asks for {OTHER.hex(':')}, which the PF refuses."
    return None


def mac_in(words: list[int]) -> bytes:
    return words[1].to_bytes(4, "little") + (words[2] & 0xFFFF).to_bytes(2, "little")


def unchecked(evidence: Evidence) -> str | None:
    commands = evidence.pools.commands
    off = commanded(evidence, "vf 1 spoofchk off")
    if off is None:
        return (
            'The check was never switched off: pf("vf 1 spoofchk off") does on this NIC what `ip link` does on Linux.'
        )
    on = commanded(evidence, "vf 1 spoofchk on", commands.index(off))
    if on is None:
        return (
            'The check was not switched on again: pf("vf 1 spoofchk on"). Until then the function may pretend anything.'
        )
    between = evidence.sent[off.sent : on.sent]
    if between != [frame(evidence.setup.neighbour)]:
        return (
            f"Between spoofchk off and spoofchk on {len(between)} frames left the function; the lab asks for one, with "
            "the neighbour's address as its source."
        )
    return None


def trusted(evidence: Evidence) -> str | None:
    trust = commanded(evidence, "vf 1 trust on")
    if trust is None:
        return 'The function was never trusted: pf("vf 1 trust on").'
    if not any(words[0] == RESET for words, _ in evidence.pools.requests[trust.requests :]):
        return (
            "There was no RESET after the function was trusted. The PF then refuses everything else: it takes back "
            '"clear to send" (CTS), bit 29 of its words. Bring the function up again.'
        )
    return None


def another_address(evidence: Evidence) -> str | None:
    trust = commanded(evidence, "vf 1 trust on")
    assert trust is not None, "trusted() has asked"
    granted = [words for words, reply in requests_for_other(evidence, trust.requests, None) if reply and reply[0] & ACK]
    if not any(mac_in(words) == OTHER for words in granted):
        return (
            f"The trusted function did not get the address {OTHER.hex(':')}: ask for it again after the second RESET, "
            "with SET_MAC."
        )
    wanted = [frame(source) for source in (evidence.setup.mac, evidence.setup.neighbour, OTHER)]
    if evidence.sent != wanted:
        return (
            f"{len(evidence.sent)} frames left the function; the lab asks for three: with its own address, with the "
            f"neighbour's while nobody checked, and with {OTHER.hex(':')}, which it then owns."
        )
    return None


def neighbour(evidence: Evidence) -> str | None:
    if evidence.pools.neighbour == evidence.sent:
        return None
    return "The neighbour got other frames than the wire. This should be impossible: please report it with your script."


STEPS: tuple[Step, ...] = (
    reset,
    asked,
    answered,
    introduced,
    of_vf(shared.transmit_ring),
    of_vf(shared.transmit_enabled),
    of_vf(tail),
    shared.bus_master,
    of_vf(shared.each_given("TDT")),
    counted,
    own_address,
    spoofed,
    seen,
    refused,
    unchecked,
    trusted,
    another_address,
    neighbour,
)

LAB = Lab("12", setup, STEPS, on_vf=True)
