"""Lab 11: a netmap client in C, and why it cannot hurt the NIC (netmap(4); driver/daemon)."""

from __future__ import annotations

from random import Random

from .evidence import Evidence, Lab, Setup, Step
from .shared import PEER, TEST_TYPE, difference

FRAMES, ANSWERS, LAST_FRAMES = 200, 100, 10
LENGTH = 60
BROADCAST = b"\xff" * 6
STUDENT = bytes.fromhex("02000000000b")


def frame(number: int) -> bytes:
    """As write_frame() of the lab makes it."""
    return (BROADCAST + STUDENT + TEST_TYPE + f"frame {number}".encode()).ljust(LENGTH, b"\0")


def answer(token: int) -> bytes:
    return (STUDENT + PEER + TEST_TYPE + b"\0\0" + token.to_bytes(4, "little")).ljust(LENGTH, b"\0")


def setup(random: Random) -> Setup:
    """Every second frame is answered: 50 answers to 100 frames, which is less than the receive ring holds."""
    answers = {frame(number): answer(random.getrandbits(32)) for number in range(0, FRAMES, 2)}
    return Setup(STUDENT, answers=answers)


def token_sum(evidence: Evidence) -> int:
    return sum(int.from_bytes(reply[16:20], "little") for reply in evidence.setup.answers.values()) & 0xFFFF_FFFF


# ---- questions ----


def registered(evidence: Evidence) -> str | None:
    if evidence.printed("memory: ix0"):
        return None
    errors = evidence.run.errors
    if "NIOCCTRL: Bad file" in errors:
        return 'The request went to a descriptor that is not open: open("/dev/netmap", O_RDWR) returns the one to use.'
    if "NIOCCTRL" in errors:
        refused = [line.removeprefix("ixrings daemon: ") for line in evidence.told.lines if "process" in line]
        return (
            "The registration was refused. Its header needs the port's name and the address of the body, and the body "
            f"a mode.{f' The daemon says: {refused[-1]}.' if refused else ''}"
        )
    if "mmap" in errors:
        return (
            "The port was registered, but its memory was not mapped: mmap() of nr_memsize bytes, MAP_SHARED, of the "
            "same descriptor (netmap(4))."
        )
    return "The program did not register the port: ioctl(fd, NIOCCTRL, &header) (netmap(4))."


def released(evidence: Evidence) -> str | None:
    frames = evidence.numbers("released").get("frames", 0.0)
    if evidence.sent or frames or evidence.told.broken:
        return None
    return (
        "No frame was written: the slots from head up to tail are the program's. Write a frame into each, and count it "
        "(netmap(4))."
    )


def sent(evidence: Evidence) -> str | None:
    wanted = [frame(number) for number in range(FRAMES)]
    if evidence.sent[:FRAMES] == wanted:
        return None
    if not evidence.sent:
        return (
            "Frames were written, but none was sent: the daemon hands over the slots before head. Write the new head "
            "to tx->head and tx->cur (netmap(4))."
        )
    number = next((i for i, (is_, right) in enumerate(zip(evidence.sent, wanted)) if is_ != right), len(evidence.sent))
    if number == len(evidence.sent):
        return f"{number} of {FRAMES} frames were sent, all of them right; then no more came."
    found = evidence.sent[number]
    if len(found) != LENGTH:
        fresh = ". A fresh slot's len is the size of its buffer" if len(found) > 1514 else ""
        return (
            f"Frame {number} has {len(found)} bytes on the wire and should have {LENGTH}: that is slot->len, in bytes"
            f"{fresh}."
        )
    return f"Frame {number} on the wire {difference(found, wanted[number])}."


def received(evidence: Evidence) -> str | None:
    found = evidence.numbers("answers")
    if found.get("sum") == token_sum(evidence):
        return None
    if len(evidence.traffic.answered) < ANSWERS:
        return f"{len(evidence.traffic.answered)} of {ANSWERS} answers were sent to the program; it ended before."
    if not found.get("sum"):
        return (
            "The answers came, but the program took none: received frames are in the slots from rx->head up to "
            "rx->tail, and NETMAP_BUF(rx, slot's buf_idx) is the frame (netmap(4))."
        )
    return (
        "The sum of the tokens is wrong: each answer counts once. After the slots were read, release them: rx->head "
        "and rx->cur move to the first slot that was not read, so that the next turn begins there (netmap(4))."
    )


def broke(rule: str, sentence: str) -> Step:
    """The question whether the program broke this rule, as it was asked to."""

    def step(evidence: Evidence) -> str | None:
        return None if any(broken == rule for broken, _ in evidence.told.broken) else sentence

    return step


def neighbour(evidence: Evidence) -> str | None:
    """The other program's frames come on after the last rule was broken; the daemon still serves."""
    if evidence.goes_on and evidence.traffic.neighbours > evidence.told.broken[-1][1]:
        return None
    return "The other program's frames no longer come. This should be impossible: please report it with your program."


def last_frames(evidence: Evidence) -> str | None:
    wanted = [frame(number) for number in range(FRAMES, FRAMES + LAST_FRAMES)]
    if evidence.sent[-LAST_FRAMES:] == wanted:
        return None
    return (
        f"The last {LAST_FRAMES} frames did not all leave. Slots are handed over by a sync, and the program ended "
        "without one: ioctl(fd, NIOCTXSYNC, NULL) until nm_tx_pending(tx) is false (netmap(4))."
    )


STEPS: tuple[Step, ...] = (
    registered,
    released,
    sent,
    received,
    broke(
        "BUF_IDX", "No slot had a buf_idx that is not a buffer: write UINT32_MAX there, and the flag NS_BUF_CHANGED."
    ),
    broke("LEN_OVER_BUFFER", "No slot had a len over the size of its buffer: write 65535 to slot->len."),
    broke("HEAD_PAST_TAIL", "No receive slot past the tail was released: the slot after rx->tail is the NIC's."),
    neighbour,
    last_frames,
)

LAB = Lab("11", setup, STEPS, "lab.c")
