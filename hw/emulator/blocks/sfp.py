"""SFP+ modules: the contents of their memory (SFF-8472, pages A0h and A2h)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

A0, A2 = 0xA0, 0xA2
IDENTIFIER, EXTENDED, CONNECTOR, COMPLIANCE_10G, COMPLIANCE_1G, CABLE = 0, 1, 2, 3, 6, 8
ENCODING, RATE_100M = 11, 12
LENGTH_SINGLE_MODE_KM, LENGTH_OM2_10M, LENGTH_OM1_10M, LENGTH_CABLE_M, LENGTH_OM3_10M = 14, 16, 17, 18, 19
VENDOR, OUI, PART, REVISION, WAVELENGTH, CHECK_BASE = 20, 37, 40, 56, 60, 63
SERIAL, DATE, MONITORING, SFF_8472, CHECK_EXTENDED = 68, 84, 92, 94, 95
MONITORED_AVERAGE_POWER = 0x68  # measures, calibrated internally, average power (8.8)
REVISION_11_3 = 6  # of SFF-8472 (8.12); Linux and ethtool read no measurements from a module with 0
MEASURED, TX_POWER, RX_POWER = 96, 102, 104  # on page A2h (9.4)
AS_USUAL = (9088, 33_000, 3_000, 5_800, 5_100)  # 35.5 C, 3.3 V, 6 mA, 0.58 mW sent, 0.51 mW received
SFP, MANAGED_BY_ID, LC, COPPER_PIGTAIL, CODE_64B66B = 0x03, 0x04, 0x07, 0x21, 0x06
INTEL_OUI = bytes([0x00, 0x1B, 0x21])  # the only vendor of optics that Linux accepts by default


@dataclass(frozen=True)
class Kind:
    """What differs between modules. lengths: (offset in page A0h, value)."""

    compliance_10g: int
    cable: int
    connector: int
    vendor: str
    oui: bytes
    part: str
    wavelength_nm: int = 0
    lengths: tuple[tuple[int, int], ...] = ()


class SfpModule(Enum):
    """A module that can be in the cage of an emulated 82599."""

    SR = Kind(
        0x10,
        0,
        LC,
        "Intel Corp",
        INTEL_OUI,
        "IXRINGS-SR",
        850,
        ((LENGTH_OM2_10M, 8), (LENGTH_OM1_10M, 3), (LENGTH_OM3_10M, 30)),
    )
    LR = Kind(0x20, 0, LC, "Intel Corp", INTEL_OUI, "IXRINGS-LR", 1310, ((LENGTH_SINGLE_MODE_KM, 10),))
    DIRECT_ATTACH = Kind(
        0, 0x04, COPPER_PIGTAIL, "ixrings", bytes([0x02, 0x82, 0x59]), "IXRINGS-DA", 0, ((LENGTH_CABLE_M, 3),)
    )
    FOREIGN_SR = Kind(
        0x10, 0, LC, "Someone else", bytes([0x02, 0x82, 0x59]), "SOMEONES-SR", 850, ((LENGTH_OM3_10M, 30),)
    )

    def pages(self) -> dict[int, bytes]:
        """256 bytes for each bus address that the module answers."""
        kind = self.value
        page = bytearray(256)
        page[IDENTIFIER], page[EXTENDED], page[CONNECTOR] = SFP, MANAGED_BY_ID, kind.connector
        page[COMPLIANCE_10G], page[CABLE], page[ENCODING], page[RATE_100M] = (
            kind.compliance_10g,
            kind.cable,
            CODE_64B66B,
            103,
        )
        for offset, length in kind.lengths:
            page[offset] = length
        for offset, width, text in (
            (VENDOR, 16, kind.vendor),
            (PART, 16, kind.part),
            (REVISION, 4, "1"),
            (SERIAL, 16, "1"),
            (DATE, 8, "260101"),
        ):
            page[offset : offset + width] = text.encode().ljust(width)
        page[OUI : OUI + 3] = kind.oui
        page[WAVELENGTH : WAVELENGTH + 2] = kind.wavelength_nm.to_bytes(2, "big")
        if kind.wavelength_nm:
            page[MONITORING], page[SFF_8472] = MONITORED_AVERAGE_POWER, REVISION_11_3
        page[CHECK_BASE] = sum(page[:CHECK_BASE]) & 0xFF
        page[CHECK_EXTENDED] = sum(page[CHECK_BASE + 1 : CHECK_EXTENDED]) & 0xFF
        return {A0: bytes(page), A2: measurements()} if kind.wavelength_nm else {A0: bytes(page)}


def measurements() -> bytes:
    """Page A2h: what an optical module measures. The alarm thresholds are 0."""
    page = bytearray(256)
    for number, value in enumerate(AS_USUAL):
        page[MEASURED + 2 * number : MEASURED + 2 * number + 2] = value.to_bytes(2, "big")
    return bytes(page)
