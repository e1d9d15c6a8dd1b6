"""IPv4 packets from 10.0.0.1 to 10.0.0.2, and a check of their checksums, for tests of offloads."""

from __future__ import annotations

import struct

from tests.support.checksums import total

MAC = b"\x02\x82\x59\x90\x00\x01"
TCP, UDP = 6, 17
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80


def ipv4(protocol: int, payload: bytes, number: int = 7) -> bytes:
    """A packet with checksum 0."""
    return (
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(payload),
            number,
            0,
            64,
            protocol,
            0,
            bytes([10, 0, 0, 1]),
            bytes([10, 0, 0, 2]),
        )
        + payload
    )


def pseudo(protocol: int, length: int) -> int:
    """The sum over the pseudo header."""
    return total(bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, protocol]) + struct.pack("!H", length))


def tcp(payload: bytes, flags: int = ACK, sequence: int = 1000, check: int = 0) -> bytes:
    return struct.pack("!HHIIBBHHH", 1, 2, sequence, 0, 5 << 4, flags, 100, check, 0) + payload


def udp(payload: bytes, check: int = 0) -> bytes:
    return struct.pack("!HHHH", 1, 2, 8 + len(payload), check) + payload


def ethernet(packet: bytes, kind: int = 0x0800) -> bytes:
    return MAC + b"\x02\0\0\0\0\x02" + struct.pack("!H", kind) + packet


def checksums_right(frame: bytes) -> bool:
    """Whether both checksums of an IPv4 TCP or UDP frame are right, as its receiver checks them."""
    size, protocol = int.from_bytes(frame[16:18], "big") - 20, frame[23]
    return (
        total(frame[14:34]) == 0xFFFF
        and total(struct.pack("!H", pseudo(protocol, size)) + frame[34 : 34 + size]) == 0xFFFF
    )
