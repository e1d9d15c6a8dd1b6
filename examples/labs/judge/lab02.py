"""Lab 02: reset (82599 4.2.1, 4.6.3) and link (4.6.4)."""

from __future__ import annotations

from random import Random

from ixrings.hw.fields import AUTOC
from ixrings.hw.registers import Registers

from .evidence import Evidence, Lab, Setup
from .record import Access
from .shared import any_mac

TRAINING_S = 0.1
PROGRAMMABLE_S = 0.010  # 4.6.3.2
LMS_10G_SERIAL = 3
AUTOC_AFTER_RESET = next(row.reset for row in Registers.rows() if row.name == "AUTOC")


def setup(random: Random) -> Setup:
    return Setup(any_mac(random), link_up_s=TRAINING_S, awaited=True)


def reset_at(evidence: Evidence) -> Access | None:
    return evidence.set_at("CTRL", RST=1)


def masked_before(evidence: Evidence) -> str | None:
    reset, masked = reset_at(evidence), evidence.writes("EIMC")
    if not masked or (reset and evidence.position(masked[0]) > evidence.position(reset)):
        return (
            "EIMC was not written before the reset: the previous user of the NIC may have left interrupts enabled "
            "(82599 4.6.3.1)."
        )
    if not masked[0].value & 1 << 20:
        return (
            f"EIMC was written with {masked[0].value:#x}: every 1 masks a cause, so 0x7fffffff masks all (82599 "
            "8.2.3.5.4)."
        )
    return None


def was_reset(evidence: Evidence) -> str | None:
    if reset_at(evidence) is None:
        return "CTRL.RST was never set: the NIC still has the settings of its previous user (82599 4.2.1.6, 8.2.3.1.1)."
    return None


def waited(evidence: Evidence) -> str | None:
    reset = reset_at(evidence)
    assert reset is not None, "was_reset() found a reset"
    after = evidence.record[evidence.position(reset) + 1 :]
    first_look = next((access for access in after if not access.write and access.name == "CTRL"), None)
    first_write = next((access for access in after if access.write), None)
    for access, least_s, what in ((first_look, 0.001, "read again"), (first_write, PROGRAMMABLE_S, "programmed")):
        if access and access.at_s - reset.at_s < least_s:
            section = "8.2.3.1.1" if least_s < PROGRAMMABLE_S else "4.6.3.2"
            return (
                f"The NIC was {what} {(access.at_s - reset.at_s) * 1e3:.1f} ms after CTRL.RST was set "
                f"({access.label}); it must be left alone for {least_s * 1e3:.0f} ms (82599 {section})."
            )
    if not any(not access.write and access.name == "CTRL" and not access.word.RST for access in after):
        return "CTRL.RST was not read as 0 after the reset: the NIC clears it when the reset is done (82599 8.2.3.1.1)."
    return None


def masked_after(evidence: Evidence) -> str | None:
    reset = reset_at(evidence)
    assert reset is not None, "was_reset() found a reset"
    if not any(evidence.position(access) > evidence.position(reset) for access in evidence.writes("EIMC")):
        return "EIMC was not written again after the reset: the datasheet asks for it before and after (82599 4.6.3.1)."
    return None


def initialised(evidence: Evidence) -> str | None:
    reset = reset_at(evidence)
    assert reset is not None, "was_reset() found a reset"
    for name, field, section in (("EEC", "AUTO_RD", "8.2.3.2.1"), ("RDRXCTL", "DMAIDONE", "4.6.3")):
        ready = [
            access
            for access in evidence.reads(name)
            if getattr(access.word, field) and evidence.position(access) > evidence.position(reset)
        ]
        if not ready:
            return (
                f"{name}.{field} was not read as 1 after the reset: the NIC may still be initialising itself (82599 "
                f"{section})."
            )
    return None


def link_started(evidence: Evidence) -> str | None:
    started = next((access.word for access in evidence.writes("AUTOC") if access.word.RESTART_AN), None)
    if started is None:
        return "AUTOC.RESTART_AN was never set: it starts the link with the new settings (82599 4.6.4.2)."
    if started.LMS != LMS_10G_SERIAL:
        return (
            f"AUTOC.LMS was {started.LMS} when the link was started; 10 Gbit/s over SFP+ needs 3 (82599 "
            "8.2.3.22.19). update() keeps the other fields."
        )
    for access in evidence.writes("AUTOC"):
        lost = AUTOC(other_fields(last_value(evidence, access)) & ~access.value)
        if lost:
            names = ", ".join(name for name in AUTOC.fields if getattr(lost, name))
            return (
                f"AUTOC was written with {access.value:#010x}: that clears bits of {names}. In AUTOC every bit has a "
                "meaning; update() keeps the other fields (82599 8.2.3.22.19)."
            )
    return None


def other_fields(value: int) -> int:
    """AUTOC without the fields that the lab sets."""
    return AUTOC.compose("AUTOC", value, {"LMS": 0, "RESTART_AN": 0})


def last_value(evidence: Evidence, access: Access) -> int:
    """AUTOC before this write: what was read or written last, or its value after a reset."""
    before = evidence.record[: evidence.position(access)]
    return next((other.value for other in reversed(before) if other.name == "AUTOC"), AUTOC_AFTER_RESET)


def link_awaited(evidence: Evidence) -> str | None:
    if not evidence.reads("LINKS"):
        return "LINKS was never read: it shows whether the link is up (82599 8.2.3.22.20)."
    if evidence.seen_at("LINKS", LINK_UP=1) is None:
        last = evidence.reads("LINKS")[-1]
        return (
            f"LINKS.LINK_UP was still 0 at the script's last read (`{last}`). Training takes {TRAINING_S:g} s here, "
            "and seconds on a real cable: wait for it, with a bound."
        )
    return None


def speed_printed(evidence: Evidence) -> str | None:
    if evidence.printed("10 Gbit/s"):
        return None
    return (
        'The script did not print "10 Gbit/s": LINKS.SPEED is 3 for 10, 2 for 1 and 1 for 0.1 Gbit/s (82599 '
        "8.2.3.22.20)."
    )


LAB = Lab(
    "02",
    setup,
    (masked_before, was_reset, waited, masked_after, initialised, link_started, link_awaited, speed_printed),
)
