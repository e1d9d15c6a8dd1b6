"""One slot of a ring, as `for slot in span` gives it: for prompts and rare work. Batches use a span's arrays."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from .layout import SlotFlag


class OfRing(Protocol):
    """What a slot needs of its ring."""

    @property
    def slots(self) -> npt.NDArray[np.void]: ...
    @property
    def buffers(self) -> npt.NDArray[np.uint8]: ...


class Slot:
    """Slot `index` of a ring. Valid as long as its span. buf_idx, len, flags and ptr may be set."""

    __slots__ = ("_ring", "index")

    def __init__(self, ring: OfRing, index: int) -> None:
        self._ring = ring
        self.index = index

    @property
    def buf_idx(self) -> int:
        """The buffer that the slot has. To swap buffers, store another index and set NS_BUF_CHANGED."""
        return int(self._ring.slots["buf_idx"][self.index])

    @buf_idx.setter
    def buf_idx(self, buffer: int) -> None:
        self._ring.slots["buf_idx"][self.index] = buffer

    @property
    def len(self) -> int:
        """Bytes of the frame, or of its part in this slot."""
        return int(self._ring.slots["len"][self.index])

    @len.setter
    def len(self, length: int) -> None:
        self._ring.slots["len"][self.index] = length

    @property
    def flags(self) -> SlotFlag:
        return SlotFlag(int(self._ring.slots["flags"][self.index]))

    @flags.setter
    def flags(self, flags: int) -> None:
        self._ring.slots["flags"][self.index] = int(flags)

    @property
    def ptr(self) -> int:
        return int(self._ring.slots["ptr"][self.index])

    @ptr.setter
    def ptr(self, word: int) -> None:
        self._ring.slots["ptr"][self.index] = word

    @property
    def buffer(self) -> npt.NDArray[np.uint8]:
        """The whole buffer, uint8, shape (buf_size,): the bytes themselves, not a copy. Raises IndexError."""
        found: npt.NDArray[np.uint8] = self._ring.buffers[self.buf_idx]
        return found

    def __repr__(self) -> str:
        flags = f", {self.flags!r}" if self.flags else ""
        return f"<Slot {self.index}: buf_idx {self.buf_idx}, len {self.len}{flags}>"
