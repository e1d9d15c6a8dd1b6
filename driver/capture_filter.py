"""Capture filters: a part of the language of tcpdump, applied to a batch of frames by numpy.

    arp ip ip6 icmp icmp6 tcp udp                       ether [src|dst] host MAC
    [src|dst] host ADDRESS                              [src|dst] net ADDRESS/BITS
    [tcp|udp] [src|dst] port NUMBER                     less LENGTH, greater LENGTH
    joined by and, or, not, and parentheses

As in libpcap, these look at frames without a VLAN tag, and a later fragment has no ports. Unlike there, a protocol
after an IPv6 extension header is not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

HEAD = 80  # bytes: Ethernet, the longest IPv4 header, and the ports
TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
PROTOCOLS = {"icmp": (1, IPV4), "tcp": (6, 0), "udp": (17, 0), "icmp6": (58, IPV6)}
Mask: TypeAlias = "npt.NDArray[np.bool_]"


@dataclass
class Heads:
    """The first HEAD bytes of each frame, shape (n, HEAD), and the frames' lengths, shape (n,)."""

    data: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]

    def number(self, at: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The 16-bit number at byte `at` of each frame; -1 in a frame that ends before."""
        place = np.broadcast_to(at, len(self.lengths))
        rows, inside = np.arange(len(place)), place + 2 <= np.minimum(self.lengths, HEAD)
        place = np.where(inside, place, 0)
        value: npt.NDArray[np.int64] = self.data[rows, place].astype(np.int64) << 8 | self.data[rows, place + 1]
        return np.where(inside, value, -1)

    def holds(self, at: int, value: bytes, bits: int | None = None) -> Mask:
        """Whether the bytes at `at` begin with the first `bits` bits of `value`."""
        bits = 8 * len(value) if bits is None else bits
        mask = np.frombuffer(((1 << bits) - 1 << 8 * len(value) - bits).to_bytes(len(value), "big"), np.uint8)
        same = (self.data[:, at : at + len(value)] & mask) == (np.frombuffer(value, np.uint8) & mask)
        found: Mask = np.all(same, axis=1) & (self.lengths >= at + len(value))
        return found

    @property
    def ethertype(self) -> npt.NDArray[np.int64]:
        return self.number(12)

    def protocol(self, number: int) -> Mask:
        """IPv4's protocol, or IPv6's next header."""
        four = (self.ethertype == IPV4) & (self.data[:, 23] == number) & (self.lengths >= 34)
        six = (self.ethertype == IPV6) & (self.data[:, 20] == number) & (self.lengths >= 54)
        found: Mask = four | six
        return found

    def ports(self) -> npt.NDArray[np.int64]:
        """The place of TCP's or UDP's ports; past the end for a later fragment."""
        four = 14 + 4 * (self.data[:, 14].astype(np.int64) & 0xF)
        four = np.where(self.number(20) & 0x1FFF, HEAD, four)
        return np.where(self.ethertype == IPV4, four, 54)


Filter = Callable[[Heads], Mask]


def parse_filter(text: str) -> Filter | None:
    """The filter, or None for an empty text, which takes every frame. Raises ValueError with what is allowed."""
    words = [found[1] for found in TOKEN.finditer(text)]
    if not words:
        return None
    parser = Parser(words)
    found = parser.either()
    if parser.words:
        raise parser.unknown(parser.words[0])
    return found


class Parser:
    """words: what is not parsed yet."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def unknown(self, word: str) -> ValueError:
        return ValueError(
            f"{word!r} is not understood here. A filter is made of arp, ip, ip6, icmp, icmp6, tcp, udp, [src|dst] "
            "host, [src|dst] net, [src|dst] port, ether host, less, greater, joined by and, or, not, parentheses. A "
            "display filter can do more"
        )

    def take(self, *choices: str) -> str:
        """The next word if it is one of these, else ""."""
        return self.words.pop(0) if self.words and self.words[0] in choices else ""

    def argument(self, after: str) -> str:
        if not self.words:
            raise ValueError(f"something is missing after {after!r}, such as: host 10.0.0.1, port 80, ether host MAC")
        return self.words.pop(0)

    def either(self) -> Filter:
        found = self.all()
        while self.take("or", "||"):
            found = joined(np.logical_or, found, self.all())
        return found

    def all(self) -> Filter:
        found = self.one()
        while self.take("and", "&&"):
            found = joined(np.logical_and, found, self.one())
        return found

    def one(self) -> Filter:
        if self.take("not", "!"):
            inner = self.one()
            return lambda heads: ~inner(heads)
        if self.take("("):
            found = self.either()
            if not self.take(")"):
                raise ValueError("a parenthesis is not closed; write )")
            return found
        return self.primitive()

    def primitive(self) -> Filter:
        if self.take("ether"):
            side = self.take("src", "dst")
            self.take("host")
            return ether(side, self.argument("ether"))
        protocol = self.take("arp", "ip", "ip6", *PROTOCOLS)
        if protocol and (
            protocol not in ("tcp", "udp") or not self.words or self.words[0] not in ("src", "dst", "port")
        ):
            return of_protocol(protocol)
        side = self.take("src", "dst")
        word = self.argument(side or protocol or "the filter")
        if word == "port":
            return of_port(protocol, side, self.argument("port"))
        if protocol:
            raise self.unknown(word)
        if word in ("host", "net"):
            return of_address(side, self.argument(word))
        if word in ("less", "greater") and not side:
            return of_length(word, self.argument(word))
        raise self.unknown(word)


def joined(how: Callable[[Mask, Mask], Mask], one: Filter, other: Filter) -> Filter:
    return lambda heads: how(one(heads), other(heads))


def on_sides(side: str, source: Filter, destination: Filter) -> Filter:
    if side == "src":
        return source
    return destination if side == "dst" else joined(np.logical_or, source, destination)


def ether(side: str, text: str) -> Filter:
    digits = text.replace(":", "").replace("-", "")
    if not re.fullmatch("[0-9a-fA-F]{12}", digits):
        raise ValueError(f"{text!r} is not a MAC address; write ether host 02:00:00:00:00:01")
    address = bytes.fromhex(digits)
    return on_sides(side, lambda heads: heads.holds(6, address), lambda heads: heads.holds(0, address))


def of_protocol(name: str) -> Filter:
    types = {"arp": ARP, "ip": IPV4, "ip6": IPV6}
    if name in types:
        return lambda heads: heads.ethertype == types[name]
    number, ethertype = PROTOCOLS[name]
    if not ethertype:
        return lambda heads: heads.protocol(number)
    return lambda heads: heads.protocol(number) & (heads.ethertype == ethertype)


def of_address(side: str, text: str) -> Filter:
    """A host or a net, of IPv4 (also in ARP) or IPv6."""
    try:
        net = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an address; write host 10.0.0.1, net 10.0.0.0/8 or host fe80::1") from None
    value, bits = net.network_address.packed, net.prefixlen
    if net.version == 6:
        return on_sides(
            side,
            lambda heads: (heads.ethertype == IPV6) & heads.holds(22, value, bits),
            lambda heads: (heads.ethertype == IPV6) & heads.holds(38, value, bits),
        )

    def at(ip: int, arp: int) -> Filter:
        return lambda heads: (
            ((heads.ethertype == IPV4) & heads.holds(ip, value, bits))
            | ((heads.ethertype == ARP) & heads.holds(arp, value, bits))
        )

    return on_sides(side, at(26, 28), at(30, 38))


def of_port(protocol: str, side: str, text: str) -> Filter:
    if not text.isdecimal() or int(text) > 0xFFFF:
        raise ValueError(f"{text!r} is not a port; write its number, such as port 80")
    number = int(text)
    kinds = [PROTOCOLS[protocol][0]] if protocol else [6, 17]

    def at(offset: int) -> Filter:
        return lambda heads: (
            np.logical_or.reduce([heads.protocol(kind) for kind in kinds])
            & (heads.number(heads.ports() + offset) == number)
        )

    return on_sides(side, at(0), at(2))


def of_length(word: str, text: str) -> Filter:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a length; write {word} 100")
    length = int(text)
    return (lambda heads: heads.lengths <= length) if word == "less" else (lambda heads: heads.lengths >= length)
