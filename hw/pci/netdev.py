"""Whether Linux uses a network interface: then a bind of its NIC to another driver would end connections."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

SIOCGIFADDR = 0x8915
LINK_SCOPE = "20"  # in if_inet6: a link-local address, which every interface has


def why_in_use(netdevs: Iterable[str], root: Path) -> str:
    """The first reason found, such as `eth0 carries the default route`; "" if there is none."""
    for netdev in netdevs:
        for reason in (default_route(netdev, root), upper(netdev, root), address(netdev, root)):
            if reason:
                return f"{netdev} {reason}"
    return ""


def default_route(netdev: str, root: Path) -> str:
    """A route with destination and mask 0 in /proc/net/route or /proc/net/ipv6_route."""
    for fields in lines_of(root / "proc/net/route"):
        if len(fields) > 7 and fields[0] == netdev and fields[1] == fields[7] == "00000000":
            return "carries the default route"
    for fields in lines_of(root / "proc/net/ipv6_route"):
        if len(fields) == 10 and fields[9] == netdev and fields[0] == "0" * 32 and fields[1] == "00":
            return "carries the IPv6 default route"
    return ""


def upper(netdev: str, root: Path) -> str:
    """A bond, bridge or VLAN on top of the interface."""
    try:
        entries = sorted(os.listdir(root / "sys/class/net" / netdev))
    except OSError:
        return ""
    names = [entry.removeprefix("upper_") for entry in entries if entry.startswith("upper_")]
    return f"is part of {', '.join(names)}" if names else ""


def address(netdev: str, root: Path) -> str:
    """An IPv4 address by SIOCGIFADDR, or an IPv6 address from /proc/net/if_inet6."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        try:
            answer = fcntl.ioctl(query, SIOCGIFADDR, struct.pack("16s24x", netdev.encode()[:15]))
            return f"has the address {socket.inet_ntoa(answer[20:24])}"
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise
    for fields in lines_of(root / "proc/net/if_inet6"):
        if len(fields) == 6 and fields[5] == netdev and fields[3] != LINK_SCOPE:
            return f"has the address {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))}"
    return ""


def lines_of(file: Path) -> list[list[str]]:
    """The fields of each line of a file."""
    try:
        return [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return []
