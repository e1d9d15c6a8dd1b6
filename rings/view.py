"""A netmap_if whose rings belong to other interfaces: what one open of a shared port sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .layout import RESERVED_BUFFERS, first_words


class View:
    """The netmap_if at `offset` (netmap's nr_offset), made by Region.view(). A program may write to it at any time."""

    def __init__(self, offset: int, header: npt.NDArray[np.void], buffers: npt.NDArray[np.uint8]) -> None:
        self.offset = offset
        self._header, self._buffers = header, buffers

    @property
    def bufs_head(self) -> int:
        """The first of the extra buffers, 0 for none."""
        return int(self._header["ni_bufs_head"][0])

    @bufs_head.setter
    def bufs_head(self, index: int) -> None:
        self._header["ni_bufs_head"] = index

    def extra_buffers(self, most: int) -> list[int]:
        """The list at ni_bufs_head, as far as it is valid, and at most `most` buffers of it."""
        chain: list[int] = []
        seen: set[int] = set()
        index, words = self.bufs_head, first_words(self._buffers)
        while RESERVED_BUFFERS <= index < len(self._buffers) and index not in seen and len(chain) < most:
            chain.append(index)
            seen.add(index)
            index = words.item(index)
        return chain
