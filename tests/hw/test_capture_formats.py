"""What CaptureWriter writes besides classic pcap: pcapng with descriptions and counts, and gzip."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ixrings import open_port
from ixrings.hw.capture.pcap import CaptureTruncated, CaptureWriter, read_capture
from ixrings.hw.capture.records import Counts, Origin
from ixrings.hw.errors import CaptureError, WireError

REPOSITORY = Path(__file__).parent.parent.parent
NAMES = ["x.pcap", "x.pcapng", "x.pcap.gz", "x.pcapng.gz"]
every_format = pytest.mark.parametrize("name", NAMES)
TIME = 1_700_000_000_123_456_789
ORIGIN = Origin(
    "ix0", "port 1 of the rack", "Intel 82599", bytes(range(6)), 10**10, "udp port 53", "Größe?", "test", "none"
)


def program_reads(*command: str) -> str:
    """What tshark or capinfos prints."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is missing; run: apt install tshark")
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # no sanitizer in it
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Type and body of each block."""
    found, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and data[at + length - 4 : at + length] == struct.pack("<I", length)
        found.append((kind, data[at + 8 : at + length - 4]))
        at += length
    return found


@every_format
@pytest.mark.parametrize("mixed", [False, True], ids=["equal lengths", "mixed lengths"])
def test_a_batch_is_written_like_its_frames_one_by_one_in_every_format(name: str, mixed: bool, tmp_path: Path) -> None:
    draw = np.random.default_rng(10)
    count, stride = 400, 1536  # more than fit one write buffer
    frames = draw.integers(1, 256, (count, stride), dtype=np.uint8)
    lengths = draw.integers(1, stride + 1, count) if mixed else np.full(count, 1401)
    times = TIME + np.arange(count) * 999_999_937
    with CaptureWriter(tmp_path / name, 1500) as writer:
        sizes = writer.sizes_of(lengths, stride)
        before = writer.size
        writer.write_batch(frames[:5], lengths[:5], times[:5])
        writer.write_batch(frames[5:], lengths[5:], times[5:])
        assert writer.size - before == sizes.sum()
    with CaptureWriter(tmp_path / f"single.{name}", 1500) as writer:
        for frame, length, time in zip(frames, lengths.tolist(), times.tolist()):
            writer.write(frame[:length], time, length)
    one, other = read_capture(tmp_path / name), read_capture(tmp_path / f"single.{name}")
    assert list(one) == list(other) == [frame[: min(length, 1500)].tobytes() for frame, length in zip(frames, lengths)]
    for capture in (one, other):
        assert capture.times_ns.tolist() == times.tolist() and capture.wire_lengths.tolist() == lengths.tolist()
    if name.endswith("pcapng"):  # also the padding is the same, and nothing of a frame's buffer is in it
        packets = [
            [body for kind, body in blocks(file.read_bytes()) if kind == 6]
            for file in (tmp_path / name, tmp_path / f"single.{name}")
        ]
        assert packets[0] == packets[1]


@pytest.mark.slow
def test_capinfos_and_tshark_show_what_a_pcapng_file_tells(tmp_path: Path) -> None:
    file = str(tmp_path / "x.pcapng")
    counts = Counts(received=1000, dropped=7, accepted=2)
    with CaptureWriter(file, snaplen=96, origin=ORIGIN, counts=lambda: counts) as writer:
        writer.write(bytes(60), TIME)
        writer.write_batch(np.zeros((1, 128), np.uint8), np.array([120]), TIME + 1)
        writer.write(bytes(61), TIME + 2, comment="stamped by the NIC")
    told = program_reads("capinfos", file)
    for words in (
        "Name = ix0", "Description = port 1 of the rack", "Hardware = Intel 82599", "Speed = 10000000000",
        "Filter string = udp port 53", "Time resolution = 0x09", "Capture length = 96", "Number of packets = 3",
        "Capture comment:     Größe?", "Capture application: test", "Capture oper-sys:    none",
    ):  # fmt: skip
        assert words in told, (words, told)
    fields = ("-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len", "-e", "frame.interface_name")
    told = program_reads("tshark", "-n", "-r", file, "-T", "fields", *fields, "-e", "frame.comment")
    assert told.splitlines() == [
        "1700000000.123456789\t60\t60\tix0\t",
        "1700000000.123456790\t120\t96\tix0\t",
        "1700000000.123456791\t61\t61\tix0\tstamped by the NIC",
    ]
    kind, body = blocks(Path(file).read_bytes())[-1]
    values = dict(options_of(body[12:]))
    assert kind == 5 and [struct.unpack("<Q", values[code])[0] for code in (4, 5, 6, 8)] == [1000, 7, 2, 3]
    assert blocks(Path(file).read_bytes())[1][1].count(bytes(range(6))) == 1


def options_of(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while (pair := struct.unpack_from("<HH", data, at)) != (0, 0):
        found.append((pair[0], data[at + 4 : at + 4 + pair[1]]))
        at += 4 + (pair[1] + 3 & ~3)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[1:])
def test_tshark_reads_every_format(name: str, tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / name) as writer:
        for number in range(3):  # three members of gzip
            writer.write(bytes(60 + number), TIME + number)
            writer.flush()
    told = program_reads("tshark", "-n", "-r", str(tmp_path / name), "-T", "fields", "-e", "frame.len")
    assert told.split() == ["60", "61", "62"]


@every_format
def test_a_file_is_whole_after_every_flush(name: str, tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / name) as writer:
        for number in range(3):
            writer.write(bytes(60), number)
            writer.flush()
            assert len(read_capture(tmp_path / name)) == number + 1
            if name.endswith(".gz"):
                gzip.decompress((tmp_path / name).read_bytes())  # as gunzip reads it


def test_gzip_can_be_chosen_for_a_stream() -> None:
    out = io.BytesIO()
    with CaptureWriter(out, format="pcapng", gzip=True) as writer:
        writer.write(bytes(60), 1)
    assert [kind for kind, _ in blocks(gzip.decompress(out.getvalue()))] == [0x0A0D0D0A, 1, 6, 5]


def test_pcap_refuses_comments_and_pcapng_texts_that_fit_no_option(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "x.pcap") as writer, pytest.raises(ValueError, match="write a pcapng file"):
        writer.write(bytes(60), 1, comment="words")
    with pytest.raises(ValueError, match="at most 65535"):
        CaptureWriter(tmp_path / "y.pcapng", origin=Origin(comment="x" * 65536))
    assert not (tmp_path / "y.pcapng").exists()


def run_program(folder: Path, program: str) -> str:
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY / ".package")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@every_format
def test_a_full_disk_leaves_a_whole_file_of_every_format(name: str, tmp_path: Path) -> None:
    words = run_program(
        tmp_path,
        "import resource, signal, numpy as np\n"
        "from ixrings.hw.capture.pcap import CaptureError, CaptureWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_001, 1_500_001))\n"
        f"writer = CaptureWriter('{name}')\n"
        "try:\n"
        "    frames = np.random.default_rng(1).integers(0, 256, (1000, 100), np.uint8)\n"
        "    while True: writer.write_batch(frames, np.full(1000, 100), 1)\n"
        "except CaptureError as error: print(error)\n"
        "try: writer.close()\n"
        "except CaptureError: print('and again')\n",
    )
    frames = len(read_capture(tmp_path / name))
    assert f"{name} cannot be written: File too large; {frames} frames are in it" in words
    assert frames > 5000 and "and again" in words


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[1:])
def test_ctrl_c_at_any_moment_leaves_a_whole_file_of_every_format(name: str, tmp_path: Path) -> None:
    run_program(
        tmp_path,
        "import random, signal, numpy as np\n"
        "from ixrings.hw.capture.pcap import CaptureWriter, read_capture\n"
        "chance = random.Random(5)\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "frames, lengths = np.zeros((300, 900), np.uint8), np.array([60, 900, 333] * 100)\n"
        "for _ in range(60):\n"
        "    try:\n"
        f"        with CaptureWriter('{name}') as writer:\n"
        "            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.01))\n"
        "            while True:\n"
        "                writer.write_batch(frames, lengths, np.arange(writer.frames, writer.frames + 300))\n"
        "    except KeyboardInterrupt: pass\n"
        f"    capture = read_capture('{name}')\n"
        "    assert len(capture) == writer.frames\n"
        "    whole = len(capture) // 300 * 300\n"
        "    assert (capture.times_ns[:whole] == np.arange(whole)).all()\n",
    )


def zipped(tmp_path: Path) -> bytes:
    with CaptureWriter(tmp_path / "whole.pcap.gz") as writer:
        for frame in np.random.default_rng(1).integers(0, 256, (50, 60), np.uint8):
            writer.write(frame, 1)
    return (tmp_path / "whole.pcap.gz").read_bytes()


def test_a_cut_gzip_file_says_how_many_frames_are_complete_and_how_to_save_them(tmp_path: Path) -> None:
    data, file = zipped(tmp_path), tmp_path / "cut.pcap.gz0"  # as a ring file: gunzip takes no such name
    file.write_bytes(data[:-700])
    with pytest.raises(CaptureTruncated, match="the [1-9][0-9]* frames before it are complete") as caught:
        read_capture(file)
    capture = read_capture(file, allow_truncated=True)
    assert 10 < len(capture) < 50 and f"the {len(capture)} frames before it" in str(caught.value)
    command = str(caught.value).rpartition("run: ")[2]
    assert command == f"gunzip -c < {file} | tcpdump -r - -w whole.pcap"
    if shutil.which("tcpdump"):
        subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, timeout=60)
        assert list(read_capture(tmp_path / "whole.pcap")) == list(capture)
    file.write_bytes(data[:-2])  # in gzip's own trailer
    with pytest.raises(CaptureTruncated, match="gzip's data end early; the 50 frames in them are complete"):
        read_capture(file)
    file.write_bytes(data + gzip.compress(b"")[:1])  # in the magic of the next member
    with pytest.raises(CaptureTruncated, match="gzip's data end early; the 50 frames in them are complete"):
        read_capture(file)


def test_damaged_or_strange_gzip_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    data, file = zipped(tmp_path), tmp_path / "bad.pcap.gz"

    def error() -> str:
        with pytest.raises(CaptureError) as caught:
            read_capture(file)
        return str(caught.value)

    file.write_bytes(data[:-8] + bytes(8))
    assert "gzip's data are damaged" in error()
    file.write_bytes(gzip.compress(b"words"))
    assert "what gzip has compressed is not a pcap or pcapng file: it begins with the bytes 77 6f 72 64" in error()
    file.write_bytes(gzip.compress(b""))
    assert "it is empty" in error()
    file.write_bytes(gzip.compress(data))
    assert "it begins with the bytes 1f 8b" in error() and f"run: gunzip -c < {file} > inside" in error()
    file.write_bytes(data + b"garbage")  # gunzip ignores it, too
    assert len(read_capture(file)) == 50


@pytest.mark.slow
def test_ten_times_as_many_gzip_members_take_about_ten_times_as_long(tmp_path: Path) -> None:
    """A capture of hours has a member for each flush."""
    data, file = zipped(tmp_path), tmp_path / "members.pcap.gz"

    def seconds(members: int) -> float:
        file.write_bytes(data + gzip.compress(b"") * members)
        times = []
        for _ in range(3):
            start = time.process_time()
            assert len(read_capture(file)) == 50
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(40_000) < 40 * seconds(4_000)


@pytest.mark.slow
@every_format
def test_a_wire_plays_every_format_and_does_not_destroy_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    with CaptureWriter(file) as writer:
        for number in range(100):
            writer.write(bytes.fromhex("020000000002020000000001 88b5") + bytes(46), number)
    before, link = file.read_bytes(), tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(WireError, match="reads or writes this file now; give another name"):
        open_port(f"emulated:pcap={file},{link}")
    with open_port(f"emulated:pcap={file}", promiscuous=True) as port:
        assert len(list(port.recv(timeout=0.2))) == 100
        with pytest.raises(CaptureError, match="reads or writes this file now"):
            CaptureWriter(file)
    assert file.read_bytes() == before


def test_only_a_compressed_capture_is_overwritten_by_a_compressed_capture(tmp_path: Path) -> None:
    for name in NAMES:
        CaptureWriter(tmp_path / name).close()
        CaptureWriter(tmp_path / name).close()
    backup = tmp_path / "backup.pcap.gz"
    backup.write_bytes(gzip.compress(b"all my mail"))
    before = backup.read_bytes()
    with pytest.raises(CaptureError, match="it exists and is not a capture; it begins with the bytes 1f 8b"):
        CaptureWriter(backup)
    assert backup.read_bytes() == before


def test_a_wire_does_not_record_compressed(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="a wire records plain pcap; leave out .gz"):
        open_port(f"emulated:pcap=,{tmp_path}/out.pcap.gz")


@pytest.mark.slow
def test_ctrl_c_leaves_no_empty_file_among_ring_files(tmp_path: Path) -> None:
    run_program(
        tmp_path,
        "import glob, random, signal, numpy as np\n"
        "from ixrings.hw.capture.pcap import CaptureWriter, read_capture\n"
        "from ixrings.hw.capture.ring_files import RingFiles\n"
        "chance = random.Random(5)\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "frames, lengths, rows = np.zeros((1000, 900), np.uint8), np.full(1000, 900), np.arange(1000)\n"
        "for _ in range(60):\n"
        "    try:\n"
        "        with RingFiles('ring.pcap', CaptureWriter, size=100_000, most=3) as writer:\n"
        "            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.02))\n"
        "            while True:\n"
        "                writer.write_batch(frames, lengths, 1, rows)\n"
        "    except KeyboardInterrupt: pass\n"
        "    for file in glob.glob('ring.pcap*'): read_capture(file)\n",
    )
