"""Lab 01: configuration space, EEPROM, MAC address."""

from __future__ import annotations

from random import Random

from .evidence import Evidence, Lab, Setup
from .shared import any_mac

ONLY_ADDRESS = "the field RAH (bits 15:0) of RAH has the address bytes; bit 31 (AV) says that the entry is valid"


def setup(random: Random) -> Setup:
    return Setup(any_mac(random))


def identified(evidence: Evidence) -> str | None:
    if evidence.printed("8086:10fb"):
        return None
    return (
        "The script did not print which device it found. Read vendor and device ID from configuration space and "
        'print "8086:10fb" (82599 9.3.1, 9.3.2).'
    )


def answers(evidence: Evidence) -> str | None:
    if not evidence.reads("STATUS"):
        return (
            "STATUS was never read. It shows whether the NIC answers: a NIC that is gone reads as 0xffffffff (82599 "
            "8.2.3.1.2)."
        )
    return None


def eeprom_awaited(evidence: Evidence) -> str | None:
    ready, address = evidence.seen_at("EEC", AUTO_RD=1), next(iter(evidence.reads("RAL")), None)
    if ready is None:
        return (
            "EEC.AUTO_RD was never read as 1. Until it is 1, the NIC is still copying the EEPROM into its registers "
            "(82599 8.2.3.2.1)."
        )
    if address and evidence.position(address) < evidence.position(ready):
        return "RAL[0] was read before EEC.AUTO_RD was 1: the address may not have been copied yet (82599 8.2.3.2.1)."
    return None


def address_read(evidence: Evidence) -> str | None:
    for name, what in (("RAL", "the first four"), ("RAH", "the last two")):
        if not evidence.reads(name):
            others = any(access.name == name for access in evidence.record)
            return (
                f"{name}[0] was never read{', only another entry' if others else ''}. It has {what} bytes of the "
                "NIC's address (82599 8.2.3.7.8)."
            )
    return None


def address_printed(evidence: Evidence) -> str | None:
    mac = evidence.setup.mac
    if evidence.printed(mac.hex(":") + ":"):
        return f"The script printed more than six bytes: {ONLY_ADDRESS}."
    if evidence.printed(mac.hex(":")):
        return None
    low, high = mac[:4], mac[4:]
    if any(
        evidence.printed(wrong.hex(":"))
        for wrong in (mac[::-1], low[::-1] + high, low + high[::-1], low[::-1] + high[::-1])
    ):
        return (
            "The address is printed backwards: the lowest bits of RAL have the byte that is sent first (little-endian)."
        )
    if evidence.printed(mac[:4].hex(":")):
        return f"The address is {mac.hex(':')}; the last two bytes printed are wrong: {ONLY_ADDRESS}."
    return (
        f"The NIC's address is {mac.hex(':')}, but the script did not print it. It is in RAL[0] and RAH[0], and "
        "every NIC has its own."
    )


LAB = Lab("01", setup, (identified, answers, eeprom_awaited, address_read, address_printed))
