"""The SFP+ module: the content of its memory (SFF-8472), read over the two-wire bus of the cage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers

from .i2c import I2c, NotAcknowledged
from .semaphores import phy_of_port

IDENTITY, DIAGNOSTICS = 0xA0, 0xA2  # bus addresses
IDENTITY_SIZE = 96  # bytes that every module has
CHECK_BASE, CHECK_EXTENDED = 63, 95
MONITORING, MONITORED, EXTERNAL_CALIBRATION = 92, 1 << 6, 1 << 4
MEASURED, MEASURED_SIZE = 96, 10
IDENTIFIERS = {0x02: "soldered to the board", 0x03: "SFP or SFP+"}
OPTICAL_PIGTAIL, RJ45 = 0x0B, 0x22
CONNECTORS = {
    0x01: "SC",
    0x07: "LC",
    OPTICAL_PIGTAIL: "optical pigtail",
    0x21: "copper pigtail",
    RJ45: "RJ45",
    0x23: "none",
}
TYPES_10G = {4: "10GBASE-SR", 5: "10GBASE-LR", 6: "10GBASE-LRM", 7: "10GBASE-ER"}  # bit of byte 3
TYPES_1G = {  # bit of byte 6
    0: "1000BASE-SX",
    1: "1000BASE-LX",
    2: "1000BASE-CX",
    3: "1000BASE-T",
    4: "100BASE-LX",
    5: "100BASE-FX",
    6: "BASE-BX10",
    7: "BASE-PX",
}
CABLES = {2: "passive direct attach", 3: "active direct attach"}  # bit of byte 8
ACTIVE_OPTICAL = "active optical cable"
TYPES_EXTENDED = {  # byte 36 (SFF-8024 table 4-4)
    0x01: ACTIVE_OPTICAL,
    0x18: ACTIVE_OPTICAL,
    0x16: "10GBASE-T",
    0x1C: "10GBASE-T, short reach",
    0x1D: "5GBASE-T",
    0x1E: "2.5GBASE-T",
}
# Byte -> medium, and the metres that its unit stands for.
LENGTHS = {
    14: ("single mode fibre", 1000),
    16: ("OM2 fibre", 10),
    17: ("OM1 fibre", 10),
    18: ("OM4 fibre", 10),
    19: ("OM3 fibre", 10),
}


@dataclass(frozen=True)
class Diagnostics:
    """What an optical module measures (SFF-8472 9). Powers are in mW; dbm() converts to the usual unit."""

    temperature_c: float
    supply_v: float
    bias_ma: float
    tx_power_mw: float
    rx_power_mw: float


@dataclass(frozen=True)
class Module:
    """The module in the cage. types: such as "10GBASE-SR". lengths_m: its reach, for each kind of fibre or cable.

    wavelength_nm: 0 for copper. diagnostics: None if the module measures nothing, or needs external calibration, which
    is not implemented. doubts: sentences about what is wrong in the memory, and about a type that had to be guessed.
    """

    identifier: str
    types: tuple[str, ...]
    connector: str
    vendor: str
    oui: str
    part: str
    revision: str
    serial: str
    date: str
    wavelength_nm: int
    lengths_m: Mapping[str, int] = field(default_factory=dict)
    diagnostics: Diagnostics | None = None
    doubts: tuple[str, ...] = ()


def read_module(nic: Registers) -> Module | None:
    """Read the module; None for an empty cage. Raises DeviceError if it sends no data, or the bus is not available."""
    with phy_of_port(nic):
        bus = I2c(nic)
        try:
            page = bus.read(IDENTITY, 0, IDENTITY_SIZE)
        except NotAcknowledged:
            return None
        if len(set(page)) == 1:
            raise DeviceError(
                f"the module answers, but every byte of its memory is {page[0]:#04x}. Remove it and insert it again"
            )
        doubts = list(wrong_sums(page))
        measured = None
        if page[MONITORING] & MONITORED and not page[MONITORING] & EXTERNAL_CALIBRATION:
            try:
                measured = diagnostics(bus)
            except NotAcknowledged:
                doubts.append("byte 92 announces measurements, but nothing answers at address 0xa2")
        return identity(page, measured, doubts)


def wrong_sums(page: bytes) -> Iterator[str]:
    """The two checksums of the identity page. Many modules were never given the right one, and work."""
    for start, check in ((0, CHECK_BASE), (CHECK_BASE + 1, CHECK_EXTENDED)):
        if sum(page[start:check]) & 0xFF != page[check]:
            yield f"bytes {start} to {check - 1} do not add up to byte {check}: written so, or read with errors"


def identity(page: bytes, measured: Diagnostics | None, doubts: Iterable[str]) -> Module:
    """Decode the identity page (SFF-8472 tables 4-1 and 5-3 to 6-1)."""
    cables = named_bits(page[8], CABLES)
    types, guesses = module_types(page)
    return Module(
        identifier=IDENTIFIERS.get(page[0], f"identifier {page[0]:#04x}"),
        types=types,
        connector=CONNECTORS.get(page[2], f"connector {page[2]:#04x}"),
        vendor=text(page[20:36]),
        oui=page[37:40].hex(":"),
        part=text(page[40:56]),
        revision=text(page[56:60]),
        serial=text(page[68:84]),
        date=date(text(page[84:92])),
        # for a cable, these bytes are its compliance code
        wavelength_nm=0 if cables else int.from_bytes(page[60:62], "big"),
        lengths_m=lengths(page, types),
        diagnostics=measured,
        doubts=(*doubts, *guesses),
    )


def lengths(page: bytes, types: Iterable[str]) -> dict[str, int]:
    """Reach in metres. Of a cable, byte 18 is its own length."""
    media = dict(LENGTHS)
    if ACTIVE_OPTICAL in types:
        media[18] = ("fibre of its own", 1)
    elif page[2] == RJ45 or any(each.endswith("direct attach") for each in types):
        media[18] = ("copper cable", 1)
    return {name: page[at] * metres for at, (name, metres) in media.items() if page[at]}


def module_types(page: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of what the module is, and a sentence for each name that its codes do not give.

    10GBASE-T modules and active optical cables are younger than the codes of bytes 3 to 8. Older ones have the codes of
    another type, or none; the connector tells them apart.
    """
    named = named_bits(page[3], TYPES_10G) + named_bits(page[6], TYPES_1G) + named_bits(page[8], CABLES)
    extended = TYPES_EXTENDED.get(page[36])
    if extended:
        return (*(each for each in named if not each.startswith("active")), extended), ()
    guess = "{} is a guess from the connector; the codes give: " + (", ".join(named) or "none")
    if page[2] == RJ45 and "1000BASE-T" not in named:
        return ("10GBASE-T",), (guess.format("10GBASE-T"),)
    if page[2] == OPTICAL_PIGTAIL and "passive direct attach" not in named:
        return (ACTIVE_OPTICAL,), (guess.format(ACTIVE_OPTICAL),)
    if named:
        return named, ()
    return (), (f"the codes give no type; byte 12 gives a bit rate of {page[12] / 10:g} Gbit/s",)


def named_bits(byte: int, names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(name for position, name in names.items() if byte >> position & 1)


def text(field_of_page: bytes) -> str:
    """ASCII without its padding. Other characters become `?`, so that they cannot disturb a terminal."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in field_of_page.rstrip(b" \0"))


def date(code: str) -> str:
    """`260101`, perhaps followed by a lot code, becomes 2026-01-01."""
    return f"20{code[:2]}-{code[2:4]}-{code[4:6]}" if code[:6].isdigit() and len(code) >= 6 else code


def diagnostics(bus: I2c) -> Diagnostics:
    """Read the measurements of an internally calibrated module (SFF-8472 9.4; 1/256 degree, 100 uV, 2 uA, 0.1 uW)."""
    values = bus.read(DIAGNOSTICS, MEASURED, MEASURED_SIZE)
    temperature, supply, bias, tx, rx = (
        int.from_bytes(values[at : at + 2], "big", signed=at == 0) for at in range(0, MEASURED_SIZE, 2)
    )
    return Diagnostics(temperature / 256, supply / 10_000, bias / 500, tx / 10_000, rx / 10_000)


def dbm(power_mw: float) -> float:
    """mW to dBm; -inf for 0 mW."""
    return 10 * math.log10(power_mw) if power_mw > 0 else -math.inf
