"""A frame's context: what the NIC changes in the frame when it sends it (82599 7.2.4, 7.2.5).

The NIC can insert a VLAN tag, fill in checksums, and segment a large frame into many.

    span = ring.reserve(2)
    span.flags[0], span.ptr[0] = SlotFlag.NS_CONTEXT, Context(vlan=5).word()
    span.len[1] = 60                                    # the frame, in as many slots as it needs
    ring.advance(2)

A context descriptor takes a place in the NIC's ring, and slot k is descriptor k. So a context has a slot of its own,
and frames without a context pay nothing. The slot keeps its buffer, which is not read; the sync that hands it over
clears the flag. One word serves all frames whose headers have the same lengths.

netmap's own way is a virtio-net header before the frame's bytes. It has no field for a VLAN tag, and the driver would
have to search every frame for its headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class L4(IntEnum):
    """L4T of a context descriptor: the protocol after IP."""

    UDP = 0
    TCP = 1
    SCTP = 2


@dataclass(frozen=True)
class Context:
    """The requests for one frame. Lengths are in bytes.

    vlan: the 16 bits of a tag to insert, None for no tag. ip_checksum: IPv4 only. l4_checksum: first the application
    writes the pseudo header's sum into the checksum field: the sum of addresses, protocol and, unless the frame is
    segmented, length (SCTP: any value). mss: payload bytes of a segment, 0 for no segmentation; with segmentation the
    NIC writes lengths, checksums, IP's identification, TCP's sequence number and flags. timestamp: the NIC notes the
    time of transmission (82599 7.9).

    Raises ValueError for a value that does not fit in the word. The sync raises RingError for a combination that the
    NIC cannot do.
    """

    mac_length: int = 14
    ip_length: int = 0
    l4_length: int = 0
    l4: L4 = L4.UDP
    ipv4: bool = True
    ip_checksum: bool = False
    l4_checksum: bool = False
    mss: int = 0
    vlan: int | None = None
    timestamp: bool = False

    def __post_init__(self) -> None:
        limits = (
            ("mac_length", self.mac_length, 0x7F),
            ("ip_length", self.ip_length, 0x1FF),
            ("l4_length", self.l4_length, 0xFF),
            ("mss", self.mss, 0xFFFF),
            ("vlan", self.vlan or 0, 0xFFFF),
        )
        for name, value, most in limits:
            if not 0 <= value <= most:
                raise ValueError(f"{name} is {value}; choose 0 to {most}")

    @property
    def headers(self) -> int:
        """Bytes before the payload."""
        return self.mac_length + self.ip_length + self.l4_length

    def word(self) -> int:
        """The ptr of a slot with NS_CONTEXT; context.h decodes it."""
        segmented = self.mss > 0
        requests = (
            (self.vlan is not None)
            | segmented << 1
            | (self.ip_checksum or (segmented and self.ipv4)) << 2
            | (self.l4_checksum or segmented) << 3
            | self.timestamp << 4
        )
        return (
            self.ip_length
            | self.mac_length << 9
            | (self.vlan or 0) << 16
            | self.ipv4 << 32
            | self.l4 << 33
            | requests << 35
            | self.l4_length << 40
            | self.mss << 48
        )
