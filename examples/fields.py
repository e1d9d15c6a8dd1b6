"""Values of a field that varies, as they are written in the options of pktgen.py: lists, and ranges as in pkt-gen.

-s 10.0.0.1:1000-10.0.0.9:2000     9 addresses with 1001 ports each; the ports change first, as in netmap's pkt-gen
-s 10.0.0.1,10.0.0.7:53            a list; its items may be ranges
-s [fd00::1]:1000-[fd00::9]:2000   IPv6; without a port the brackets may be left out
-D 02:00:00:00:00:01-02:00:00:00:00:0f
--vlan 5,100-199
-l 60,1514    -l 60-1514    -l 60:7,1514:1    -l imix
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd
from typing import TypeAlias

from packets import HEADERS, LONGEST, MAX_PORT, mac

import numpy as np
import numpy.typing as npt

from ixrings.driver.arguments import whole

Ints: TypeAlias = "npt.NDArray[np.int64]"
Rows: TypeAlias = "npt.NDArray[np.uint8]"

MOST_ADDRESSES = 1 << 32  # of a range
MOST_VALUES = 1 << 16  # of the other fields, and the longest table
MOST_SIZES = 8192  # frames until the sizes repeat: a ring has no more
LATER = 1 << 62  # a program never gets so far
VLAN = whole(0, 4094)
RANGE = re.compile(r"(?<=[^:])-|(?<=::)-")  # the hyphen of a range; after a single colon it is a port's sign
# Bytes without CRC of IP packets of 40, 576 and 1500 bytes, in the usual ratio 7:4:1; the first kind is padded.
IMIX = ((60, 7), (590, 4), (1514, 1))


@dataclass(frozen=True)
class Range:
    """Addresses from a first one on, each with the same ports."""

    address: int
    addresses: int
    port: int
    ports: int


@dataclass(frozen=True)
class Endpoints:
    """Addresses with ports, each a row of an address of `width` bytes (4 or 16) and a port. text: as it was written.

    has_ports: the text has ports.
    """

    text: str
    width: int
    ranges: tuple[Range, ...]
    has_ports: bool

    @property
    def count(self) -> int:
        return sum(each.addresses * each.ports for each in self.ranges)

    @property
    def name(self) -> str:
        return "IPv4" if self.width == 4 else "IPv6"

    @cached_property
    def _table(self) -> Rows | None:
        return self._made(np.arange(self.count)) if self.count <= MOST_VALUES else None

    def rows(self, index: Ints) -> Rows:
        """The endpoints of these numbers, shape (n, width + 2)."""
        return self._made(index) if self._table is None else self._table[index]

    def _made(self, index: Ints) -> Rows:
        out = np.empty((len(index), self.width + 2), np.uint8)
        begin = 0
        for each in self.ranges:
            count = each.addresses * each.ports
            here = slice(None) if len(self.ranges) == 1 else (index >= begin) & (index < begin + count)
            address, port = np.divmod(index[here] - begin, each.ports)
            out[here, : self.width] = big_endian(each.address, address)[:, 16 - self.width :]
            out[here, self.width :] = big_endian(each.port, port)[:, 14:]
            begin += count
        return out

    def addresses(self, index: Ints) -> Rows:
        """Addresses without ports, from the first one again after the last, shape (n, width). Ports do not count."""
        ports = np.array([each.ports for each in self.ranges])
        counts = np.array([each.addresses for each in self.ranges])
        ends = np.cumsum(counts)
        index = index % ends[-1]
        which = np.searchsorted(ends, index, side="right")
        begins = np.cumsum(counts * ports) - counts * ports
        return self.rows(begins[which] + (index - (ends - counts)[which]) * ports[which])[:, : self.width]

    def words(self, index: int) -> str:
        """One of them as a user writes it."""
        row = self.rows(np.array([index])).tobytes()
        address, port = ipaddress.ip_address(row[: self.width]), int.from_bytes(row[self.width :], "big")
        return f"{address}:{port}" if self.width == 4 else f"[{address}]:{port}"


def big_endian(first: int, offsets: Ints) -> Rows:
    """The numbers first + offset in 16 bytes each, shape (n, 16)."""
    out = np.empty((len(offsets), 2), ">u8")
    low = np.uint64(first & 0xFFFF_FFFF_FFFF_FFFF) + offsets.astype(np.uint64)
    out[:, 0] = np.uint64(first >> 64) + (low < offsets.astype(np.uint64))  # with the carry
    out[:, 1] = low
    return out.view(np.uint8)


def endpoints(text: str) -> Endpoints:
    """Raises ValueError for text that is not a list of addresses, ports and ranges."""
    parts = [endpoint_range(item) for item in text.split(",")]
    widths = {width for width, _, _ in parts}
    if len(widths) > 1:
        raise ValueError(f"{text!r} has IPv4 and IPv6 addresses; give addresses of one kind")
    return Endpoints(text, widths.pop(), tuple(each for _, each, _ in parts), any(ports for _, _, ports in parts))


def endpoint_range(text: str) -> tuple[int, Range, bool]:
    """Bytes of an address, the range, and whether its ports are given."""
    first, last = (*RANGE.split(text, maxsplit=1), "")[:2]
    low, port = one_endpoint(first)
    high, last_port = one_endpoint(last) if last else (low, port)
    given = port is not None
    port = 1234 if port is None else port
    last_port = port if last_port is None else last_port
    if low.version != high.version:
        raise ValueError(f"{text!r} is a range from IPv{low.version} to IPv{high.version}")
    if int(high) < int(low) or last_port < port:
        raise ValueError(f"{text!r} is a range that ends before it begins; give the lower address and port first")
    count = int(high) - int(low) + 1
    if count > MOST_ADDRESSES:
        raise ValueError(f"{text!r} has {count} addresses; a range has at most {MOST_ADDRESSES}")
    return len(low.packed), Range(int(low), count, port, last_port - port + 1), given


def one_endpoint(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int | None]:
    """Address and port, None without one: 10.0.0.1, 10.0.0.1:53, fd00::1, [fd00::1]:53."""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{text!r} is not an address; write IPv6 with a port as [fd00::1]:53")
        port = port[1:]
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    if port and (not port.isdecimal() or int(port) > MAX_PORT):
        raise ValueError(f"{text!r}: {port!r} is not a UDP port; choose 0 to {MAX_PORT}")
    return ipaddress.ip_address(address), int(port) if port else None


def values(text: str, width: int, read: Callable[[str], int]) -> Rows:
    """Numbers of `width` bytes from a list of numbers and ranges, shape (n, width). Raises ValueError."""
    found: list[Rows] = []
    for item in text.split(","):
        first, _, last = item.partition("-")
        low = read(first)
        count = read(last) - low + 1 if last else 1
        if count < 1:
            raise ValueError(f"{item!r} is a range that ends before it begins; give the lower value first")
        if count > MOST_VALUES:
            raise ValueError(f"{item!r} has {count} values; a range has at most {MOST_VALUES}")
        found.append(big_endian(low, np.arange(count))[:, 16 - width :])
    return np.concatenate(found)


def macs(text: str) -> Rows:
    return values(text, 6, lambda address: int.from_bytes(mac(address), "big"))


def vlans(text: str) -> Rows:
    return values(text, 2, VLAN)


def sizes(text: str) -> Ints:
    """Bytes of frames without CRC, in the order in which they are sent. Raises ValueError."""
    found = list(IMIX) if text == "imix" else [each for item in text.split(",") for each in sizes_of(item)]
    least = gcd(*(weight for _, weight in found))
    found = [(length, weight // least) for length, weight in found]
    total = sum(weight for _, weight in found)
    if total > MOST_SIZES:
        raise ValueError(f"{text!r} repeats after {total} frames; choose smaller numbers, at most {MOST_SIZES} in all")
    # Frame k of w of one length is at (k + 1/2) / w of the round, so that each length is spread over it.
    places = [
        (Fraction(2 * k + 1, 2 * weight), place, length)
        for place, (length, weight) in enumerate(found)
        for k in range(weight)
    ]
    return np.array([length for _, _, length in sorted(places)], np.int64)


LENGTH = whole(HEADERS, LONGEST)
WEIGHT = whole(1, MOST_SIZES)


def sizes_of(item: str) -> list[tuple[int, int]]:
    """Lengths and weights of one item: 60, 60-1514, 60:7."""
    lengths, _, weight = item.partition(":")
    first, _, last = lengths.partition("-")
    low = LENGTH(first)
    high = LENGTH(last) if last else low
    if high < low:
        raise ValueError(f"{item!r} is a range that ends before it begins; give the lower size first")
    return [(length, WEIGHT(weight) if weight else 1) for length in range(low, high + 1)]
