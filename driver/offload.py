"""Offloads for frames as bytes: port.send(..., offload=Offload(...)) (82599 7.2.4, 7.2.5).

This module finds the headers of a frame in Python, and sets their fields to what the NIC expects. A program that fills
rings itself knows its headers. It writes a rings.Context before each frame, or one Context before all of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from ixrings.rings import L4, Context

from .checks import require_fields
from .ip_headers import (
    IPV4_HEADER,
    IPV6_HEADER,
    Upper,
    be16,
    pseudo_header,
    refused,
    upper_of_ipv4,
    upper_of_ipv6,
)

ADDRESSES = 12
TAGS = (0x8100, 0x88A8)
IPV4, IPV6 = 0x0800, 0x86DD
CARRIERS = {0x8847: "MPLS", 0x8848: "MPLS", 0x8864: "PPPoE"}  # EtherTypes that IP may follow
PROTOCOLS = {6: L4.TCP, 17: L4.UDP, 132: L4.SCTP}
L4_HEADER = {L4.TCP: 20, L4.UDP: 8, L4.SCTP: 12}
UDP_LENGTH = 4
L4_CHECKSUM = {L4.TCP: 16, L4.UDP: 6, L4.SCTP: 8}  # offset of the field


@dataclass(frozen=True)
class Offload:
    """What the NIC does to each frame of a send. Raises ValueError for values out of range.

    vlan: 0..4094, the VLAN of the tag that the NIC inserts, with `priority` 0..7.
    checksums: the NIC fills in those of IPv4, TCP, UDP and SCTP that the frame has, also behind IPv6 extension headers.
        The old values do not matter. A frame is refused if it has one of these checksums where the NIC cannot make it:
        in a tunnel, in the first fragment of a packet.
    mss: bytes. A frame with more TCP or UDP payload is segmented: each segment has at most `mss` bytes of payload, and
        its own headers and checksums. Lengths in the frame's IP and UDP headers do not matter. UDP segments are
        datagrams, not fragments.
    timestamp: the NIC stamps the frame, and port.clock.sent() returns when it left. One frame at a time.
    """

    vlan: int | None = None
    priority: int = 0
    checksums: bool = False
    mss: int = 0
    timestamp: bool = False

    def __post_init__(self) -> None:
        require_fields(self)
        if self.vlan is not None and not 0 <= self.vlan <= 4094:
            raise ValueError(f"{self.vlan} is not a VLAN: ids go from 0 to 4094")
        if not 0 <= self.priority <= 7:
            raise ValueError(f"{self.priority} is not a priority: priorities go from 0 to 7")
        if self.priority and self.vlan is None:
            raise ValueError("a priority needs a tag; vlan=0 makes a tag with only a priority")
        if not 0 <= self.mss <= 0xFFFF:
            raise ValueError(f"mss is {self.mss}; choose 1 to 65535 bytes, or 0 not to segment")

    def prepare(self, frame: memoryview) -> tuple[Context | None, memoryview]:
        """The frame as the NIC expects it, and its context, or None if it needs none. Raises ValueError."""
        context, frame = self._finish(frame)
        return replace(context or Context(), timestamp=True) if self.timestamp else context, frame

    def _finish(self, frame: memoryview) -> tuple[Context | None, memoryview]:
        """As prepare(), without the time stamp. The frame is copied only if it changes.

        Raises ValueError for an incomplete IP header, and with `mss` for a frame that is neither TCP nor UDP.
        """
        if len(frame) < ADDRESSES + 2:
            raise ValueError(f"a frame of {len(frame)} bytes has no Ethernet header")
        tci = None if self.vlan is None else self.priority << 13 | self.vlan
        if self.checksums or self.mss:
            headers = Headers.of(frame, whole=bool(self.mss))
            if headers is not None:
                return headers.finished_by_nic(frame, tci, self.mss)
            if self.mss:
                raise ValueError("mss segments only IPv4 and IPv6, and this frame is neither")
        return None if tci is None else Context(vlan=tci), frame


@dataclass(frozen=True)
class Headers:
    """Offsets in a frame. `l4` is None if the NIC makes no L4 checksum for it: a later fragment, another protocol."""

    ip: int
    end: int
    ipv4: bool
    l4: L4 | None
    upper: Upper

    @property
    def payload_of_ip(self) -> int:
        return self.upper.at

    @classmethod
    def of(cls, frame: memoryview, whole: bool) -> Headers | None:
        """The headers of `frame`; None if it is not IP.

        whole: ignore the length in the header; the packet ends with the frame. Raises ValueError for a bad header, and
        for a checksum that the NIC cannot make.
        """
        ip = ADDRESSES
        while be16(frame, ip) in TAGS:
            ip += 4
        kind = be16(frame, ip)
        ip += 2
        if kind in CARRIERS:
            raise refused(f"behind {CARRIERS[kind]}")
        if kind not in (IPV4, IPV6):
            return None
        ipv4 = kind == IPV4
        if len(frame) < ip + (IPV4_HEADER if ipv4 else IPV6_HEADER) or frame[ip] >> 4 != (4 if ipv4 else 6):
            raise ValueError("the frame has the EtherType of IP, but no IP header")
        length = 4 * (frame[ip] & 0xF) if ipv4 else IPV6_HEADER
        end = ip + be16(frame, ip + 2) if ipv4 else ip + IPV6_HEADER + be16(frame, ip + 4)
        end = len(frame) if whole else end
        if length < IPV4_HEADER or not ip + length <= end <= len(frame):
            raise ValueError(
                f"the IP header has {length} bytes and its packet {end - ip}, but the frame holds only "
                f"{len(frame) - ip} of them"
            )
        upper = upper_of_ipv4(frame, ip, length) if ipv4 else upper_of_ipv6(frame, ip, end)
        l4 = PROTOCOLS.get(upper.protocol)
        if upper.fragmented:
            if l4 is not None and upper.first:
                raise refused("in the first of several fragments: the checksum covers all of them")
            l4 = None
        if whole and upper.fragment_header:
            raise ValueError("mss segments whole packets, and this one has a Fragment header")
        if l4 is not None:
            check_l4(frame, upper.at, end, l4, whole)
        return cls(ip, end, ipv4, l4, upper)

    def finished_by_nic(self, frame: memoryview, tci: int | None, mss: int) -> tuple[Context | None, memoryview]:
        """The frame and its context.

        Padding after the packet is removed, because the NIC would add it to the checksum.
        """
        if mss and self.upper.fragmented:
            raise ValueError("mss segments whole packets, and this frame is a fragment")
        if mss and self.l4 not in (L4.TCP, L4.UDP):
            raise ValueError("mss segments only TCP and UDP, and this frame is neither")
        ours = bytearray(frame[: self.end])
        l4_length = self._l4_length(frame)
        segmented = 0 < mss < self.end - self.payload_of_ip - l4_length
        if mss:
            self._write_lengths(ours, 0 if segmented else self.end)
        if self.ipv4:
            ours[self.ip + 10 : self.ip + 12] = bytes(2)
        if self.l4 is not None:
            at = self.payload_of_ip + L4_CHECKSUM[self.l4]
            start = (
                bytes(4)
                if self.l4 is L4.SCTP
                else pseudo_header(self.upper, 0 if segmented else self.end - self.payload_of_ip)
            )
            ours[at : at + len(start)] = start
        if not self.ipv4 and self.l4 is None:
            return None if tci is None else Context(vlan=tci), memoryview(ours)
        return Context(
            self.ip,
            self.payload_of_ip - self.ip,
            l4_length,
            self.l4 or L4.UDP,
            self.ipv4,
            ip_checksum=self.ipv4,
            l4_checksum=self.l4 is not None,
            mss=mss if segmented else 0,
            vlan=tci,
        ), memoryview(ours)

    def _l4_length(self, frame: memoryview) -> int:
        if self.l4 is None:
            return 0
        length = 4 * (frame[self.payload_of_ip + 12] >> 4) if self.l4 is L4.TCP else L4_HEADER[self.l4]
        if not L4_HEADER[self.l4] <= length <= self.end - self.payload_of_ip:
            raise ValueError(
                f"the TCP header claims {length} bytes, but the frame holds only {self.end - self.payload_of_ip} of "
                "them"
            )
        return length

    def _write_lengths(self, ours: bytearray, end: int) -> None:
        """Write the packet's lengths into its IP and UDP header.

        `end` 0: write 0, because the NIC writes the lengths of each segment.
        """
        at, start = (self.ip + 2, self.ip) if self.ipv4 else (self.ip + 4, self.ip + IPV6_HEADER)
        ours[at : at + 2] = struct.pack("!H", end - start if end else 0)
        if self.l4 is L4.UDP:
            ours[self.payload_of_ip + 4 : self.payload_of_ip + 6] = struct.pack(
                "!H", end - self.payload_of_ip if end else 0
            )


def check_l4(frame: memoryview, at: int, end: int, l4: L4, whole: bool) -> None:
    """Raise ValueError unless the packet that ends at `end` holds the header at `at`, and its length agrees with IP's.

    whole: the length does not matter.
    """
    if end < at + L4_HEADER[l4]:
        raise ValueError(f"the frame holds only {end - at} bytes of a {l4.name} header of {L4_HEADER[l4]}")
    # The receiver sums as many bytes as this field says, the NIC all.
    if l4 is L4.UDP and not whole and be16(frame, at + UDP_LENGTH) != end - at:
        raise ValueError(
            f"the UDP header says {be16(frame, at + UDP_LENGTH)} bytes, but the IP packet has {end - at} for it"
        )
