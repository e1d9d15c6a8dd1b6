"""Capture filters: a part of the language of tcpdump (pcap-filter(7)), applied to a batch of frames by numpy.

    arp  rarp  ip  ip6  icmp  icmp6  igmp  pim  vrrp  ah  esp  tcp  udp  sctp
    [ip|ip6|arp|rarp] [src|dst] host ADDRESS            [ip|ip6|arp|rarp] [src|dst] net ADDRESS/BITS
    [tcp|udp|sctp] [src|dst] port NUMBER                [tcp|udp|sctp] [src|dst] portrange FIRST-LAST
    ether [src|dst] host MAC                            ether proto NUMBER, [ip|ip6] proto NUMBER
    [ether|ip|ip6] multicast, [ether] broadcast         vlan [NUMBER]
    less LENGTH, greater LENGTH, len < LENGTH           also with <=, >, >=, ==, !=
    joined by and, or, not, and parentheses

It takes the frames that tcpdump takes. As there, `and` and `or` have the same precedence, from left to right; a second
address or port needs no second `host` or `port`; after `vlan` the rest looks behind the tag.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from .frame_tests import (
    ARP,
    HEAD,
    IPV4,
    IPV6,
    MOST_TAGS,
    RARP,
    TAGS,
    Comparison,
    Heads,
    Layer,
    Mask,
    Test,
    both,
    compared,
    either,
    negated,
    of_length,
    of_mac,
)
from .steering import FIRST_ETHER_TYPE, IP_TYPES

if TYPE_CHECKING:
    from ixrings.rings import Span

    from .port import Port

TOKEN = re.compile(r"\s*(&&|\|\||[<>!=]=|[()<>!=&|]|[^\s()<>!=&|]+)")
ETHER_TYPES = {"ip": IPV4, "arp": ARP, "rarp": RARP, "ip6": IPV6}
FOUR, SIX, ANY = "ip", "ip6", ""
PROTOCOLS = {  # number, and the version of IP that it belongs to
    "icmp": (1, FOUR),
    "igmp": (2, FOUR),
    "tcp": (6, ANY),
    "udp": (17, ANY),
    "esp": (50, ANY),
    "ah": (51, ANY),
    "icmp6": (58, SIX),
    "pim": (103, ANY),
    "vrrp": (112, FOUR),
    "sctp": (132, ANY),
}
WITH_PORTS = ("sctp", "tcp", "udp")
COMPARISONS: dict[str, Callable[[npt.NDArray[np.integer], int], Mask]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
INSTEAD = {  # words of pcap-filter that are not understood here: what to write
    "gateway": "write ether host MAC and not host ADDRESS",
    "inbound": "write ether dst MAC, with the port's own address",
    "outbound": "write ether src MAC, with the port's own address",
    "mpls": "write ether proto 0x8847",
    "pppoed": "write ether proto 0x8863",
    "pppoes": "write ether proto 0x8864",
    "geneve": "write udp port 6081",
    "vxlan": "write udp port 4789",
    "protochain": "write ip6 proto NUMBER for the first header",
    "stp": "write ether dst 01:80:c2:00:00:00",
    "&": "write and",
    "|": "write or",
}
ETHER_TYPE_FILTERS = 8
JOINTS = {"and": "and", "&&": "and", "or": "or", "||": "or"}
MOST_DEPTH = 100  # far below the calls that Python allows

Sides: TypeAlias = Callable[[Callable[[bool], Test]], Test]
SIDES: dict[str, Sides] = {
    "": lambda of: either(of(False), of(True)),
    "src": lambda of: of(False),
    "dst": lambda of: of(True),
    "or": lambda of: either(of(False), of(True)),
    "and": lambda of: both(of(False), of(True)),
}


@dataclass(frozen=True)
class Part:
    """types: it takes no frame of another EtherType; None if it may take any. depth: of the calls of its test."""

    test: Test
    types: frozenset[int] | None = None
    depth: int = 0


def joined(parts: list[Part], joint: str) -> Part:
    """All parts, or one of them. Many parts are one call deeper, not many. Raises ValueError."""
    tests, known = [part.test for part in parts], [part.types for part in parts if part.types is not None]
    depth = 1 + max(part.depth for part in parts)
    check_depth(depth)
    if joint == "and":
        return Part(both(*tests), frozenset.intersection(*known) if known else None, depth)
    return Part(either(*tests), frozenset.union(*known) if len(known) == len(parts) else None, depth)


def check_depth(depth: int) -> None:
    if depth > MOST_DEPTH:
        raise ValueError(f"the filter has more than {MOST_DEPTH} levels of parentheses, not, and, or; simplify it")


class Filter:
    """A filter. Called with heads, it returns a mask of the frames that it takes. text: as it was written."""

    def __init__(self, text: str, part: Part) -> None:
        self.text, self._part = text, part

    def __call__(self, heads: Heads) -> Mask:
        found: Mask = self._part.test(heads) == 1
        return found

    @property
    def ether_types(self) -> frozenset[int]:
        """EtherTypes by which the NIC's EtherTypeFilters can choose for this filter; empty if they cannot.

        They take no frames of IP, they look behind a VLAN tag, and there are eight of them (82599 7.1.2.3).
        """
        types = self._part.types or frozenset()
        return types if len(types) <= ETHER_TYPE_FILTERS and not types & {*IP_TYPES, *TAGS} else frozenset()

    def takes_frame(self, frame: bytes) -> bool:
        head = np.frombuffer(frame[:HEAD].ljust(HEAD, b"\0"), np.uint8)[None]
        return bool(self(Heads(head, np.array([len(frame)])))[0])

    def takes(self, port: Port, span: Span) -> Mask:
        """Which frames of a span the filter takes, each a single slot."""
        return self(Heads(port.read(span, HEAD), span.len.astype(np.int64)))


def parse_filter(text: str) -> Filter | None:
    """The filter, or None for an empty text, which takes every frame. Raises ValueError with what is allowed."""
    words = [found[1] for found in TOKEN.finditer(text)]
    if not words:
        return None
    parser = Parser(words)
    found = parser.expression()
    if parser.words:
        raise parser.unknown(parser.words[0])
    return Filter(text.strip(), found)


class Parser:
    """words: what is not parsed yet."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self._layer = Layer()
        self._inside = 0  # terms that are being read, one in the other
        self._again: Callable[[str], Part] | None = None  # what a further address or port means

    def unknown(self, word: str) -> ValueError:
        if word in INSTEAD:
            return ValueError(f"{word!r} is not understood here; {INSTEAD[word]}")
        if is_number(word):
            return ValueError(f"{word!r} alone means nothing; write port {word}, len > {word} or the like")
        if is_argument(word) and not word.isalpha():
            return ValueError(f"{word!r} alone means nothing; write host {word} or the like")
        if "[" in word:
            return ValueError(
                f"{word!r} is not understood here: a filter does not compare single bytes. Write the protocol, such "
                "as tcp, and choose with a display filter later"
            )
        return ValueError(
            f"{word!r} is not understood here. A filter is made of {', '.join((*ETHER_TYPES, *PROTOCOLS))}, "
            "[src|dst] host, [src|dst] net, [src|dst] port, portrange, ether host, ether proto, proto, multicast, "
            "broadcast, vlan, less, greater, len, joined by and, or, not, parentheses. A display filter can do more"
        )

    def take(self, *choices: str) -> str:
        """The next word if it is one of these, else ""."""
        return self.words.pop(0) if self.words and self.words[0] in choices else ""

    def argument(self, after: str) -> str:
        if not self.words:
            raise ValueError(f"something is missing after {after!r}, such as: host 10.0.0.1, port 80, ether host MAC")
        return self.words.pop(0)

    def expression(self) -> Part:
        found = self.term()
        while joint := JOINTS.get(self.words[0]) if self.words else None:
            parts = [found]
            while self.words and JOINTS.get(self.words[0]) == joint:
                self.take(*JOINTS)
                parts.append(self.term())
            found = joined(parts, joint)
        return found

    def term(self) -> Part:
        check_depth(self._inside)
        self._inside += 1
        found = self.inner_term()
        self._inside -= 1
        return found

    def inner_term(self) -> Part:
        if self.take("not", "!"):
            part = self.term()
            return Part(negated(part.test), None, part.depth + 1)
        if self.take("("):
            found = self.expression()
            if not self.take(")"):
                raise ValueError("a parenthesis is not closed; write )")
            return found
        return self.primitive()

    def primitive(self) -> Part:
        protocol = self.take("ether", *ETHER_TYPES, *PROTOCOLS)
        side = self.side()
        kind = self.take("host", "net", "port", "portrange", "proto", "multicast", "broadcast")
        if not side and not kind:
            if protocol and (protocol != "ether" or not self.words):
                return self.of_protocol(protocol)
            if not protocol:
                return self.other(self.argument("the filter"))
        if kind in ("multicast", "broadcast") and not side:
            return Part(self.to_many(protocol, kind))
        found = self.with_argument(protocol, side, kind)
        if self.take("("):  # port (80 or 443)
            self._again = found
            self.words.insert(0, "(")
            return self.term()
        part = found(self.argument(kind or side or protocol))
        self._again = found
        return part

    def side(self) -> str:
        """src, dst, or the word between them: src and dst."""
        first = self.take("src", "dst")
        if first and self.words[:2] in (["and", "dst"], ["or", "dst"], ["and", "src"], ["or", "src"]):
            joint, second, *self.words = self.words
            return first if first == second else joint
        return first

    def with_argument(self, protocol: str, side: str, kind: str) -> Callable[[str], Part]:
        """What reads the address, port or number that follows these words."""
        layer = self._layer
        reader = self.reader(layer, protocol, side, kind)

        def part(text: str) -> Part:
            number = ether_type_of(text) if (protocol, kind) == ("ether", "proto") else ETHER_TYPES.get(protocol)
            return Part(reader(text), frozenset({number}) if number and not layer.tags else None)

        return part

    def reader(self, layer: Layer, protocol: str, side: str, kind: str) -> Callable[[str], Test]:
        sides = SIDES[side]
        if kind == "proto" and not side:
            return lambda text: of_number(layer, protocol, text)
        if kind in ("port", "portrange") and protocol in ("", *WITH_PORTS):
            return lambda text: of_ports(layer, protocol, sides, kind, text)
        if protocol == "ether" and kind in ("", "host"):
            return lambda text: ether(sides, text)
        if kind in ("", "host") and protocol in ("", *ETHER_TYPES):
            return lambda text: self.of_address(layer, protocol, sides, kind, text)
        if kind == "net" and protocol in ("", *ETHER_TYPES):
            return lambda text: self.of_net(layer, protocol, sides, text)
        raise ValueError(
            f"{' '.join(filter(None, (protocol, side, kind)))!r} means nothing; write {protocol} and another part, "
            "such as: tcp and host 10.0.0.1, udp port 53"
        )

    def other(self, word: str) -> Part:
        """What begins with none of the usual words."""
        again, self._again = self._again, None
        if word == "vlan":
            return Part(self.of_vlan())
        if word in ("less", "greater"):
            length = read_number(self.argument(word), f"a length; write {word} 100")
            compare = COMPARISONS["<=" if word == "less" else ">="]
            return Part(of_length(lambda lengths: compare(lengths, length)))
        if word == "len":
            return Part(of_len(self.take(*COMPARISONS), self.argument("len")))
        if self.words[1:2] == ["len"] and self.words[0] in COMPARISONS:
            relation = self.take(*COMPARISONS)
            self.take("len")
            return Part(of_len(MIRRORED.get(relation, relation), word))
        if again and is_argument(word):
            self._again = again
            return again(word)
        raise self.unknown(word)

    def of_vlan(self) -> Test:
        vlan = None
        if self.words and is_number(self.words[0]):
            vlan = read_number(self.argument("vlan"), "a VLAN; write vlan 5", 4095)
        layer = self._layer
        if layer.tags == MOST_TAGS:
            raise ValueError(f"a filter looks behind at most {MOST_TAGS} tags; write vlan at most twice")
        self._layer = Layer(layer.tags + 1)
        return layer.tag(vlan)

    def of_protocol(self, name: str) -> Part:
        self._again = None
        if name == "ether":
            raise ValueError("something is missing after 'ether', such as: ether host MAC, ether proto 0x88cc")
        if name in ETHER_TYPES:
            number = ETHER_TYPES[name]
            return Part(self._layer.ether_type(number), None if self._layer.tags else frozenset({number}))
        number, version = PROTOCOLS[name]
        return Part(of_ip(self._layer, version, number))

    def to_many(self, protocol: str, kind: str) -> Test:
        """broadcast, multicast."""
        self._again = None
        if protocol in ("", "ether"):
            return (
                of_mac(0, b"\xff" * 6)
                if kind == "broadcast"
                else compared(0, 1, lambda found: (found & np.uint32(1)) == 1)
            )
        if kind == "multicast" and protocol in (FOUR, SIX):
            return self._layer.multicast4() if protocol == FOUR else self._layer.multicast6()
        raise ValueError(
            f"'{protocol} {kind}' is not understood here; write ether {kind}, ip multicast, or dst host with the "
            "network's broadcast address"
        )

    def of_address(self, layer: Layer, protocol: str, sides: Sides, kind: str, text: str) -> Test:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(not_an_address(text)) from None
        return of_network(layer, protocol, sides, ipaddress.ip_network(address))

    def of_net(self, layer: Layer, protocol: str, sides: Sides, text: str) -> Test:
        """ADDRESS/BITS, ADDRESS mask MASK, or 10.1 for 10.1.0.0/16."""
        address, slash, bits = text.partition("/")
        if re.fullmatch(r"\d+(\.\d+){0,2}", address):
            octets = address.split(".")
            address = ".".join(octets + ["0"] * (4 - len(octets)))
            bits = bits if slash else str(8 * len(octets))
        if not slash and self.take("mask"):
            bits = self.argument("mask")
        try:
            return of_network(layer, protocol, sides, ipaddress.ip_network(f"{address}/{bits}" if bits else address))
        except ValueError as error:
            if "host bits" not in str(error):
                raise ValueError(not_an_address(text)) from None
        whole = ipaddress.ip_network(f"{address}/{bits}", strict=False)
        raise ValueError(f"{text} is not the address of a network: bits after the mask are set; write net {whole}")


def of_network(layer: Layer, protocol: str, sides: Sides, net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Test:
    """Addresses of IPv4, also in ARP and RARP, or of IPv6."""
    value, bits = net.network_address.packed, net.prefixlen
    if net.version == 6:
        if protocol not in ("", SIX):
            raise ValueError(f"{net} is of IPv6; write ip6 instead of {protocol}, or leave {protocol} out")
        return sides(lambda destination: layer.address6(destination, value, bits))
    if protocol == SIX:
        raise ValueError(f"{net} is of IPv4; write ip instead of ip6, or leave ip6 out")

    def of_kind(kind: int) -> Test:
        return sides(lambda destination: layer.address4(kind, destination, value, bits))

    return of_kind(ETHER_TYPES[protocol]) if protocol else either(of_kind(IPV4), of_kind(ARP), of_kind(RARP))


def of_ip(layer: Layer, version: str, number: int) -> Test:
    """The protocol in IP of this version."""
    if version == FOUR:
        return layer.protocol4(number)
    return layer.protocol6(number) if version == SIX else either(layer.protocol4(number), layer.protocol6(number))


def ether_type_of(text: str) -> int:
    """The number or name of an EtherType."""
    name = text.removeprefix("\\")
    number = ETHER_TYPES.get(name) or read_number(name, "an EtherType; write ether proto 0x88cc", 0xFFFF)
    if number < FIRST_ETHER_TYPE:
        raise ValueError(f"{text} is a length and not an EtherType; write ether proto with 0x600 to 0xffff")
    return number


def of_number(layer: Layer, protocol: str, text: str) -> Test:
    """ether proto, ip proto, ip6 proto, proto."""
    name = text.removeprefix("\\")
    if protocol == "ether":
        return layer.ether_type(ether_type_of(text))
    if protocol not in ("", FOUR, SIX):
        raise ValueError(f"'{protocol} proto' means nothing; write ip proto, ip6 proto or ether proto")
    if name in PROTOCOLS:
        return of_ip(layer, protocol, PROTOCOLS[name][0])
    return of_ip(layer, protocol, read_number(name, "a protocol; write ip proto 17", 255))


def of_ports(layer: Layer, protocol: str, sides: Sides, kind: str, text: str) -> Test:
    numbers = [
        read_number(part, f"a port; write its number, such as {kind} {'80' if kind == 'port' else '6000-6008'}", 0xFFFF)
        for part in (text.split("-") if kind == "portrange" else [text])
    ]
    if len(numbers) > 2:
        raise ValueError(f"{text!r} is not a range of ports; write portrange 6000-6008")
    first, last = np.uint32(min(numbers)), np.uint32(max(numbers))
    comparison: Comparison = lambda found: found - first <= last - first  # noqa: E731
    kinds = [PROTOCOLS[name][0] for name in ([protocol] if protocol else WITH_PORTS)]
    return either(
        both(layer.ether_type(IPV6), either(*(layer.ports6(kind, sides, comparison) for kind in kinds))),
        both(layer.ether_type(IPV4), either(*(layer.ports4(kind, sides, comparison) for kind in kinds))),
    )


def of_len(relation: str, text: str) -> Test:
    if not relation:
        raise ValueError(f"'len {text}' compares nothing; write len > 100")
    length, compare = read_number(text, "a length; write len > 100"), COMPARISONS[relation]
    return of_length(lambda lengths: compare(lengths, length))


def ether(sides: Sides, text: str) -> Test:
    digits = text.replace(":", "").replace("-", "")
    if not re.fullmatch("[0-9a-fA-F]{12}", digits):
        raise ValueError(f"{text!r} is not a MAC address; write ether host 02:00:00:00:00:01")
    return sides(lambda destination: of_mac(0 if destination else 6, bytes.fromhex(digits)))


def is_number(text: str) -> bool:
    return bool(re.fullmatch("0[xX][0-9a-fA-F]+|[0-9]+", text))


def is_argument(text: str) -> bool:
    """Whether the word is a number, an address, a network, a range, or a MAC address."""
    return bool(re.fullmatch(r"[0-9a-fA-F][0-9a-fA-F:./x-]*|::[0-9a-fA-F:./]*", text))


def read_number(text: str, what: str, most: int = 0xFFFF_FFFF) -> int:
    """A number as C writes it: 0x20, 040, 32. Raises ValueError with `what` it is not."""
    try:
        number = int(text, 8 if re.fullmatch("0[0-7]+", text) else 0) if is_number(text) else most + 1
    except ValueError:
        number = most + 1
    if number > most:
        raise ValueError(f"{text!r} is not {what}")
    return number


def not_an_address(text: str) -> str:
    if re.fullmatch("([0-9a-fA-F]{1,2}[:-]){5}[0-9a-fA-F]{1,2}", text):
        return f"{text!r} is a MAC address; write ether host {text}"
    return f"{text!r} is not an address; write host 10.0.0.1, net 10.0.0.0/8 or host fe80::1. Names are not looked up"
