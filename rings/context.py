"""What the NIC is to do to a frame on its way out: put in a VLAN tag and checksums, cut a large one into many (82599 7.2.4, 7.2.5).

    span = ring.reserve(2)
    span.flags[0], span.ptr[0] = SlotFlag.NS_CONTEXT, Context(vlan=5).word()
    span.len[1] = 60                                    # the frame, in as many slots as it needs
    ring.advance(2)

netmap's own way, a virtio-net header in front of the bytes, has no word for VLANs and leaves the headers to be searched for in every frame.
A context descriptor takes a place in the NIC's ring, and slot k is descriptor k; so it gets a slot, and other frames pay nothing. The slot
keeps its buffer, unread; the flag is cleared when it was handed over. A word may be reused for all frames with headers of the same lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class L4(IntEnum):
    """L4T of a context descriptor."""

    UDP = 0
    TCP = 1
    SCTP = 2


@dataclass(frozen=True)
class Context:
    """Lengths in bytes. Raises ValueError for what the word has no room for; the sync raises RingError for what makes no sense.

    vlan: the tag's 16 bits, to be put in. ip_checksum: IPv4 only. l4_checksum: the pseudo header's sum has to stand in the field (for SCTP:
    anything), of the addresses and the protocol, and of the length unless the frame is cut. mss: bytes of payload after which to cut,
    0 not to; lengths, checksums, IP's identification, TCP's sequence number and flags are then seen to by the NIC. timestamp: the NIC notes
    when the frame leaves (82599 7.9).
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
                raise ValueError(f"{name} is {value}; a context has room for 0 to {most}")

    @property
    def headers(self) -> int:
        """Bytes in front of the payload."""
        return self.mac_length + self.ip_length + self.l4_length

    def word(self) -> int:
        """For the ptr of a slot with NS_CONTEXT; context.h takes it apart."""
        cut = self.mss > 0
        wishes = (
            (self.vlan is not None)
            | cut << 1
            | (self.ip_checksum or (cut and self.ipv4)) << 2
            | (self.l4_checksum or cut) << 3
            | self.timestamp << 4
        )
        return (
            self.ip_length
            | self.mac_length << 9
            | (self.vlan or 0) << 16
            | self.ipv4 << 32
            | self.l4 << 33
            | wishes << 35
            | self.l4_length << 40
            | self.mss << 48
        )
