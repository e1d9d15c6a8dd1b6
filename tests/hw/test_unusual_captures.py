"""Captures that are unusual but valid: tcpdump reads them, and so does hw/capture."""

from __future__ import annotations

import shutil
import struct
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from ixrings.hw.errors import CaptureError
from tests.support.programs import run_example

FRAME = bytes.fromhex("020000000002 020000000001 88b5") + bytes(range(46))
FCS_PRESENT = 1 << 26


def head(magic: int = 0xA1B2C3D4, linktype: int = 1, order: str = "<") -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)


def record(frame: bytes, extra: bytes = b"", order: str = "<") -> bytes:
    return struct.pack(order + "IIII", 1_700_000_000, 5, len(frame), 60) + extra + frame


def block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


def described(linktype: int, options: bytes = b"") -> bytes:
    return block(1, struct.pack("<HHI", linktype, 0, 0) + options)


def enhanced(interface: int, frame: bytes) -> bytes:
    return block(6, struct.pack("<IIIII", interface, 0, 1, len(frame), len(frame)) + frame)


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
WITH_FCS = struct.pack("<HHBxxxHH", 13, 1, 4, 0, 0)
MODIFIED = [struct.pack(order + "IHBB", 2, 0x88B5, 0, 0) for order in "<>"]
UNUSUAL = {
    "a record of no bytes": (head() + record(FRAME) + record(b"") + record(FRAME), [FRAME, b"", FRAME]),
    "a length of an FCS that is not there": (head(linktype=2 << 28 | 1) + record(FRAME), [FRAME]),
    "an FCS of no bytes": (head(linktype=FCS_PRESENT | 1) + record(FRAME), [FRAME]),
    "modified pcap": (head(0xA1B2CD34) + record(FRAME, MODIFIED[0]) * 2, [FRAME, FRAME]),
    "modified pcap, big-endian": (
        head(0xA1B2CD34, order=">") + record(FRAME, MODIFIED[1], order=">") * 2,
        [FRAME, FRAME],
    ),
    "a packet block of no bytes": (
        SECTION + described(1) + enhanced(0, FRAME) + enhanced(0, b"") + enhanced(0, FRAME),
        [FRAME, b"", FRAME],
    ),
    "an unused interface that is not Ethernet": (SECTION + described(113) + described(1) + enhanced(1, FRAME), [FRAME]),
    "an unused interface with FCS": (SECTION + described(1) + described(1, WITH_FCS) + enhanced(0, FRAME), [FRAME]),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_every_frame_of_an_unusual_capture_is_read(kind: str, tmp_path: Path) -> None:
    content, frames = UNUSUAL[kind]
    file = tmp_path / "unusual.pcap"
    file.write_bytes(content)
    assert list(read_capture(file)) == frames
    if shutil.which("tcpdump") and "not Ethernet" not in kind:  # libpcap refuses a file of two link types
        done = subprocess.run(["tcpdump", "-nn", "-t", "-r", file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.count("ethertype Unknown (0x88b5)") == frames.count(FRAME)


@pytest.mark.parametrize("described_twice", [described(113), described(1, WITH_FCS)], ids=["not Ethernet", "with FCS"])
def test_a_packet_of_an_interface_that_cannot_be_read_is_refused(described_twice: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mixed.pcapng"
    file.write_bytes(SECTION + described(1) + described_twice + enhanced(0, FRAME) + enhanced(1, FRAME))
    with pytest.raises(CaptureError, match=r"interface 1 (has link type 113|include their FCS)"):
        read_capture(file)


def test_a_wire_plays_cut_frames_with_their_length(tmp_path: Path) -> None:
    source = tmp_path / "cut.pcap"
    with CaptureWriter(source) as writer:
        for captured, length in ((FRAME[:20], 60), (FRAME, 1514), (FRAME, 33_000), (FRAME, 60)):
            writer.write(captured, 0, length)
    with open_port(f"emulated:pcap={source}", promiscuous=True) as port:
        assert list(islice(port.recv(20), 3)) == [FRAME[:20].ljust(60, b"\0"), FRAME.ljust(1514, b"\0"), FRAME]
        assert port.stats()["ROC"] == 1


def test_records_of_no_bytes_are_no_frames_on_a_wire(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    source.write_bytes(head() + record(b"") + record(FRAME) + record(b"") + record(FRAME))
    with open_port(f"emulated:pcap={source}", promiscuous=True) as port:
        assert list(islice(port.recv(20), 2)) == [FRAME, FRAME]
    done = run_example("replay", source, "-i", f"emulated:pcap=,{target}", "--flat-out")
    assert done.stdout.startswith("sent 2 frames") and list(read_capture(target)) == [FRAME, FRAME]
