"""What the NIC reports about received frames, besides their bytes: read from the descriptors, and only on request.

A netmap slot holds only a length and flags. But slot k was filled by descriptor k, and the descriptor keeps what the
NIC wrote back until the slot is released and synced. Until then it can be read. Descriptors are the driver's own
memory, so another process that attached to the region cannot read them.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np
import numpy.typing as npt

L4I, IPCS, L4E, IPE, VP, TS = 1 << 5, 1 << 6, 1 << 30, 1 << 31, 1 << 3, 1 << 16  # status and errors (82599 7.1.6.2)
RSS_TYPE = 0xF


class Checksum(IntFlag):
    """What the NIC reports about a frame's checksums (82599 7.1.11).

    0 when it checked none, as for ARP or a UDP fragment. A frame with a wrong checksum is received all the same.

    ASSUMPTION (datasheet silent): silicon may report a UDP checksum of 0 ("no checksum") as wrong. Linux's ixgbe
    ignores L4_WRONG for UDP and cites an erratum of the 82599.
    """

    IP_CHECKED = 1
    IP_WRONG = 2
    L4_CHECKED = 4  # TCP or UDP
    L4_WRONG = 8


class Received:
    """A copy of what the NIC reports for each slot of a span.

    For a frame in several slots, only the report of the last slot is valid (7.1.6.2). Each array has shape (len,).
    Port.received() returns it.
    """

    def __init__(self, descriptors: npt.NDArray[np.uint64]) -> None:
        """descriptors: as the NIC wrote them back, shape (len, 2)."""
        self._first: npt.NDArray[np.uint64] = descriptors[:, 0].copy()
        self._second: npt.NDArray[np.uint64] = descriptors[:, 1].copy()

    def __len__(self) -> int:
        return len(self._second)

    def _has(self, bit: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (self._second & np.uint64(bit)).astype(np.bool_)
        return found

    @property
    def tagged(self) -> npt.NDArray[np.bool_]:
        """Whether the NIC stripped a VLAN tag (port.vlan.strip)."""
        return self._has(VP)

    @property
    def tci(self) -> npt.NDArray[np.uint16]:
        """The stripped tag: priority, DEI and, in its low 12 bits, the VLAN; 0 where none was stripped."""
        tags: npt.NDArray[np.uint16] = (self._second >> np.uint64(48)).astype(np.uint16)
        tags[~self.tagged] = 0
        return tags

    @property
    def stamped(self) -> npt.NDArray[np.bool_]:
        """Whether port.clock.received() returns the time stamp of this frame."""
        return self._has(TS)

    @property
    def checksums(self) -> npt.NDArray[np.uint8]:
        """Bits of Checksum."""
        found = np.zeros(len(self), np.uint8)
        for bit, meaning in (
            (IPCS, Checksum.IP_CHECKED),
            (IPE, Checksum.IP_WRONG),
            (L4I, Checksum.L4_CHECKED),
            (L4E, Checksum.L4_WRONG),
        ):
            found[self._has(bit)] |= np.uint8(meaning)
        return found

    @property
    def rss_type(self) -> npt.NDArray[np.uint8]:
        """What `rss_hash` covers: 0 nothing, 1 TCP/IPv4, 2 IPv4, 3 TCP/IPv6, 5 IPv6, 7 UDP/IPv4, 8 UDP/IPv6."""
        kinds: npt.NDArray[np.uint8] = (self._first & np.uint64(RSS_TYPE)).astype(np.uint8)
        return kinds

    @property
    def rss_hash(self) -> npt.NDArray[np.uint32]:
        """The Toeplitz hash that chose the queue."""
        hashes: npt.NDArray[np.uint32] = (self._first >> np.uint64(32)).astype(np.uint32)
        return hashes
