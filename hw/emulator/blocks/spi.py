"""The EEPROM chip on its four wires, bit by bit: the commands that EEPROMs of the AT25 kind have in common.

The chip samples data at rising clock edges and changes its output at falling edges. The first byte is the command;
bit 3 of READ and WRITE may be bit 8 of an address, which chips with an address of one byte need and this one ignores.
"""

from __future__ import annotations

WRITE, READ, WRITE_DISABLE, READ_STATUS, WRITE_ENABLE = 2, 3, 4, 5, 6
ADDRESS_BIT_8 = 1 << 3
WRITE_ENABLED = 1 << 1  # in the status byte; bit 0, "busy", stays 0: a write ends at once
ADDRESS_BYTES = 2
PAGE = 64  # bytes; an address that a write counts up wraps within its page


class EepromChip:
    """words: its contents, 16 bits each, the low byte first. output: the data line to the NIC."""

    def __init__(self, words: list[int]) -> None:
        self.words = words
        self.output = 0
        self._selected = self._clock = self._write_enabled = False
        self._begin()

    def _begin(self) -> None:
        self._shift = self._bits = 0
        self._head = bytearray()  # the command and its address
        self._moved = 0  # bytes of data after the head
        self._page: dict[int, int] = {}  # bytes to be written, by their place in the page
        self._sends: int | None = None  # the byte that goes out

    def drive(self, *, selected: bool, clock: bool, data: int) -> None:
        """The NIC's lines have changed. selected: the select line, which is low then."""
        if selected != self._selected:
            if not selected:
                self._end()
            self._begin()
            self._selected = selected
        elif selected and clock and not self._clock:
            self._rise(data)
        elif selected and self._clock and not clock and self._sends is not None:
            self.output = self._sends >> (7 - self._bits) & 1
        self._clock = clock

    def _rise(self, data: int) -> None:
        self._shift = (self._shift << 1 | data) & 0xFF
        self._bits = (self._bits + 1) % 8
        if self._bits:
            return
        if len(self._head) <= ADDRESS_BYTES and self._sends is None:
            self._head.append(self._shift)
        elif self._command == WRITE:
            self._page[(self._address + self._moved) % PAGE] = self._shift
            self._moved += 1
        self._sends = self._next_byte()

    @property
    def _command(self) -> int:
        command = self._head[0] if self._head else 0
        return command & ~ADDRESS_BIT_8 if command & ~ADDRESS_BIT_8 in (READ, WRITE) else command

    @property
    def _address(self) -> int:
        return int.from_bytes(self._head[1:], "big")

    def _next_byte(self) -> int | None:
        """The byte that the chip sends next; None while it listens."""
        if self._command == READ_STATUS:
            return WRITE_ENABLED * self._write_enabled
        if self._command != READ or len(self._head) <= ADDRESS_BYTES:
            return None
        address = self._address + self._moved
        self._moved += 1
        return self.words[address // 2 % len(self.words)] >> 8 * (address % 2) & 0xFF

    def _end(self) -> None:
        """The driver has released chip select: the command takes effect."""
        if self._command in (WRITE_ENABLE, WRITE_DISABLE):
            self._write_enabled = self._command == WRITE_ENABLE
        elif self._command == WRITE and self._write_enabled:
            self._write_enabled = False
            for place, byte in self._page.items():
                address = self._address // PAGE * PAGE + place
                at, shift = address // 2 % len(self.words), 8 * (address % 2)
                self.words[at] = self.words[at] & ~(0xFF << shift) | byte << shift
