"""examples/replay.py with captures of which not every frame can be sent as it is in the file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from tests.support.programs import run_example

HEADER = bytes.fromhex("020000000002 020000000001 88b5")
SHORT, LONG = HEADER + bytes(range(46)), HEADER + bytes([7]) * 1500


def captured(file: Path, *frames: tuple[bytes, int]) -> Path:
    """A capture of these frames, each with its length on the wire."""
    with CaptureWriter(file, snaplen=262144) as writer:
        for number, (frame, length) in enumerate(frames):
            writer.write(frame, 1_700_000_000_000_000_000 + number, length)
    return file


def replay(file: Path, target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_example("replay", file, "-i", f"emulated:pcap=,{target}", "--flat-out", "--json", *arguments)


def test_cut_frames_are_padded_to_their_length_on_the_wire_and_the_program_says_so(tmp_path: Path) -> None:
    source, target = tmp_path / "cut.pcap", tmp_path / "out.pcap"
    captured(source, (LONG[:64], len(LONG)), (SHORT, len(SHORT)), (SHORT[:20], len(SHORT)))
    done = replay(source, target)
    assert json.loads(done.stdout)["sent"] == 3
    assert "2 of 3 frames are cut" in done.stderr and "zeros" in done.stderr and "--cut refuse" in done.stderr
    assert list(read_capture(target)) == [LONG[:64].ljust(len(LONG), b"\0"), SHORT, SHORT[:20].ljust(60, b"\0")]


def test_cut_frames_are_refused_or_left_out_on_request(tmp_path: Path) -> None:
    source, target = tmp_path / "cut.pcap", tmp_path / "out.pcap"
    captured(source, (SHORT, len(SHORT)), (LONG[:64], len(LONG)))
    refused = replay(source, target, "--cut", "refuse")
    assert refused.returncode == 1 and not target.exists()
    for words in (f"{source}: frame 2 is cut", "64 of its 1514 bytes", "tcpdump -s 0", "--cut pad", "--skip"):
        assert words in refused.stderr
    summary = json.loads(replay(source, target, "--cut", "refuse", "--skip").stdout)
    assert (summary["sent"], summary["skipped"]) == (1, 1) and list(read_capture(target)) == [SHORT]


def test_frames_longer_than_the_wire_allows_are_left_out_with_skip(tmp_path: Path) -> None:
    source, target = tmp_path / "gro.pcap", tmp_path / "out.pcap"
    joined = HEADER + bytes(33_000)
    captured(source, (SHORT, len(SHORT)), (joined, len(joined)), (joined[:64], len(joined)), (LONG, len(LONG)))
    summary = json.loads(replay(source, target, "--skip").stdout)
    assert (summary["sent"], summary["skipped"]) == (2, 2) and list(read_capture(target)) == [SHORT, LONG]


def test_the_capture_that_is_sent_is_not_overwritten_by_the_wire(tmp_path: Path) -> None:
    source, link = captured(tmp_path / "in.pcap", (SHORT, len(SHORT))), tmp_path / "link.pcap"
    before = source.read_bytes()
    link.symlink_to(source)
    done = replay(source, link)
    assert done.returncode == 1 and "reads or writes this file now" in done.stderr
    assert source.read_bytes() == before
