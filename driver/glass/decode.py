"""A frame in one line: addresses, protocol, ports."""

from __future__ import annotations

import ipaddress
import struct

VLAN, IPV4, ARP, IPV6, LLDP, PTP, EXPERIMENT = 0x8100, 0x0800, 0x0806, 0x86DD, 0x88CC, 0x88F7, 0x88B5
NAMES = {LLDP: "LLDP", PTP: "PTP", EXPERIMENT: "EtherType for local experiments", 0x8808: "MAC control (pause)"}
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
PROTOCOLS = {ICMP: "ICMP", 2: "IGMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6", 132: "SCTP"}
TCP_FLAGS = "FSRPAUEC"  # FIN is bit 0
OPERATIONS = {1: "who has", 2: "is at"}


def line_of(frame: bytes, length: int) -> str:
    """`10.0.0.1:1024 → 10.0.0.2:9 UDP`. frame: its first bytes. length: of the whole frame, in bytes without CRC."""
    if len(frame) < 14:
        return f"{frame.hex(':')} shorter than an Ethernet header"
    kind, at, tags = int.from_bytes(frame[12:14], "big"), 14, ""
    while kind == VLAN and len(frame) >= at + 4:
        tags += f" VLAN {int.from_bytes(frame[at : at + 2], 'big') & 0xFFF}"
        kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    try:
        text = {IPV4: ipv4, IPV6: ipv6, ARP: arp}.get(kind, lambda _: "")(frame[at:])
    except (struct.error, IndexError, ValueError):  # ipaddress raises ValueError
        text = "cut off"
    if not text:
        name = NAMES.get(kind, f"length {kind}" if kind <= 1500 else f"EtherType {kind:#06x}")
        text = f"{frame[6:12].hex(':')} → {frame[:6].hex(':')} {name}"
    return text + tags


def ipv4(packet: bytes) -> str:
    first, _, _, _, fragment, _, protocol = struct.unpack_from("!BBHHHBB", packet)
    source, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    inside = b"" if fragment & 0x1FFF else packet[4 * (first & 0xF) :]
    return ends(source, target, protocol, inside, " fragment" if fragment & 0x3FFF else "")


def ipv6(packet: bytes) -> str:
    protocol = packet[6]
    source, target = (f"[{ipaddress.IPv6Address(packet[at : at + 16])}]" for at in (8, 24))
    return ends(source, target, protocol, packet[40:], "")


def ends(source: str, target: str, protocol: int, inside: bytes, more: str) -> str:
    """Both ends, with their ports if the protocol has ports and the first bytes show them."""
    name = PROTOCOLS.get(protocol, f"protocol {protocol}")
    if protocol in (TCP, UDP, 132) and len(inside) >= 4:
        ports = struct.unpack_from("!HH", inside)
        source, target = f"{source}:{ports[0]}", f"{target}:{ports[1]}"
        if protocol == TCP and len(inside) >= 14:
            more += " " + "".join(letter for bit, letter in enumerate(TCP_FLAGS) if inside[13] >> bit & 1)
    return f"{source} → {target} {name}{more}"


def arp(packet: bytes) -> str:
    operation = int.from_bytes(packet[6:8], "big")
    sender, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (14, 24))
    what = OPERATIONS.get(operation, f"operation {operation}")
    if operation == 2:
        return f"ARP {sender} {what} {packet[8:14].hex(':')}"
    return f"ARP {sender} asks: {what} {target}"
