"""The Internet checksum for tests, independent of the emulator's and the examples' own code."""

from __future__ import annotations

import struct


def total(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071), not inverted."""
    data += b"\0" * (len(data) % 2)
    value: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value
