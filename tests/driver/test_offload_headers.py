"""Checksums and segments behind IPv6 extension headers and IPv4 options, and frames that the NIC cannot finish.

Three judges: the sum computed here from the addresses that a receiver uses, tcpdump, and Scapy (slow)."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ixrings import Offload, Port, open_port
from ixrings.hw.capture.pcap import read_capture
from tests.support.checksums import total

MACS = bytes.fromhex("020000000002020000000001")
SOURCE, VIA, LAST, HOME = (bytes.fromhex("20010db8") + bytes(11) + bytes([number]) for number in (1, 2, 3, 4))
TCP, UDP, SCTP = 6, 17, 132
HOP, ROUTE, FRAGMENT, ESP, AH, NONE, OPTIONS, MOBILITY = 0, 43, 44, 50, 51, 59, 60, 135
PAD4 = b"\x01\x04" + bytes(4)
Chain = list[tuple[int, bytes]]  # of each extension header its number, and its bytes after Next Header

HOP_PAD: tuple[int, bytes] = (HOP, b"\0" + PAD4)
OPTIONS_PAD: tuple[int, bytes] = (OPTIONS, b"\0" + PAD4)
HOME_OPTION: tuple[int, bytes] = (OPTIONS, b"\2\x01\x02\0\0\xc9\x10" + HOME)
ATOMIC: tuple[int, bytes] = (FRAGMENT, bytes(7))


def route(kind: int, left: int, *addresses: bytes) -> tuple[int, bytes]:
    return ROUTE, bytes([2 * len(addresses), kind, left]) + bytes(4) + b"".join(addresses)


# The chain, and the addresses of its pseudo header (RFC 8200 8.1, RFC 6275 11.3.1, RFC 8754 4.1). IPv6's own
# destination is VIA.
CHAINS: dict[str, tuple[Chain, bytes, bytes]] = {
    "none": ([], SOURCE, VIA),
    "hop-by-hop": ([HOP_PAD], SOURCE, VIA),
    "destination options": ([OPTIONS_PAD], SOURCE, VIA),
    "hop-by-hop, destination options twice": ([HOP_PAD, OPTIONS_PAD, OPTIONS_PAD], SOURCE, VIA),
    "long options": ([(OPTIONS, bytes([30]) + b"\x01\xf4" + bytes(244))], SOURCE, VIA),
    "atomic fragment": ([ATOMIC], SOURCE, VIA),
    "route at its end": ([route(2, 0, LAST)], SOURCE, VIA),
    "route of type 2": ([route(2, 1, LAST)], SOURCE, LAST),
    "segment route": ([route(4, 1, LAST, VIA)], SOURCE, LAST),
    "source route of type 0": ([HOP_PAD, route(0, 2, HOME, LAST)], SOURCE, LAST),
    "home address": ([HOME_OPTION], HOME, VIA),
}


def l4(protocol: int, payload: bytes, source: bytes, destination: bytes) -> bytes:
    """A TCP segment or UDP datagram with its checksum."""
    if protocol == TCP:
        before, after = struct.pack("!HHIIBBH", 5000, 80, 7, 0, 5 << 4, 16, 100), bytes(2) + payload
    else:
        before, after = struct.pack("!HHH", 5000, 5001, 8 + len(payload)), payload
    length = len(before) + 2 + len(after)
    pseudo = source + destination + struct.pack("!II", length, protocol)
    found = ~total(pseudo + before + bytes(2) + after) & 0xFFFF
    return before + struct.pack("!H", found or 0xFFFF) + after


def ipv6(chain: Chain, protocol: int, body: bytes) -> bytes:
    numbers = [number for number, _ in chain] + [protocol]
    extensions = b"".join(bytes([following]) + header for following, (_, header) in zip(numbers[1:], chain))
    head = struct.pack("!IHBB", 6 << 28, len(extensions) + len(body), numbers[0], 64)
    return MACS + b"\x86\xdd" + head + SOURCE + VIA + extensions + body


def ipv4(options: bytes, protocol: int, body: bytes, fragment: int = 0) -> bytes:
    words = 5 + len(options) // 4
    start = struct.pack("!BBHHHBB", 0x40 | words, 0, 4 * words + len(body), 7, fragment, 64, protocol)
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    return (
        MACS
        + b"\x08\x00"
        + start
        + struct.pack("!H", ~total(start + addresses + options) & 0xFFFF)
        + addresses
        + (options + body)
    )


def unfinished(frame: bytes, protocol: int, body: bytes) -> bytes:
    """The frame with a checksum of 0."""
    at = len(frame) - len(body) + (16 if protocol == TCP else 6)
    return frame[:at] + bytes(2) + frame[at + 2 :]


def comes_back(port: Port, frame: bytes, offload: Offload, count: int = 1) -> list[bytes]:
    port.send([frame], offload=offload)
    return [received for _, received in zip(range(count), port.recv(20))]


@pytest.mark.parametrize("protocol", [UDP, TCP], ids=["UDP", "TCP"])
def test_a_checksum_behind_extension_headers_is_right_and_so_is_each_segment(protocol: int) -> None:
    payload = bytes(number % 251 for number in range(1000))
    with open_port("emulated:loop", promiscuous=True) as port:
        for name, (chain, source, destination) in CHAINS.items():
            body = l4(protocol, payload, source, destination)
            right = ipv6(chain, protocol, body)
            for offload in (Offload(checksums=True), Offload(mss=1000), Offload(checksums=True, vlan=7)):
                if offload.mss and name == "atomic fragment":
                    continue
                sent = unfinished(right, protocol, body) + (b"\xee" * 9 if not offload.mss else b"")
                [got] = comes_back(port, sent, offload)
                assert got == (right if offload.vlan is None else right[:12] + b"\x81\0\0\7" + right[12:]), name


@pytest.mark.parametrize("protocol", [UDP, TCP], ids=["UDP", "TCP"])
def test_segments_carry_the_extension_headers_and_their_own_lengths(protocol: int) -> None:
    payload = bytes(number % 251 for number in range(2500))
    with open_port("emulated:loop", promiscuous=True) as port:
        for name, (chain, source, destination) in CHAINS.items():
            if name == "atomic fragment":
                continue
            body = l4(protocol, payload, source, destination)
            got = comes_back(port, unfinished(ipv6(chain, protocol, body), protocol, body), Offload(mss=1000), 3)
            for number, frame in enumerate(got):
                at = len(frame) - len(body) + 2500 - (1000 if number < 2 else 500)
                ours = l4(protocol, payload[1000 * number :][:1000], source, destination)
                if protocol == TCP:  # its sequence number grows
                    ours = ours[:4] + struct.pack("!I", 7 + 1000 * number) + ours[8:]
                    bare = ours[:16] + bytes(2) + ours[18:]
                    pseudo = source + destination + struct.pack("!II", len(bare), protocol)
                    ours = ours[:16] + struct.pack("!H", ~total(pseudo + bare) & 0xFFFF) + ours[18:]
                assert frame[at:] == ours and frame[:at] + ours == ipv6(chain, protocol, ours), (name, number)


def test_a_source_route_of_ipv4_has_its_last_hop_in_the_pseudo_header() -> None:
    ours, other, last = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), bytes([10, 9, 9, 9])
    with open_port("emulated:loop", promiscuous=True) as port:
        for options, destination in (
            (b"\x01\x83\x07\x04" + last, last),
            (b"\x01\x89\x07\x08" + last, other),
            (b"\x01\x01\x01\x00", other),
        ):
            pseudo = struct.pack("!BBH", 0, UDP, 8 + 40)
            before = struct.pack("!HHH", 5000, 5001, 48)
            found = ~total(ours + destination + pseudo + before + bytes(2) + bytes(40)) & 0xFFFF
            body = before + struct.pack("!H", found) + bytes(40)
            right = ipv4(options, UDP, body)
            assert comes_back(port, unfinished(right, UDP, body), Offload(checksums=True)) == [right]


BODY = l4(UDP, bytes(40), SOURCE, VIA)
REFUSED: dict[str, tuple[bytes, str]] = {
    "authentication": (ipv6([(AH, b"\4" + bytes(22))], UDP, BODY), "behind an Authentication header"),
    "authentication, IPv4": (ipv4(b"", AH, bytes(40)), "behind an Authentication header"),
    "first fragment": (ipv6([(FRAGMENT, b"\0\0\1" + bytes(4))], UDP, BODY), "in the first of several fragments"),
    "first fragment, IPv4": (ipv4(b"", UDP, BODY, 0x2000), "in the first of several fragments"),
    "unknown route": (ipv6([route(3, 1, LAST)], UDP, BODY), "behind a Routing header of type 3"),
    "mobility with more": (ipv6([(MOBILITY, b"\0" + bytes(6))], UDP, BODY), "behind a Mobility header"),
    "jumbogram": (ipv6([(HOP, b"\0\xc2\x04" + bytes(4))], UDP, BODY), "in a jumbogram"),
    "too long": (ipv6([(OPTIONS, bytes([31]) + bytes(254))] * 2, UDP, BODY), "the NIC can skip 511"),
    "cut short": (ipv6([(OPTIONS, b"\x20" + bytes(6))], UDP, BODY), "ends inside its IPv6 extension headers"),
    "option cut short": (ipv6([(OPTIONS, b"\0\x01\x09" + bytes(4))], UDP, BODY), "a damaged IPv6 option"),
    "option of IPv4": (ipv4(b"\x83\x00\x00\x00", UDP, BODY), "a damaged IPv4 option"),
    "6in4": (ipv4(b"", 41, ipv6([], UDP, BODY)[14:]), "inside a tunnel (IPv6 in IP)"),
    "4in6": (ipv6([OPTIONS_PAD], 4, ipv4(b"", UDP, BODY)[14:]), "inside a tunnel (IPv4 in IP)"),
    "GRE": (ipv4(b"", 47, bytes(40)), "inside a tunnel (GRE)"),
    "MPLS": (MACS + b"\x88\x47" + bytes(50), "behind MPLS"),
    "PPPoE": (MACS + b"\x81\0\0\5\x88\x64" + bytes(50), "behind PPPoE"),
    "length of UDP": (ipv6([HOP_PAD], UDP, BODY + bytes(8)), "the UDP header says 48 bytes, but the IP packet has 56"),
    "UDP cut short": (ipv6([HOP_PAD], UDP, BODY[:5]), "5 bytes of a UDP header of 8"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_checksum_that_the_nic_cannot_make_is_refused(kind: str) -> None:
    frame, words = REFUSED[kind]
    with pytest.raises(ValueError, match=re.escape(words)):
        Offload(checksums=True).prepare(memoryview(frame))
    if kind != "length of UDP":
        with pytest.raises(ValueError):
            Offload(mss=10).prepare(memoryview(frame))


@pytest.mark.parametrize(
    "frame",
    [
        ipv6([(FRAGMENT, b"\0\0\x08" + bytes(4))], UDP, bytes(40)),
        ipv6([OPTIONS_PAD], NONE, b""),
        ipv6([], ESP, bytes(40)),
        ipv6([(MOBILITY, b"\0" + bytes(6))], NONE, b""),
        ipv6([HOP_PAD], 58, bytes(40)),
    ],
    ids=["later fragment", "no next header", "ESP", "mobility", "ICMPv6"],
)
def test_a_packet_without_such_a_checksum_is_sent_unchanged(frame: bytes) -> None:
    context, sent = Offload(checksums=True).prepare(memoryview(frame))
    assert context is None and bytes(sent) == frame
    with pytest.raises(ValueError, match="mss segments"):
        Offload(mss=10).prepare(memoryview(frame))


@pytest.mark.parametrize("count", [1000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_frames_of_random_headers_are_finished_or_refused_with_a_sentence(count: int) -> None:
    rng, finished, refused = random.Random(82599), 0, 0
    for _ in range(count):
        chain = [
            rng.choice([HOP_PAD, OPTIONS_PAD, HOME_OPTION, ATOMIC, route(rng.randrange(6), 1, LAST)]) for _ in "ab"
        ]
        frame = bytearray(ipv6(chain, rng.choice([TCP, UDP, SCTP, 4]), bytes(40)))
        for _ in range(rng.randrange(4)):
            frame[rng.randrange(14, len(frame))] = rng.choice([0, 1, 43, 44, 60, 255, rng.randrange(256)])
        if rng.randrange(4) == 0:
            del frame[rng.randrange(14, len(frame)) :]
        try:
            Offload(checksums=True, mss=rng.choice([0, 10])).prepare(memoryview(bytes(frame)))
            finished += 1
        except ValueError as error:
            assert str(error)
            refused += 1
    print(f"{finished} frames finished, {refused} refused")
    assert min(finished, refused) > count / 10


def recorded(folder: Path, names: list[str]) -> Path:
    """A capture of what the NIC sent: each chain with UDP and TCP, by checksums and by segmentation."""
    file = folder / "sent.pcap"
    with open_port(f"emulated:pcap=,{file}") as port:
        for name in names:
            chain, source, destination = CHAINS[name]
            for protocol in (UDP, TCP):
                for length in (11, 100, 1300):
                    body = l4(protocol, bytes(length), source, destination)
                    frame = unfinished(ipv6(chain, protocol, body), protocol, body)
                    segments = length > 100 and name != "atomic fragment"
                    port.send([frame], offload=Offload(mss=400) if segments else Offload(checksums=True))
            port.flush()
    return file


def by_tcpdump(file: Path) -> tuple[int, int]:
    """How many checksums tcpdump found right, and wrong."""
    done = subprocess.run(["tcpdump", "-nvvr", file], capture_output=True, text=True, timeout=60, check=True)
    right = len(re.findall(r"\[udp sum ok\]|cksum 0x[0-9a-f]{4} \(correct\)", done.stdout))
    return right, len(re.findall(r"bad udp cksum|\(incorrect|\[no cksum\]", done.stdout))


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="needs tcpdump")
def test_tcpdump_finds_every_checksum_right(tmp_path: Path) -> None:
    # It does not check the first, ignores the second, and takes the last address of each route.
    unknown = ("atomic fragment", "home address", "route at its end")
    names = [name for name in CHAINS if name not in unknown]
    file = recorded(tmp_path, names)
    assert by_tcpdump(file) == (len(read_capture(file)), 0)
    broken = tmp_path / "broken.pcap"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    assert by_tcpdump(broken) == (len(read_capture(file)) - 1, 1)


SCAPY = """
import sys
from scapy.all import TCP, UDP, Ether, IP, IPv6, raw, rdpcap

right = wrong = 0
for frame in rdpcap(sys.argv[1]):
    layer = frame[TCP] if TCP in frame else frame[UDP]
    found, layer.chksum = layer.chksum, None
    again = Ether(raw(frame))
    computed = (again[TCP] if TCP in again else again[UDP]).chksum
    right, wrong = right + (computed == found), wrong + (computed != found)
print(right, wrong)
"""


@pytest.fixture(scope="module")
def scapy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with Scapy, from the package index."""
    folder = tmp_path_factory.mktemp("scapy")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    install: list[str | Path] = [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "scapy"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"Scapy cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin/python"


@pytest.mark.slow
def test_scapy_finds_every_checksum_right(scapy: Path, tmp_path: Path) -> None:
    names = [name for name in CHAINS if name != "home address"]  # it finds that option only where it stands alone
    file = recorded(tmp_path, names)
    done = subprocess.run([scapy, "-c", SCAPY, file], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{len(read_capture(file))} 0\n", done.stderr
