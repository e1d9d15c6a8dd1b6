"""From an IP header to the protocol that it carries: IPv6 extension headers (RFC 8200 4), IPv4 options (RFC 791).

The NIC sums the bytes from the upper header on. Software gives it the length of everything before that header (IPLEN),
and the sum of the pseudo header, with the addresses of the two ends (RFC 8200 8.1).

ASSUMPTION (datasheet not at hand): IPLEN covers IPv6 extension headers, also for segmentation. Linux's ixgbe gives the
NIC the same length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

IPV4_HEADER, IPV6_HEADER = 20, 40
LONGEST_IP = 0x1FF  # IPLEN has nine bits (82599 7.2.3.2.3)
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, NO_NEXT, DESTINATION = 0, 43, 44, 51, 59, 60
OTHER_EXTENSIONS = {135: "Mobility", 139: "HIP", 140: "Shim6"}
ROUTES_LAST_FIRST = 4  # a segment routing header begins with its last segment (RFC 8754 2)
ROUTES_LAST_LAST = (0, 2)  # RFC 5095, RFC 6275 6.4
HOME_ADDRESS, JUMBO, PAD1 = 0xC9, 0xC2, 0  # options (RFC 6275 6.3, RFC 2675 2, RFC 8200 4.2)
IPV4_FRAGMENT, IPV4_OFFSET = 0x3FFF, 0x1FFF  # more fragments or an offset; the offset
IPV6_FRAGMENT, IPV6_OFFSET = 0xFFF9, 0xFFF8
IPV4_END, IPV4_NOP, LOOSE_ROUTE, STRICT_ROUTE = 0, 1, 131, 137
TUNNELS = {4: "IPv4 in IP", 41: "IPv6 in IP", 47: "GRE"}


@dataclass
class Upper:
    """The upper header, at offset `at` of the frame. source, destination: the addresses of the pseudo header.

    fragmented: the packet is one of several fragments; first: it is the first of them, which has the upper header.
    fragment_header: the packet has an IPv6 Fragment header, even if it is whole.
    """

    protocol: int
    at: int
    source: bytes
    destination: bytes
    fragmented: bool = False
    first: bool = False
    fragment_header: bool = False


def upper_of_ipv4(frame: memoryview, ip: int, length: int) -> Upper:
    """The upper header after an IPv4 header of `length` bytes at `ip`. Raises ValueError."""
    fragment = be16(frame, ip + 6)
    destination = bytes(frame[ip + 16 : ip + 20])
    at = ip + IPV4_HEADER
    while at < ip + length and frame[at] != IPV4_END:
        size = 1 if frame[at] == IPV4_NOP else frame[at + 1] if at + 1 < ip + length else 0
        if size < 1 or at + size > ip + length or (size == 1 and frame[at] != IPV4_NOP):
            raise ValueError("the frame has a damaged IPv4 option")
        # The pointer counts from 1; past the option's end, the destination is the last one.
        if frame[at] in (LOOSE_ROUTE, STRICT_ROUTE) and size >= 7 and frame[at + 2] <= size:
            destination = bytes(frame[at + size - 4 : at + size])
        at += size
    return checked(
        Upper(
            frame[ip + 9],
            ip + length,
            bytes(frame[ip + 12 : ip + 16]),
            destination,
            bool(fragment & IPV4_FRAGMENT),
            not fragment & IPV4_OFFSET,
        )
    )


def upper_of_ipv6(frame: memoryview, ip: int, end: int) -> Upper:
    """The upper header after the IPv6 header at `ip` and its extension headers. Raises ValueError."""
    upper = Upper(frame[ip + 6], ip + IPV6_HEADER, bytes(frame[ip + 8 : ip + 24]), bytes(frame[ip + 24 : ip + 40]))
    while upper.protocol in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, *OTHER_EXTENSIONS) and not upper.fragmented:
        at = upper.at
        length = 8 if upper.protocol == FRAGMENT else 8 + 8 * frame[at + 1] if at + 1 < end else 8
        if at + length > end:
            raise ValueError("the packet ends inside its IPv6 extension headers")
        if upper.protocol in OTHER_EXTENSIONS:
            if frame[at] == NO_NEXT:
                break
            raise refused(f"behind a {OTHER_EXTENSIONS[upper.protocol]} header")
        if upper.protocol == ROUTING:
            take_route(upper, frame[at : at + length])
        elif upper.protocol == FRAGMENT:
            fragment = be16(frame, at + 2)
            upper.fragment_header, upper.fragmented = True, bool(fragment & IPV6_FRAGMENT)
            upper.first = not fragment & IPV6_OFFSET
        else:
            take_options(upper, frame[at + 2 : at + length])
        upper.protocol, upper.at = frame[at], at + length
    if upper.at - ip > LONGEST_IP:
        raise ValueError(
            f"the IPv6 headers have {upper.at - ip} bytes, and the NIC can skip {LONGEST_IP} (82599 7.2.3.2.3)"
        )
    return checked(upper)


def take_route(upper: Upper, header: memoryview) -> None:
    """The destination of the pseudo header is the last one of a route that is not yet at its end."""
    kind, left = header[2], header[3]
    if not left:
        return
    if kind == ROUTES_LAST_FIRST and len(header) >= 24:
        upper.destination = bytes(header[8:24])
    elif kind in ROUTES_LAST_LAST and len(header) >= 24:
        count = (len(header) - 8) // 16
        upper.destination = bytes(header[16 * count - 8 : 16 * count + 8])
    else:
        raise refused(f"behind a Routing header of type {kind}, whose last destination it does not know")


def take_options(upper: Upper, options: memoryview) -> None:
    """A Home Address option has the source of the pseudo header (RFC 6275 11.3.1)."""
    at = 0
    while at < len(options):
        size = 1 if options[at] == PAD1 else 2 + options[at + 1] if at + 1 < len(options) else 2
        if at + size > len(options):
            raise ValueError("the frame has a damaged IPv6 option")
        if options[at] == JUMBO:
            raise refused("in a jumbogram")
        if options[at] == HOME_ADDRESS and size == 18:
            upper.source = bytes(options[at + 2 : at + 18])
        at += size


def checked(upper: Upper) -> Upper:
    """`upper`. Raises ValueError if there may be a checksum behind it that the NIC cannot make."""
    if upper.protocol == AUTHENTICATION:
        raise refused("behind an Authentication header, which signs them")
    if upper.protocol in TUNNELS and (upper.first or not upper.fragmented):
        raise refused(f"inside a tunnel ({TUNNELS[upper.protocol]})")
    return upper


def refused(where: str) -> ValueError:
    return ValueError(
        f"the NIC makes no checksums {where}. Compute them in the program, and send the frame without checksums and mss"
    )


def pseudo_header(upper: Upper, length: int) -> bytes:
    """The sum of the pseudo header, not inverted: the NIC continues from it (7.2.5.2). length: of the upper packet."""
    addresses = upper.source + upper.destination
    total = sum(struct.unpack(f"!{len(addresses) // 2}H", addresses)) + upper.protocol + length
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", (total & 0xFFFF) + (total >> 16))


def be16(frame: memoryview, at: int) -> int:
    """The 16-bit number at offset `at`; 0 past the end of the frame."""
    return int.from_bytes(frame[at : at + 2], "big") if len(frame) >= at + 2 else 0
