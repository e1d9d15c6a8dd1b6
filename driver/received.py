"""What the NIC found out about received frames, beside their bytes: read where it wrote it, so that frames nobody asks about cost nothing.

A netmap slot has a length and flags only. But slot k was filled by descriptor k, and that stays as the NIC wrote it back until the slot
has been released and synced: until then it can be looked up. Descriptors are the driver's own memory, so another process that
attached to the region cannot.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np
import numpy.typing as npt

L4I, IPCS, L4E, IPE, VP, TS = 1 << 5, 1 << 6, 1 << 30, 1 << 31, 1 << 3, 1 << 16  # status and errors (82599 7.1.6.2)
RSS_TYPE = 0xF


class Checksum(IntFlag):
    """What the NIC says of a frame's checksums (82599 7.1.11); 0 when it looked at none, as for ARP or a fragment's UDP.

    A wrong one does not keep a frame from coming. ASSUMPTION: silicon may call a UDP checksum of 0, which is none, wrong: Linux's ixgbe
    does not believe L4_WRONG of UDP, and names an erratum of the 82599.
    """

    IP_CHECKED = 1
    IP_WRONG = 2
    L4_CHECKED = 4  # TCP or UDP
    L4_WRONG = 8


class Received:
    """Of each slot of a span, a copy; of a frame in several slots what the last one says holds (7.1.6.2).

    Each array has shape (len,). Made by Port.received().
    """

    def __init__(self, descriptors: npt.NDArray[np.uint64]) -> None:
        """descriptors: as they were written back, shape (len, 2)."""
        self._first: npt.NDArray[np.uint64] = descriptors[:, 0].copy()
        self._second: npt.NDArray[np.uint64] = descriptors[:, 1].copy()

    def __len__(self) -> int:
        return len(self._second)

    def _has(self, bit: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (self._second & np.uint64(bit)).astype(np.bool_)
        return found

    @property
    def tagged(self) -> npt.NDArray[np.bool_]:
        """Whether a VLAN tag was taken out of the frame (port.vlan.strip)."""
        return self._has(VP)

    @property
    def tci(self) -> npt.NDArray[np.uint16]:
        """The tag that was taken out: priority, DEI and, in its low 12 bits, the VLAN; 0 where there was none."""
        tags: npt.NDArray[np.uint16] = (self._second >> np.uint64(48)).astype(np.uint16)
        tags[~self.tagged] = 0
        return tags

    @property
    def stamped(self) -> npt.NDArray[np.bool_]:
        """Whether it is the frame that port.clock.received() tells of."""
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
        """What `rss_hash` is of: 0 nothing, 1 TCP and 2 IP of version 4, 3 TCP and 5 IP of version 6, 7 UDP of version 4, 8 of 6."""
        kinds: npt.NDArray[np.uint8] = (self._first & np.uint64(RSS_TYPE)).astype(np.uint8)
        return kinds

    @property
    def rss_hash(self) -> npt.NDArray[np.uint32]:
        """The Toeplitz hash by which the queue was chosen."""
        hashes: npt.NDArray[np.uint32] = (self._first >> np.uint64(32)).astype(np.uint32)
        return hashes
