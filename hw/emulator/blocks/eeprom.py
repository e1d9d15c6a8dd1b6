"""The EEPROM (82599 6, 8.2.3.2): an image with a valid checksum and the NIC's MAC address.

EERD reads a word; EEC's bits are the wires of the chip (spi.py), by which drivers also write it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ... import fields as f
from .block import Block
from .spi import EepromChip

ABSENT = 0xFFFF
CHECKSUM_WORD = 0x3F
CHECKSUM = 0xBABA
SIGNATURE, SIGNATURE_MASK = 1 << 6, 3 << 6  # control word 1, bits 7:6 = 01b: the image is valid
LAN_CORE = 0x09  # pointer to the block with the MAC address, port 0
LAN_CORE_BLOCK = 0x40
SECTION_POINTERS = range(0x03, 0x0F)
FIRMWARE, FIRMWARE_BLOCK = 0x0F, 0x50
PBA_FLAG, PBA, PBA_BLOCK = 0x15, 0x16, 0x60
PBA_IS_TEXT = 0xFAFA
PHY_INIT, PHY_INIT_BLOCK = 0x2B, 0x80
DEVICE_CAPS = 0x2C
NO_FCOE = 1 << 1
IMAGE_ID = 0x2D  # low and high word of the number that identifies an image; bit 31 gives their order
SFP_KINDS = (3, 4, 5, 6)  # direct attach and SR/LR, each on port 0 and 1
CORE_SETTINGS = (0x0100,)  # values for CORECTL with this module; the analog core is not modelled


def words_of(ee_size: int) -> int:
    """The number of words that EEC.EE_SIZE stands for (8.2.3.2.1)."""
    return 1 << (ee_size + 6)


def checksum(words: Sequence[int]) -> int:
    """The sum of words 0x00..0x3F and of the sections that words 0x03..0x0E point to; 0xBABA is right (6.2)."""
    total = sum(words[: CHECKSUM_WORD + 1])
    for pointer in (words[at] for at in SECTION_POINTERS):
        if pointer in (0, ABSENT):
            continue
        length = words[pointer]
        if length not in (0, ABSENT):
            total += sum(words[pointer + 1 : pointer + 1 + length])
    return total & 0xFFFF


def image(mac: bytes, size: int) -> list[int]:
    """An EEPROM of `size` 16-bit words for a port with that MAC address."""
    words = [ABSENT] * size
    words[0x00] = SIGNATURE
    for at in range(0x01, LAN_CORE_BLOCK):
        words[at] = 0 if at <= 0x0F else ABSENT
    words[LAN_CORE] = LAN_CORE_BLOCK
    words[LAN_CORE_BLOCK : LAN_CORE_BLOCK + 9] = [8, *(mac[at] | mac[at + 1] << 8 for at in (0, 2, 4)), 0, 0, 0, 0, 0]
    put_firmware(words)
    put_name(words, "000000-000")
    put_phy_init(words)
    words[DEVICE_CAPS] = NO_FCOE
    words[IMAGE_ID : IMAGE_ID + 2] = [0x0001, 0x8000]
    words[CHECKSUM_WORD] = 0
    words[CHECKSUM_WORD] = (CHECKSUM - checksum(words)) & 0xFFFF
    return words


def put_firmware(words: list[int]) -> None:
    """A firmware module with patch version 6: Linux regards a board with an older patch as pre-production."""
    patch = FIRMWARE_BLOCK + 6
    words[FIRMWARE] = FIRMWARE_BLOCK
    words[FIRMWARE_BLOCK : FIRMWARE_BLOCK + 6] = [5, 0, ABSENT, 0, patch, 0]
    words[patch : patch + 8] = [7, 0, 0, 0, 0, 0, 0, 6]


def put_name(words: list[int], assembly: str) -> None:
    """The board's assembly number as text, two characters a word, the first in the high byte."""
    text = assembly.encode() + b"\0" * (len(assembly) % 2)
    characters = [text[at] << 8 | text[at + 1] for at in range(0, len(text), 2)]
    words[PBA_FLAG : PBA_FLAG + 2] = [PBA_IS_TEXT, PBA_BLOCK]
    words[PBA_BLOCK : PBA_BLOCK + len(characters) + 1] = [len(characters) + 1, *characters]


def put_phy_init(words: list[int]) -> None:
    """A list of {kind of module, address of its settings}; drivers refuse a kind that is not in it."""
    settings = PHY_INIT_BLOCK + 2 * len(SFP_KINDS) + 2
    words[PHY_INIT] = PHY_INIT_BLOCK
    entries = [number for kind in SFP_KINDS for number in (kind, settings)]
    words[PHY_INIT_BLOCK : PHY_INIT_BLOCK + len(entries) + 2] = [len(entries), *entries, ABSENT]
    words[settings : settings + len(CORE_SETTINGS) + 2] = [len(CORE_SETTINGS), *CORE_SETTINGS, ABSENT]


class Eeprom(Block):
    """EEC, EERD, and the MAC address that auto-read loads."""

    words: list[int]
    _chip: EepromChip

    def load(self, mac: bytes) -> None:
        self.words = image(mac, words_of(self.raw.EEC.read().EE_SIZE))
        self._chip = EepromChip(self.words)

    def flip_checksum(self) -> None:
        """Make the checksum wrong, or right again."""
        self.words[CHECKSUM_WORD] ^= 1

    def reset(self) -> None:
        """Auto-read: with a valid image, MAC address 0 is the one in the EEPROM (8.2.3.7.9)."""
        self._chip.drive(selected=False, clock=False, data=0)
        valid = self.words[0] & SIGNATURE_MASK == SIGNATURE
        self.raw.EEC.update(EE_PRES=int(valid))
        if valid:
            low, middle, high = (self._word(self._word(LAN_CORE) + at) for at in (1, 2, 3))
            self.raw.RAL[0].write(low | middle << 16)
            self.raw.RAH[0].write(RAH=high, AV=1)
        self.engine.call("nic_addresses_changed")

    def _word(self, address: int) -> int:
        """After the end of the image the chip reads erased words."""
        return self.words[address] if address < len(self.words) else ABSENT

    def write_EEC(self, index: int, value: int) -> None:
        asked = f.EEC(value)
        self._chip.drive(selected=bool(asked.EE_REQ and not asked.EE_CS), clock=bool(asked.EE_SK), data=asked.EE_DI)
        # Granted at once: no other function uses the EEPROM.
        kept = self.raw.EEC.read() & ~self.raw.EEC.row.mask
        self.raw.EEC.write(kept | value & self.raw.EEC.row.mask, EE_GNT=asked.EE_REQ, EE_DO=self._chip.output)

    def write_EERD(self, index: int, value: int) -> None:
        asked = f.EERD(value)
        if asked.START:
            self.raw.EERD.write(ADDR=asked.ADDR, DATA=self._word(asked.ADDR), DONE=1)
