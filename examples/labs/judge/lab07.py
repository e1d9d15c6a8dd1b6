"""Lab 07: interrupts and polling (82599 7.3, 8.2.3.5), compared by counts."""

from __future__ import annotations

from random import Random

from .evidence import Evidence, Lab, Setup
from .nic import Pace
from .shared import any_mac, frame

FRAMES = 10  # by polling, and again by interrupts
EVERY_S = 0.005
POLLING_LOOKS = 5  # at least, for each frame; a loop in Python looks thousands of times in EVERY_S


def setup(random: Random) -> Setup:
    mac = any_mac(random)
    return Setup(mac, tuple(frame(mac, random.randbytes(46)) for _ in range(2 * FRAMES)), pace=Pace(EVERY_S, frames=1))


def polled(evidence: Evidence) -> str | None:
    values = evidence.numbers("polling")
    if values.get("frames") != FRAMES:
        printed = f"printed frames={values['frames']:g}" if "frames" in values else "did not print this line"
        return (
            f'Receive the first {FRAMES} frames by polling, and print "polling: frames={FRAMES} looks=...". The script '
            f"{printed}."
        )
    if values.get("looks", 0) < POLLING_LOOKS * FRAMES:
        return (
            f"Polling must have looked more often than {values.get('looks', 0):g} times: a frame comes every "
            f"{EVERY_S * 1e3:g} ms. Count every look, also one that finds nothing."
        )
    return None


def mapped(evidence: Evidence) -> str | None:
    ivar = evidence.last("IVAR")
    if not ivar & 0x80:
        other = evidence.instead("IVAR", 0)
        return f"IVAR[0].INT_ALLOC_VAL_0 was never set{other}: receive queue 0 has no vector (82599 8.2.3.5.16)."
    if ivar & 0x3F:
        return f"IVAR[0].INT_ALLOC_0 is {ivar & 0x3F}: the script has only vector 0 (82599 8.2.3.5.16)."
    return None


def msix(evidence: Evidence) -> str | None:
    asked = evidence.writes("GPIE")
    if not asked or not asked[-1].word.MSIX_MODE:
        return (
            "GPIE.MSIX_MODE was never set: the NIC uses one line for all causes and sends no messages (82599 "
            "8.2.3.5.18)."
        )
    if not asked[-1].word.EIAME:
        return (
            "GPIE.EIAME was not set: a message then does not mask its vector, and the next frame sends another "
            "message before the script has handled the first (82599 8.2.3.5.18)."
        )
    if not evidence.last("EIAC") & 1:
        return (
            "EIAC bit 0 is 0: the cause stays set after its message, and the same frame wakes the script again and "
            "again (82599 8.2.3.5.5)."
        )
    if not evidence.last("EIAM_EX") & 1:
        return "EIAM_EX[0] bit 0 is 0: its bits select the vectors that a message masks (82599 8.2.3.5.10)."
    return None


def armed(evidence: Evidence) -> str | None:
    arms = evidence.writes("EIMS_EX") + evidence.writes("EIMS")
    if not any(access.value & 1 for access in arms):
        return (
            "Bit 0 of EIMS_EX[0] was never set: after a reset all vectors are masked, so the NIC sends no message "
            "(82599 8.2.3.5.8)."
        )
    wakes = evidence.numbers("interrupts").get("wakes", 0)
    if wakes > len(arms):
        return (
            f"The script counted {wakes:g} wake-ups, but unmasked its vector {len(arms)} times. A message masks its "
            "vector (EIAM_EX), so there is one wake-up at most each time: count it once, and unmask before each sleep."
        )
    if len(arms) == 1 and not wakes:
        return (
            "The vector was unmasked once, and the script counted no wake-up. A message makes the eventfd readable, "
            "and select() then has it in its first list: read it, count the wake-up, and unmask the vector again "
            "(82599 8.2.3.5.8)."
        )
    return None


def slept(evidence: Evidence) -> str | None:
    values = evidence.numbers("interrupts")
    if values.get("frames") != FRAMES:
        printed = f"printed frames={values['frames']:g}" if "frames" in values else "did not print this line"
        return (
            f'Receive the second {FRAMES} frames by interrupts, and print "interrupts: frames={FRAMES} looks=... '
            f'wakes=...". The script {printed}. One message may stand for several frames: after a wake-up take and '
            "count all that are there."
        )
    looks, wakes = values.get("looks", 0), values.get("wakes", 0)
    if not 1 <= wakes <= FRAMES + 1:
        return (
            f"{FRAMES} frames cannot have caused {wakes:g} messages. Count a wake-up when the eventfd is readable, "
            "and read it then: until it is read, it stays readable."
        )
    if looks > 2 * (FRAMES + wakes):
        return (
            f"The script looked {looks:g} times for {FRAMES} frames: that is polling. Sleep in select() until the "
            "NIC sends a message."
        )
    return None


LAB = Lab("07", setup, (polled, mapped, msix, armed, slept))
