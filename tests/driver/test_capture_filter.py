"""Capture filters: they take the frames that tcpdump takes, and refuse what they do not understand."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ixrings.driver.capture_filter import parse_filter
from ixrings.driver.frame_tests import HEAD, Heads
from ixrings.hw.capture.pcap import CaptureWriter, read_capture

MACS = [bytes.fromhex(f"0200000000{n:02x}") for n in (1, 2, 3)] + [b"\xff" * 6, bytes.fromhex("01005e000001")]
ADDRESSES = [bytes(part) for part in ((10, 0, 0, 1), (10, 0, 1, 2), (192, 168, 0, 1), (224, 0, 0, 1), (10, 1, 0, 9))]
ADDRESSES6 = [
    bytes.fromhex(each)
    for each in ("fe80" + "00" * 13 + "01", "ff02" + "00" * 13 + "01", "20010db8" + "00" * 11 + "07")
]
NS = 1_000_000_000
PORTS = [53, 80, 6000, 6005, 443, 0]
TAGS = (0x8100, 0x88A8, 0x9100)


def ipv4(chance: random.Random) -> bytes:
    words = chance.choice((5, 5, 5, 6, 15, 4))
    protocol = chance.choice((6, 17, 17, 132, 1, 2, 103, 112, 50, 51))
    fragment = chance.choice((0, 0, 0, 0x2000, 0x2001, 1, 0x4000))
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | words, 0, 60, 1, fragment, 64, protocol, 0, chance.choice(ADDRESSES), chance.choice(ADDRESSES),
    )  # fmt: skip
    return head + bytes(max(0, 4 * words - 20)) + ports(chance)


def ipv6(chance: random.Random) -> bytes:
    following = chance.choice((6, 17, 17, 58, 44, 44, 0, 132))
    addresses = chance.choice(ADDRESSES6) + chance.choice(ADDRESSES6)
    fragment = struct.pack(">BBHI", chance.choice((6, 17, 58)), 0, chance.choice((1, 8)), 1) if following == 44 else b""
    return struct.pack(">IHBB", 0x60000000, 20, following, 64) + addresses + fragment + ports(chance)


def arp(chance: random.Random) -> bytes:
    source, target = chance.choice(ADDRESSES), chance.choice(ADDRESSES)
    return struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, MACS[0], source, bytes(6), target)


def ports(chance: random.Random) -> bytes:
    return struct.pack(">HHI", chance.choice(PORTS), chance.choice(PORTS), 0) + bytes(chance.choice((0, 12, 60)))


def frame(chance: random.Random) -> bytes:
    """A frame of any kind."""
    tags = b"".join(
        struct.pack(">HH", chance.choice(TAGS), chance.choice((0, 5, 7, 0x6005)))
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2)))
    )
    kind, body = chance.choice(
        ((0x0800, ipv4), (0x0800, ipv4), (0x86DD, ipv6), (0x0806, arp), (0x8035, arp), (0x88CC, arp), (46, ipv4))
    )
    return chance.choice(MACS) + chance.choice(MACS) + tags + struct.pack(">H", kind) + body(chance)


WHOLE = [frame(random.Random(seed)) for seed in range(500)]
CUT = [each[: random.Random(each).randrange(1, len(each))] for each in WHOLE[::2]]

PRIMITIVES = [
    "arp", "rarp", "ip", "ip6", "icmp", "icmp6", "igmp", "pim", "vrrp", "ah", "esp", "tcp", "udp", "sctp",
    "port 80", "src port 53", "dst port 80", "tcp port 80", "udp dst port 80", "sctp port 53", "udp port 53",
    "src and dst port 53", "src or dst port 80", "portrange 6000-6005", "tcp portrange 6005-53", "port (80 or 443)",
    "host 10.0.0.1", "src 10.0.0.1", "src host 10.0.0.1", "dst 10.0.1.2", "ip host 10.0.0.1", "arp host 10.0.0.1",
    "rarp src host 10.0.0.1", "src and dst host 10.0.0.1", "host fe80::1", "ip6 host ff02::1", "ip6 src 2001:db8::7",
    "net 10.0.0.0/8", "dst net 192.168.0.0/16", "net 10", "src net 10.0", "net 10.1", "net 10.0.0.0 mask 255.255.255.0",
    "net ff02::/16", "ip6 net fe80::/10", "net 0.0.0.0/0", "ip net 10.0.0/24", "arp net 10.0.0.0/24",
    "ether host 02:00:00:00:00:03", "ether dst ff:ff:ff:ff:ff:ff", "ether src 02-00-00-00-00-02",
    "ether proto 0x88cc", r"ether proto \ip6", "proto 17", r"ip proto \tcp", "ip6 proto 17", "ip proto 0x67",
    "ether broadcast", "broadcast", "multicast", "ether multicast", "ip multicast", "ip6 multicast",
    "less 60", "greater 70", "len > 60", "len<=54", "len == 42", "len != 42", "60 < len", "len=42", "42 >= len",
    "vlan", "vlan 5", "vlan 7 and udp port 53", "vlan and vlan 7", "vlan and vlan and host 10.0.0.1",
    "vlan and ether host 02:00:00:00:00:01", "vlan and net ff02::/16", "not vlan and arp", "vlan and portrange 53-80",
]  # fmt: skip
JOINED = [
    "not (udp or tcp) and ip", "host 10.0.0.1 and port 80 or arp", "arp or host 10.0.0.1 and udp", "port 80 or 53",
    "host 10.0.0.1 or 10.0.1.2 and not udp", "!tcp&&!udp", "(tcp||udp)and(port 80)", "not not arp",
    "tcp dst port 53 or 80 or 6000", "not port 53", "not host 10.0.0.1", "not ip6 proto 17", "vlan 5 or arp",
    "net 10.0.0.0/24 or 192.168", "port 53 and not 80",
]  # fmt: skip


def random_expressions(count: int) -> Iterator[str]:
    chance = random.Random(82599)
    simple = [each for each in PRIMITIVES if "vlan and vlan" not in each]
    for _ in range(count):
        parts = [chance.choice(("", "not ")) + chance.choice(simple) for _ in range(chance.choice((2, 3, 4)))]
        if sum("vlan" in part for part in parts) > 1:
            continue
        if chance.random() < 0.5:
            parts[0], parts[1] = "(" + parts[0], parts[1] + ")"
        yield "".join(
            part + chance.choice((" and ", " or ")) * (index < len(parts) - 1) for index, part in enumerate(parts)
        )


@pytest.fixture(autouse=True)
def tcpdump() -> None:
    if not shutil.which("tcpdump"):
        pytest.skip("tcpdump is not installed. Run: apt install tcpdump")


def chosen(text: str, frames: list[bytes]) -> list[int]:
    """The numbers of the frames that the filter takes. What follows a short frame in its buffer is old data."""
    wanted = parse_filter(text)
    assert wanted is not None
    data = np.frombuffer(b"".join(each[:HEAD].ljust(HEAD, b"\xa5") for each in frames), np.uint8)
    heads = Heads(data.reshape(-1, HEAD), np.array([len(each) for each in frames]))
    numbers: list[int] = np.flatnonzero(wanted(heads)).tolist()
    return numbers


def chosen_by_tcpdump(text: str, file: Path, *options: str) -> list[int]:
    """The same by tcpdump, where frame n has the time n seconds."""
    command = ["tcpdump", *options, "-r", str(file), "-w", str(file.with_name("some.pcap")), text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if "expression rejects all packets" in done.stderr:
        return []
    assert done.returncode == 0, (text, done.stderr)
    return [int(time) // NS for time in read_capture(file.with_name("some.pcap")).times_ns]


def disagreements(expressions: list[str], folder: Path, frames: list[bytes], *options: str) -> list[str]:
    file = folder / "all.pcap"
    with CaptureWriter(file) as writer:
        for number, each in enumerate(frames):
            writer.write(each, number * NS)
    found = []
    for text in expressions:
        ours, theirs = chosen(text, frames), chosen_by_tcpdump(text, file, *options)
        if ours != theirs:
            found.append(f"{text}: ours {set(ours) - set(theirs)}, tcpdump's {set(theirs) - set(ours)}")
    return found


def test_a_filter_takes_what_tcpdump_takes(tmp_path: Path) -> None:
    assert disagreements([*PRIMITIVES[::9], *JOINED[:4]], tmp_path, WHOLE) == []


@pytest.mark.slow
def test_every_filter_takes_what_tcpdump_takes(tmp_path: Path) -> None:
    expressions = [*PRIMITIVES, *(f"not {each}" for each in PRIMITIVES), *JOINED, *random_expressions(300)]
    assert disagreements(expressions, tmp_path, WHOLE) == []
    empty = [each for each in PRIMITIVES if not chosen(each, WHOLE)]
    assert empty == ["not vlan and arp"]  # behind a tag that is not there


@pytest.mark.slow
def test_frames_that_end_early_are_taken_and_refused_as_by_tcpdump(tmp_path: Path) -> None:
    """-O: without its optimizer, which leaves out some reads past the end of a frame."""
    expressions = [*PRIMITIVES, *(f"not {each}" for each in PRIMITIVES), *JOINED, *random_expressions(300)]
    assert disagreements(expressions, tmp_path, WHOLE + CUT, "-O") == []


def test_no_filter_takes_every_frame() -> None:
    assert parse_filter("") is None and parse_filter("  ") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("port http", "write its number, such as port 80"),
        ("portrange 10-b", "write its number, such as portrange 6000-6008"),
        ("port 70000", "'70000' is not a port"),
        ("host", "something is missing after 'host'"),
        ("(udp", "a parenthesis is not closed; write )"),
        ("udp)", "')' is not understood here"),
        ("host www.example.com", "write host 10.0.0.1, net 10.0.0.0/8 or host fe80::1. Names are not looked up"),
        ("host 02:00:00:00:00:01", "write ether host 02:00:00:00:00:01"),
        ("ether host 1", "'1' is not a MAC address; write ether host 02:00:00:00:00:01"),
        ("net 10.0.0.1/8", "bits after the mask are set; write net 10.0.0.0/8"),
        ("net fe80::1/64", "write net fe80::/64"),
        ("less x", "'x' is not a length; write less 100"),
        ("len 5", "'len 5' compares nothing; write len > 100"),
        ("src", "something is missing after 'src'"),
        ("tcp 80", "'80' alone means nothing; write port 80"),
        ("10.0.0.1", "'10.0.0.1' alone means nothing; write host 10.0.0.1"),
        ("tcp host 10.0.0.1", "write tcp and another part, such as: tcp and host 10.0.0.1, udp port 53"),
        ("tcp[13] & 2 != 0", "'tcp[13]' is not understood here: a filter does not compare single bytes"),
        ("gateway 10.0.0.1", "write ether host MAC and not host ADDRESS"),
        ("mpls 5", "write ether proto 0x8847"),
        ("ip broadcast", "write ether broadcast, ip multicast, or dst host"),
        ("ether proto 5", "is a length and not an EtherType"),
        ("ip6 host 10.0.0.1", "is of IPv4; write ip instead of ip6"),
        ("arp host fe80::1", "is of IPv6; write ip6 instead of arp"),
        ("vlan 5000", "'5000' is not a VLAN; write vlan 5"),
        ("vlan and vlan and vlan", "write vlan at most twice"),
        ("udp prot 53", "'prot'"),
        ("arp and 10", "'10' alone means nothing"),
        ("port 80 or tcp or 443", "'443' alone means nothing"),
        ("not", "something is missing"),
        ("tcp udp", "'udp' is not understood here"),
    ],
)  # fmt: skip
def test_what_a_filter_does_not_understand_is_refused_with_what_to_write(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_filter(text)


def test_no_words_make_the_parser_stumble() -> None:
    """Whatever the words, there is a filter or a sentence."""
    words = ["not", "(", ")", "and", "or", "src", "dst", "host", "port", "net", "ether", "vlan", "len", "<", "tcp", "5"]
    for text in itertools.chain(map(" ".join, itertools.product(words, repeat=3)), ["&", "a[b", "1/", "::", "\\"]):
        try:
            parse_filter(text)
        except ValueError as error:
            assert re.search("write|understood|missing|compares nothing", str(error)), (text, str(error))


def test_a_filter_of_a_thousand_hosts_works_and_one_that_is_nested_too_deep_is_refused() -> None:
    many = parse_filter(" or ".join(f"host 10.0.{number // 256}.{number % 256}" for number in range(1000)))
    last, other = (
        bytes(12) + b"\x08\0" + bytes(12) + bytes(net) + bytes(30) for net in ((10, 0, 3, 231), (10, 0, 3, 232))
    )
    assert many and many.takes_frame(last) and not many.takes_frame(other)
    for text in ("not " * 2000 + "tcp", "(" * 2000 + "tcp" + ")" * 2000, "tcp and udp or " * 200 + "arp"):
        with pytest.raises(ValueError, match="more than 100 levels"):
            parse_filter(text)
