"""The memory of an SFP+ module on its two-wire bus, bit by bit (SFF-8472 4).

Both wires are open drain: a line is high when neither end pulls it low. The module answers at one or more bus
addresses, each of 256 bytes; it never stretches the clock.
"""

from __future__ import annotations

from collections.abc import Mapping


class Module:
    """The responder: it samples data at rising clock edges and changes the data line at falling edges.

    pages: 256 bytes for each bus address. pulls_low: the module holds the data line low.
    """

    def __init__(self, pages: Mapping[int, bytes]) -> None:
        self._pages = {address: bytearray(page) for address, page in pages.items()}
        self._page: bytearray | None = None
        self._at = 0  # offset of the byte that the next read returns
        self._idle()

    def _idle(self) -> None:
        self._shift = self._bits = 0
        self._state = "idle"  # idle, address, offset, write, read
        self._acknowledging = ""  # "+": the module acknowledges next, "-": the master does
        self.pulls_low = False

    def put(self, address: int, offset: int, value: int) -> None:
        """Set two bytes that the module measures; without such a page this does nothing."""
        if address in self._pages:
            self._pages[address][offset : offset + 2] = value.to_bytes(2, "big")

    def start(self) -> None:
        """A START: data fell while the clock was high."""
        self._idle()
        self._state = "address"

    def stop(self) -> None:
        """A STOP: data rose while the clock was high."""
        self._idle()

    def rise(self, data: bool) -> None:
        if self._acknowledging == "-":
            if data:  # the master has read enough
                self._state = "idle"
        elif not self._acknowledging and self._state in ("address", "offset", "write"):
            self._shift = self._shift << 1 | data
            self._bits += 1

    def fall(self) -> None:
        if self._state == "idle":
            self.pulls_low = False
        elif self._state == "read":
            self._next_bit_out()
        elif self._acknowledging:
            self._acknowledging, self.pulls_low = "", False
            if self._state == "address" and self._reading:
                self._state = "read"
                self._load()
            elif self._state == "address":
                self._state = "offset"
            elif self._state == "offset":
                self._state = "write"
        elif self._bits == 8:
            self._byte_in()

    # ---- master to module ----

    _reading = False

    def _byte_in(self) -> None:
        byte, self._shift, self._bits = self._shift, 0, 0
        if self._state == "address":
            self._page, self._reading = self._pages.get(byte & 0xFE), bool(byte & 1)
            if self._page is None:
                self._state = "idle"
                return
        elif self._state == "offset":
            self._at = byte
        elif self._page is not None:
            self._page[self._at] = byte
            self._at = (self._at + 1) % 256
        self._acknowledging, self.pulls_low = "+", True

    # ---- module to master ----

    def _load(self) -> None:
        assert self._page is not None
        self._shift = self._page[self._at]
        self._at = (self._at + 1) % 256
        self._bits = 8
        self._next_bit_out()

    def _next_bit_out(self) -> None:
        if self._acknowledging == "-":  # the master wants more
            self._acknowledging = ""
            self._load()
        elif self._bits:
            self._bits -= 1
            self.pulls_low = not self._shift >> self._bits & 1
        else:
            self._acknowledging, self.pulls_low = "-", False
