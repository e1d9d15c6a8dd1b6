"""Builds the Ethernet, IPv4 and UDP headers that the examples need."""

from __future__ import annotations

import ipaddress
import string
import struct

ETHERTYPE_IPV4, ETHERTYPE_ARP = 0x0800, 0x0806
ICMP, UDP = 1, 17
MAX_PORT = 0xFFFF
SHORTEST, LONGEST = 60, 9724  # bytes without CRC
HEADERS = 14 + 20 + 8


def mac(text: str) -> bytes:
    """The six bytes of an address such as 02:00:00:00:00:01. Raises ValueError for any other text."""
    digits = text.replace(":", "")
    octets = bytes.fromhex(digits) if set(digits) <= set(string.hexdigits) and not len(digits) % 2 else b""
    if len(octets) != 6:
        raise ValueError(f"{text!r} is not a MAC address; write it as 02:00:00:00:00:01")
    return octets


def endpoint(text: str) -> tuple[bytes, int]:
    """Address and port of `10.0.0.1:1234`; without a port it is 1234. Raises ValueError for any other text."""
    address, _, port = text.partition(":")
    if not (port or "0").isdecimal() or int(port or 0) > MAX_PORT:
        raise ValueError(f"{text!r}: {port!r} is not a UDP port; choose 0 to {MAX_PORT}")
    return ipaddress.IPv4Address(address).packed, int(port or 1234)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol: int, source: bytes, destination: bytes, payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0, source, destination)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp_frame(
    length: int, source_mac: bytes, destination_mac: bytes, source: tuple[bytes, int], destination: tuple[bytes, int]
) -> bytes:
    """A UDP frame of `length` bytes without CRC. Its payload is zeros; it has no UDP checksum."""
    if length < HEADERS:
        raise ValueError(f"a UDP frame has at least {HEADERS} bytes, {length} are too few")
    payload = bytes(length - HEADERS)
    udp = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0) + payload
    return destination_mac + source_mac + struct.pack("!H", ETHERTYPE_IPV4) + ipv4(UDP, source[0], destination[0], udp)
