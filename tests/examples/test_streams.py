"""examples/pktgen.py -f tx: what tshark reads of the frames, and what the program refuses."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest

from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from tests.support.programs import run_example

NO_TSHARK = "tshark is not installed"
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason=NO_TSHARK)
CHECKS = [f"-o{name}.check_checksum:TRUE" for name in ("ip", "udp", "tcp")]
GOOD = "1"  # tshark's word for a checksum


def transmit(file: Path, count: int, *arguments: str, rules: str = "raise") -> dict[str, object]:
    """Send `count` frames into a capture. Returns the JSON summary."""
    port = f"emulated@rules={rules}:pcap=,{file}"
    done = run_example("pktgen", "-f", "tx", "-i", port, "-n", count, "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    summary: dict[str, object] = json.loads(done.stdout)
    assert summary["sent"] == count
    return summary


def seen(file: Path, *fields: str) -> list[tuple[str, ...]]:
    """What tshark reads of each frame; "" for a field that it does not have."""
    options = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-r", file, *CHECKS, "-T", "fields", *options], capture_output=True, text=True, check=True
    )
    return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


V4 = ("ip.src", "udp.srcport", "ip.dst", "udp.dstport", "vlan.id", "eth.dst", "ip.checksum.status",
      "udp.checksum.status")  # fmt: skip


@needs_tshark
@pytest.mark.slow
def test_ports_change_first_then_addresses_of_the_source_the_destination_and_tags(tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    transmit(
        file, 50, "-s", "10.0.0.9:7-10.0.0.10:8,10.3.0.1:9", "-d", "192.0.2.255-192.0.3.0", "--vlan", "5,9-10",
        "-D", "02:00:00:00:00:01",
    )  # fmt: skip
    sources = [("10.0.0.9", "7"), ("10.0.0.9", "8"), ("10.0.0.10", "7"), ("10.0.0.10", "8"), ("10.3.0.1", "9")]
    expected = [
        (*source, destination, "1234", vlan, "02:00:00:00:00:01", GOOD, GOOD)
        for vlan in ("5", "9", "10")
        for destination in ("192.0.2.255", "192.0.3.0")
        for source in sources
    ]
    assert seen(file, *V4) == (expected * 2)[:50]


MANY = [
    ("-s", "10.0.0.1:1000-10.0.0.9:2000"),  # longer than a ring, so that blocks are written
    ("-s", "10.0.0.0-10.255.255.255", "-d", "10.0.0.1:1-10.0.0.1:60000"),  # longer than a table
    ("-s", "10.0.0.1:1000-10.0.0.9:2000", "--offload", "-l", "60-300"),
    ("-s", "10.0.0.1-10.0.0.7", "--offload", "--vlan", "3", "--number"),
    ("-s", "[fd00::ffff:ffff:ffff:fff0]:1000-[fd00:0:0:1::9]:1003", "--number"),
    ("-s", "[fd00::1]:1000-[fd00::9]:2000", "-d", "fd01::1-fd01::ff", "--random", "--offload", "--vlan", "1,2"),
    ("-s", "10.0.0.1:1000-10.0.0.9:2000", "-p", "4", "-l", "imix", "--random"),
]


@needs_tshark
@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    MANY,
    ids=lambda words: " ".join(words[2:]) or "ports",
)
def test_every_frame_has_right_checksums_however_it_is_made(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    transmit(file, 9500, *arguments)
    ipv6 = ":" in arguments[1].split("-")[0].partition(".")[0]
    found = Counter(seen(file, "ip.checksum.status", "udp.checksum.status"))
    assert found == {("" if ipv6 else GOOD, GOOD): 9500}
    field = "ipv6.src" if ipv6 else "ip.src"
    rows = seen(file, field, "udp.srcport")
    if "--random" not in arguments:
        first, last = (end.rpartition(":") if "." not in end or ":" in end else (end, "", "") for end in
                       arguments[1].split("-"))  # fmt: skip
        low, high = (ip_address(end[0].strip("[]")) for end in (first, last))
        ports = range(int(first[2] or 1234), int(last[2] or 1234) + 1)
        count = int(high) - int(low) + 1
        assert rows == [
            (str(type(low)(int(low) + n // len(ports) % count)), str(ports[n % len(ports)])) for n in range(9500)
        ]
    else:
        assert len(set(rows)) > 4000, "the draw is narrow"


@pytest.mark.slow
def test_imix_has_its_ratio_and_each_flow_has_every_size(tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    transmit(file, 1200, "-l", "imix", "-s", "10.0.0.1-10.0.0.5")
    frames = list(read_capture(file))
    assert Counter(map(len, frames)) == {60: 700, 590: 400, 1514: 100}
    for last in range(1, 6):
        mine = Counter(len(frame) for frame in frames if frame[29] == last)
        assert mine == {60: 140, 590: 80, 1514: 20}
    longest = [place for place, frame in enumerate(frames[:120]) if len(frame) == 1514]
    assert max(longest) - min(longest) > 60, "the long frames come together"


@pytest.mark.slow
def test_drawn_sizes_have_their_weights_and_a_seed_draws_the_same_frames(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.pcap" for name in "abc"]
    draw = ("-l", "60:3,1000:1", "-s", "10.0.0.1-10.0.0.250", "--random")
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        transmit(file, 8000, *draw, "--seed", seed)
    first, again, other = (list(read_capture(file)) for file in files)
    assert first == again != other
    assert 1800 < sum(len(frame) == 1000 for frame in first) < 2200
    assert len({frame[26:30] for frame in first}) == 250


@pytest.mark.slow
def test_several_queues_share_the_flows(tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    transmit(file, 3000, "-s", "10.0.0.1-10.0.0.10", "-p", "3", "-b", "1")
    assert Counter(frame[29] for frame in read_capture(file)) == pytest.approx(dict.fromkeys(range(1, 11), 300), abs=60)


@pytest.mark.slow
def test_jumbo_frames_and_short_ones_leave_no_old_bytes_behind(tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    transmit(file, 600, "-l", "9000,60,61,9724", "-s", "10.0.0.1:1-10.0.0.9:2000")
    frames = list(read_capture(file))
    assert Counter(map(len, frames)) == {9000: 150, 60: 150, 61: 150, 9724: 150}
    assert not any(any(frame[42:]) for frame in frames)


@pytest.mark.slow
def test_numbers_say_sender_stream_and_number_and_the_summary_tells_the_streams(tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    summary = transmit(file, 2500, "-s", "10.0.0.1-10.0.0.3", "--vlan", "8", "--number", "4294967294", "-p", "2")
    numbers: dict[int, list[int]] = {}
    senders = set()
    for frame in read_capture(file):
        magic, sender, stream, number, _ = struct.unpack("!HIHIH", frame[46:60])
        assert (magic, frame[33]) == (0x8259, stream + 1) and len(frame) == 60
        assert sum(struct.unpack("!7H", frame[46:60])) % 0xFFFF == 0
        senders.add(sender)
        numbers.setdefault(stream, []).append(number)
    assert len(senders) == 1
    assert numbers == {
        stream: [(4294967294 + k) % 2**32 for k in range(len(found))] for stream, found in numbers.items()
    }
    assert summary["streams"] == [
        {"stream": k, "sent": len(numbers[k]), "source": f"10.0.0.{k + 1}:1234", "destination": "10.1.0.1:1234",
         "vlan": 8} for k in range(3)
    ]  # fmt: skip


# ---- from a capture ----

MACS = bytes.fromhex("020000000001020000000002")


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    return struct.pack("!H", (0xFFFF - total % 0xFFFF) or 0xFFFF)


def packet(protocol: int, source: str, destination: str, upper: bytes, at: int, vlan: bool = False) -> bytes:
    """A frame whose upper header has its checksum at `at`."""
    ends = [ip_address(end).packed for end in (source, destination)]
    kind, length = (b"\x08\x00", "!xBH") if len(ends[0]) == 4 else (b"\x86\xdd", "!xxxBI")
    pseudo = b"".join(ends) + struct.pack(length, protocol, len(upper))
    upper = upper[:at] + checksum(pseudo + upper) + upper[at + 2 :]
    if len(ends[0]) == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(upper), 1, 0, 64, protocol, 0) + b"".join(ends)
        header = header[:10] + checksum(header) + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, len(upper), protocol, 64) + b"".join(ends)
    return (MACS + b"\x81\x00\x00\x05" * vlan + kind + header + upper).ljust(60, b"\0")


def of_a_network(file: Path, ends: list[tuple[str, str]]) -> int:
    """A capture of TCP, UDP and ICMPv6 between these hosts, and an ARP request. Returns the number of frames."""
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 0x50, 0x10, 100, 0, 0) + b"hello"
    udp = struct.pack("!HHHH", 5, 6, 13, 0) + b"hello"
    frames = [MACS + b"\x08\x06" + bytes(46)]
    for source, destination in ends:
        frames += [packet(6, source, destination, tcp, 16), packet(17, source, destination, udp, 6, vlan=True)]
        if ":" in source:
            frames.append(packet(58, source, destination, bytes([128, 0, 0, 0, 0, 1, 0, 2]), 2))
    with CaptureWriter(file) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, number)
    return len(frames)


@needs_tshark
@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "field"), [
    (["192.168.0.1", "192.168.0.9", "192.168.1.1"], ["10.0.0.1", "10.0.0.2", "10.0.0.1"], "ip"),
    (["2001::1", "2001::9", "2002::1"], ["fd00::1", "fd00::2", "fd00::1"], "ipv6"),
])  # fmt: skip
def test_addresses_of_a_capture_are_replaced_and_its_checksums_stay_right(
    old: list[str], new: list[str], field: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    count = of_a_network(source, [(old[0], old[1]), (old[1], old[2]), (old[2], old[0])])
    done = run_example(
        "pktgen", "-f", "tx", "-i", f"emulated:pcap=,{target}", "-P", source, "-n", 2 * count,
        "-s", f"{new[0]}-{new[1]}", "-d", f"{new[0]},{new[1]}", "-S", "02:00:00:00:00:0a",
    )  # fmt: skip
    kind = "IPv6" if field == "ipv6" else "IPv4"
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{source}: 1 of {count} frames are not {kind} and keep their addresses\n"
    fields = ("tcp.srcport", "udp.srcport", "vlan.id", "frame.len", "eth.dst")
    assert seen(target, *fields) == seen(source, *fields) * 2
    replaced = {"": "", **dict(zip(old, new, strict=True))}
    before, after = seen(source, f"{field}.src", f"{field}.dst"), seen(target, f"{field}.src", f"{field}.dst")
    assert after == [tuple(replaced[end] for end in each) for each in before] * 2
    assert {mac for (mac,) in seen(target, "eth.src")} == {"02:00:00:00:00:0a"}
    statuses = [f"{name}.checksum.status" for name in ("ip", "tcp", "udp", "icmpv6")]
    assert {status for row in seen(target, *statuses) for status in row} == {"", GOOD}


@pytest.mark.slow
def test_a_capture_longer_than_the_ring_is_sent_again_and_again(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    frames = [MACS + b"\x88\xb5" + number.to_bytes(4, "big") * (12 + number % 300) for number in range(1100)]
    with CaptureWriter(source) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, number)
    transmit(target, 2500, "-P", str(source))
    assert list(read_capture(target)) == (frames * 3)[:2500]
