"""Advanced descriptors in words, for drawings of a ring (82599 7.1.6, 7.2.3.2)."""

from __future__ import annotations

CONTEXT, DATA = 2, 3  # DTYP
TX_COMMANDS = {19: "TSTAMP", 24: "EOP", 25: "IFCS", 27: "RS", 30: "VLE", 31: "TSE"}
TX_OPTIONS = {40: "IXSM", 41: "TXSM"}
DD, TX_DD = 0, 32
RX_STATUS = {1: "EOP", 3: "VP", 5: "L4I", 6: "IPCS", 7: "PIF", 16: "TS", 29: "RXE", 30: "L4E", 31: "IPE"}
RSS_TYPES = {1: "TCPv4", 2: "IPv4", 3: "TCPv6", 5: "IPv6", 7: "UDPv4", 8: "UDPv6"}


def transmit(low: int, high: int) -> str:
    """An advanced TX descriptor in a few words, from its two 64-bit halves; "" if it was never written."""
    if not low and not high:
        return ""
    kind = high >> 20 & 0xF
    if kind == CONTEXT:
        return f"context: MACLEN {low >> 9 & 0x7F}, IPLEN {low & 0x1FF}, L4LEN {high >> 40 & 0xFF}, MSS {high >> 48}"
    if kind != DATA:
        return f"{high:#018x}: neither data nor context"
    words = [
        f"{high & 0xFFFF} bytes of {high >> 46}",
        *named(high, {**TX_COMMANDS, **TX_OPTIONS}),
        *(["DD"] if high >> TX_DD & 1 else []),
    ]
    return f"{' '.join(words)} at {low:#x}"


def receive(low: int, high: int) -> str:
    """An advanced RX descriptor: what the NIC wrote back (DD), else the buffer that waits for a frame."""
    if not low and not high:
        return ""
    if not high >> DD & 1:
        return f"waits for a frame at {low:#x}"
    words = [f"{high >> 32 & 0xFFFF} bytes DD", *named(high, RX_STATUS)]
    if low & 0xF:
        words.append(f"hash {low >> 32:#010x} of {RSS_TYPES.get(low & 0xF, f'RSS type {low & 0xF}')}")
    if high >> 3 & 1:
        words.append(f"VLAN {high >> 48 & 0xFFF}")
    return " ".join(words)


def named(word: int, names: dict[int, str]) -> list[str]:
    """The names of the bits that are set."""
    return [name for position, name in names.items() if word >> position & 1]
