"""The Internet checksum, written for tests: neither the emulator's nor the examples' is trusted with itself."""

from __future__ import annotations

import struct


def total(data: bytes) -> int:
    """RFC 1071, the slow way."""
    data += b"\0" * (len(data) % 2)
    value: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value
