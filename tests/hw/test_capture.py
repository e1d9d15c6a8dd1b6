"""Capture files, read and written (hw/capture)."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ixrings.hw.capture.pcap import Capture, CaptureTruncated, CaptureWriter, read_capture
from ixrings.hw.errors import CaptureError

FRAMES = [bytes([i]) * (60 + 7 * i) for i in range(5)]
TIMES = [1_700_000_000_123_456_000 + i * 1_000_001_000 for i in range(5)]
REPOSITORY = Path(__file__).parent.parent.parent


def pcap(order: str = "<", *, nanoseconds: bool = False, linktype: int = 1) -> bytes:
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for frame, time in zip(FRAMES, TIMES):
        out += struct.pack(order + "IIII", time // 10**9, time % 10**9 // unit, len(frame), len(frame) + 4) + frame
    return out


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str, options: bytes = b"", *, linktype: int = 1, snaplen: int = 0) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", linktype, 0, snaplen) + options)


def enhanced(order: str, number: int, ticks: int, frame: bytes, wire: int | None = None) -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), wire or len(frame))
    return block(order, 6, head + frame)


def pcapng(order: str = "<") -> bytes:
    out = section(order) + interface(
        order, option(order, 2, b"eth0") + option(order, 9, b"\x09") + option(order, 0, b"")
    )
    out += block(order, 4, b"name resolution, which is skipped")
    for frame, time in zip(FRAMES, TIMES):
        out += enhanced(order, 0, time, frame, len(frame) + 4)
    return out + block(order, 5, bytes(12))


def parse(tmp_path: Path, data: bytes, *, allow_truncated: bool = False) -> Capture:
    file = tmp_path / "in.pcap"
    file.write_bytes(data)
    return read_capture(file, allow_truncated=allow_truncated)


def error_of(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(CaptureError) as caught:
        parse(tmp_path, data)
    return str(caught.value)


ALL_KINDS = {
    "pcap us little": pcap("<"),
    "pcap us big": pcap(">"),
    "pcap ns little": pcap("<", nanoseconds=True),
    "pcap ns big": pcap(">", nanoseconds=True),
    "pcapng little": pcapng("<"),
    "pcapng big": pcapng(">"),
}
every_kind = pytest.mark.parametrize("data", ALL_KINDS.values(), ids=ALL_KINDS.keys())


@every_kind
def test_a_capture_of_every_kind_gives_the_same_frames_lengths_and_times(tmp_path: Path, data: bytes) -> None:
    capture = parse(tmp_path, data)
    assert list(capture) == FRAMES
    assert capture.lengths.tolist() == [len(frame) for frame in FRAMES]
    assert capture.wire_lengths.tolist() == [len(frame) + 4 for frame in FRAMES]
    assert capture.times_ns.tolist() == TIMES
    assert capture.frame(-1) == FRAMES[-1]


def test_frames_stay_in_one_read_only_buffer_that_c_can_walk(tmp_path: Path) -> None:
    capture = parse(tmp_path, pcap())
    arrays = (capture.data, capture.offsets, capture.lengths, capture.wire_lengths, capture.times_ns)
    assert [array.dtype.str for array in arrays] == ["|u1", "<u8", "<u4", "<u4", "<i8"]
    assert capture.data.flags.c_contiguous and not capture.data.flags.writeable
    assert bytes(capture.data[int(capture.offsets[2]) :][: int(capture.lengths[2])]) == FRAMES[2]
    with pytest.raises(IndexError):
        capture.frame(len(FRAMES))


@pytest.mark.parametrize("data", [pcap()[:24], section("<") + interface("<"), section("<")])
def test_a_capture_without_frames_is_a_capture(tmp_path: Path, data: bytes) -> None:
    capture = parse(tmp_path, data)
    assert len(capture) == 0 and list(capture) == [] and capture.times_ns.dtype == np.int64


@pytest.mark.parametrize(
    ("resolution", "ticks", "expected"),
    [
        (None, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (0, 1_700_000_000, 1_700_000_000_000_000_000),
        (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (12, 1_700_000_123_456_789_987, 1_700_000_123_456_789),
        (0x80 | 1, 3, 1_500_000_000),
        (0x80 | 32, 1_700_000_000 << 32 | 1 << 31, 1_700_000_000_500_000_000),
        (0x80 | 63, 3 << 62, 1_500_000_000),
    ],
)
def test_times_of_every_resolution_become_nanoseconds(
    tmp_path: Path, resolution: int | None, ticks: int, expected: int
) -> None:
    options = b"" if resolution is None else option("<", 9, bytes([resolution]))
    capture = parse(tmp_path, section("<") + interface("<", options) + enhanced("<", 0, ticks, FRAMES[0]))
    assert capture.times_ns.tolist() == [expected]


def test_an_interface_may_count_its_time_from_an_offset(tmp_path: Path) -> None:
    options = option(">", 14, struct.pack(">q", -100))
    capture = parse(tmp_path, section(">") + interface(">", options) + enhanced(">", 0, 101_000_000, FRAMES[0]))
    assert capture.times_ns.tolist() == [1_000_000_000]


def test_interfaces_and_sections_of_both_byte_orders_mix_in_one_file(tmp_path: Path) -> None:
    nanoseconds = option("<", 9, b"\x09")
    data = section("<") + interface("<") + enhanced("<", 0, 1_000_000, FRAMES[0])
    data += (
        interface("<", nanoseconds)
        + enhanced("<", 1, 2_000_000_000, FRAMES[1])
        + enhanced("<", 0, 3_000_000, FRAMES[2])
    )
    data += section(">") + interface(">") + enhanced(">", 0, 4_000_000, FRAMES[3])
    capture = parse(tmp_path, data)
    assert list(capture) == FRAMES[:4]
    assert capture.times_ns.tolist() == [1_000_000_000, 2_000_000_000, 3_000_000_000, 4_000_000_000]


def test_simple_and_obsolete_packet_blocks_are_read_in_file_order(tmp_path: Path) -> None:
    simple = block("<", 3, struct.pack("<I", 100) + bytes([9]) * 64)
    obsolete = block("<", 2, struct.pack("<HHIIII", 0, 7, 0, 5_000_000, 60, 60) + bytes([8]) * 60)
    data = (
        section("<") + interface("<", snaplen=64) + simple + enhanced("<", 0, 3_000_000, FRAMES[1]) + simple + obsolete
    )
    capture = parse(tmp_path, data)
    assert list(capture) == [bytes([9]) * 64, FRAMES[1], bytes([9]) * 64, bytes([8]) * 60]
    assert capture.wire_lengths.tolist() == [100, 67, 100, 60]
    assert capture.times_ns.tolist() == [3_000_000_000, 3_000_000_000, 3_000_000_000, 5_000_000_000]


@every_kind
def test_a_truncated_last_record_is_an_error_that_counts_the_complete_frames(tmp_path: Path, data: bytes) -> None:
    cut = data.index(FRAMES[4]) + 10
    with pytest.raises(
        CaptureTruncated,
        match=r"at byte \d+ is truncated.*the 4 frames before it are complete.*run: tcpdump -r .*in.pcap",
    ):
        parse(tmp_path, data[:cut])
    assert list(parse(tmp_path, data[:cut], allow_truncated=True)) == FRAMES[:4]


def test_a_truncated_record_header_is_reported(tmp_path: Path) -> None:
    error = error_of(tmp_path, pcap() + bytes(7))
    assert "record 6 at byte" in error and "needs 16 bytes and 7 are left" in error


def test_a_truncated_file_header_is_reported(tmp_path: Path) -> None:
    assert "it needs 24 bytes and the file has 20" in error_of(tmp_path, pcap()[:20])
    assert "is truncated" in error_of(tmp_path, pcapng()[:9])


def test_bad_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    assert "is empty" in error_of(tmp_path, b"")
    assert "begins with the bytes 7f 45 4c 46" in error_of(tmp_path, b"\x7fELF....")
    assert "run: editcap -F pcap" in error_of(tmp_path, b"snoop\0\0\0\0\0\0\2")
    for magic, tool in {b"BZh91AY": "bunzip2", b"\xfd7zXZ\0": "xz -dc"}.items():
        assert f"run: {tool}" in error_of(tmp_path, magic)
    assert "link type 113, and only Ethernet (1)" in error_of(tmp_path, pcap(linktype=113))
    other = section("<") + interface("<", linktype=276) + enhanced("<", 0, 0, FRAMES[0])
    assert "interface 0 has link type 276" in error_of(tmp_path, other)
    assert "FCS" in error_of(tmp_path, pcap(linktype=0x24000001))
    assert "version 9.4" in error_of(tmp_path, pcap()[:4] + b"\x09\0" + pcap()[6:])


def test_impossible_lengths_are_refused_with_their_position(tmp_path: Path) -> None:
    header, record = pcap()[:24], struct.Struct("<IIII").pack
    assert "record 1 at byte 24 has a frame of 262145 bytes" in error_of(
        tmp_path, header + record(0, 0, 262145, 60) + bytes(300000)
    )
    opening = section("<") + interface("<")
    lying = bytearray(enhanced("<", 0, 0, FRAMES[0]))
    lying[20:24] = struct.pack("<I", 61 + 20)
    assert "has 81 bytes in a block of 92" in error_of(tmp_path, opening + lying)
    assert "interface 3" in error_of(tmp_path, opening + enhanced("<", 3, 0, FRAMES[0]))
    assert "is of interface 0" in error_of(tmp_path, section("<") + enhanced("<", 0, 0, FRAMES[0]))
    assert "length 92 at its start and 93 at its end" in error_of(
        tmp_path, opening + enhanced("<", 0, 0, FRAMES[0])[:-4] + struct.pack("<I", 93)
    )
    assert "has length 6" in error_of(tmp_path, opening + struct.pack("<III", 6, 6, 6))
    assert "timestamp" in error_of(
        tmp_path, section("<") + interface("<", option("<", 9, b"\0")) + enhanced("<", 0, 1 << 60, FRAMES[0])
    )


def test_a_path_that_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="missing.pcap cannot be read: No such file"):
        read_capture(tmp_path / "missing.pcap")
    with pytest.raises(CaptureError, match="is a directory"):
        read_capture(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CaptureError, match="not a regular file"):
        read_capture(tmp_path / "pipe")


def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").write_bytes(pcap())
    (tmp_path / "locked").chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(CaptureError, match="locked cannot be read: Permission denied"):
            read_capture(tmp_path / "locked")
    finally:
        os.seteuid(user)


def test_a_giant_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    giant = tmp_path / "giant.pcap"
    giant.write_bytes(pcap())
    os.truncate(giant, 2**31)
    with pytest.raises(CaptureError, match="run: editcap -c"):
        read_capture(giant)


@every_kind
def test_damaged_files_raise_only_capture_errors(tmp_path: Path, data: bytes) -> None:
    chance = random.Random(82599)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(data))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        if chance.random() < 0.3:
            del damaged[chance.randrange(len(data)) :]
        try:
            capture = parse(tmp_path, bytes(damaged), allow_truncated=chance.random() < 0.5)
        except CaptureError:
            continue
        ends = capture.offsets.astype(np.int64) + capture.lengths
        assert not len(capture) or int(ends.max()) <= len(damaged)
        assert (capture.wire_lengths >= capture.lengths).all()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "out.pcap", snaplen=70) as writer:
        for frame, time in zip(FRAMES, TIMES):
            writer.write(frame, time + 1)
        writer.write(memoryview(FRAMES[0]), 0, wire_length=1514)
        writer.write(np.frombuffer(FRAMES[1], np.uint8), 2**32 * 10**9 - 1)
    capture = read_capture(tmp_path / "out.pcap")
    assert list(capture) == [frame[:70] for frame in FRAMES] + [FRAMES[0], FRAMES[1]]
    assert capture.wire_lengths.tolist() == [60, 67, 74, 81, 88, 1514, 67]
    assert capture.times_ns.tolist() == [time + 1 for time in TIMES] + [0, 2**32 * 10**9 - 1]
    assert writer.frames == 7


@pytest.mark.parametrize("mixed", [False, True], ids=["equal lengths", "mixed lengths"])
@pytest.mark.parametrize("snaplen", [64, 65535])
def test_a_batch_is_written_like_its_frames_one_by_one(tmp_path: Path, mixed: bool, snaplen: int) -> None:
    draw = np.random.default_rng(10)
    count, stride = 3000, 1536  # more than fit one write buffer
    frames = draw.integers(0, 256, (count, stride), dtype=np.uint8)
    lengths = draw.integers(1, stride + 1, count) if mixed else np.full(count, 1400)
    lengths[-1] = 9018 if mixed else 1400  # only `stride` bytes of a jumbo frame are in the row
    times = 1_700_000_000_000_000_000 + np.arange(count) * 999_999_937
    with CaptureWriter(tmp_path / "batch.pcap", snaplen) as writer:
        writer.write_batch(frames[:5], lengths[:5], times[:5])
        writer.write_batch(frames[5:], lengths[5:], times[5:])
        writer.write_batch(frames[:0], lengths[:0], times[:0])
    with CaptureWriter(tmp_path / "single.pcap", snaplen) as writer:
        for frame, length, time in zip(frames, lengths.tolist(), times.tolist()):
            writer.write(frame[:length], time, length)
    assert (tmp_path / "batch.pcap").read_bytes() == (tmp_path / "single.pcap").read_bytes()


def test_tcpdump_reads_what_was_written(tmp_path: Path) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is missing; run: apt install tcpdump")
    arp = bytes.fromhex(
        "ffffffffffff 020000000001 0806 0001 0800 0604 0001 020000000001 0a000001 000000000000 0a000002"
    ) + bytes(18)
    with CaptureWriter(tmp_path / "out.pcap") as writer:
        writer.write(arp, 1_700_000_000_123_456_789)
        writer.write_batch(np.frombuffer(arp * 2, np.uint8).reshape(2, 60), np.array([60, 42]), np.array([1, 2]))
    command = ["tcpdump", "-n", "-tt", "--nano", "-r", str(tmp_path / "out.pcap")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert len(printed) == 3 and printed[0].startswith(
        "1700000000.123456789 ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 46"
    )


@pytest.mark.slow
def test_tshark_reads_what_was_written(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing; run: apt install tshark")
    with CaptureWriter(tmp_path / "out.pcap", snaplen=50) as writer:
        for number, frame in enumerate(FRAMES, 1):
            writer.write(frame, 1_700_000_000_123_456_789 + number)
    fields = ("-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len")
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # no sanitizer in it
    command = ["tshark", "-n", "-r", str(tmp_path / "out.pcap"), *fields]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        f"1700000000.{123_456_789 + number}\t{len(frame)}\t{min(len(frame), 50)}"
        for number, frame in enumerate(FRAMES, 1)
    ], done.stderr


def test_the_command_of_the_error_saves_the_complete_frames(tmp_path: Path) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is missing; run: apt install tcpdump")
    (tmp_path / "broken.pcap").write_bytes(pcap()[:-3])
    with pytest.raises(CaptureTruncated) as caught:
        read_capture(tmp_path / "broken.pcap")
    command = str(caught.value).rpartition("run: ")[2]
    subprocess.run(
        command.split(), cwd=tmp_path, capture_output=True, timeout=20
    )  # its exit status is an error too, because the file is truncated
    assert list(read_capture(tmp_path / "whole.pcap")) == FRAMES[:4]


def test_a_writer_writes_to_an_open_file_and_leaves_it_open() -> None:
    file = io.BytesIO()
    with CaptureWriter(file) as writer:
        assert len(file.getvalue()) == 24  # a valid capture from the start
        writer.write(FRAMES[0], 5)
    assert file.getvalue() == struct.pack("<IHHiIIIIIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1, 0, 5, 60, 60) + FRAMES[0]


def test_a_writer_writes_to_standard_output(tmp_path: Path) -> None:
    program = "from ixrings.hw.capture.pcap import CaptureWriter\nwith CaptureWriter('-') as w: w.write(bytes(60), 7)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, check=True, timeout=60)
    assert parse(tmp_path, done.stdout).times_ns.tolist() == [7] and done.stderr == b""


def test_flush_writes_what_was_buffered(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "live.pcap") as writer:
        writer.write(FRAMES[0], 1)
        writer.flush()
        assert list(read_capture(tmp_path / "live.pcap")) == FRAMES[:1]


def run_program(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY / ".package")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def test_a_full_disk_is_reported_and_leaves_complete_records(tmp_path: Path) -> None:
    program = (
        "import resource, signal, numpy as np\n"
        "from ixrings.hw.capture.pcap import CaptureError, CaptureWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_001, 2_500_001))\n"
        "writer = CaptureWriter('full.pcap')\n"
        "try:\n"
        "    frames, lengths, times = np.zeros((1000, 100), np.uint8), np.full(1000, 100), np.zeros(1000, np.int64)\n"
        "    for _ in range(40): writer.write_batch(frames, lengths, times)\n"
        "except CaptureError as error: print(error)\n"
        "try: writer.close()\n"
        "except CaptureError: print('and again')\n"
    )
    done = run_program(tmp_path, program)
    capture = read_capture(tmp_path / "full.pcap")
    assert (
        "full.pcap cannot be written: File too large" in done.stdout
        and f"; {len(capture)} frames are in it" in done.stdout
    )
    assert len(capture) > 10_000 and "and again" in done.stdout and done.stderr == ""


def test_ctrl_c_at_any_moment_leaves_complete_records_without_duplicates(tmp_path: Path) -> None:
    program = (
        "import random, signal, numpy as np\n"
        "from ixrings.hw.capture.pcap import CaptureWriter, read_capture\n"
        "chance = random.Random(5)\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "frames, lengths = np.zeros((300, 900), np.uint8), np.array([60, 900, 333] * 100)\n"
        "for _ in range(60):\n"
        "    try:\n"
        "        with CaptureWriter('cut.pcap') as writer:\n"
        "            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.008))\n"
        "            while True:\n"
        "                writer.write_batch(frames, lengths, np.arange(writer.frames, writer.frames + 300))\n"
        "    except KeyboardInterrupt: pass\n"
        "    capture = read_capture('cut.pcap')\n"
        "    assert len(capture) == writer.frames\n"
        "    whole = len(capture) // 300 * 300\n"
        "    assert (capture.times_ns[:whole] == np.arange(whole)).all()\n"
    )
    run_program(tmp_path, program)


def test_a_target_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="nowhere/out.pcap cannot be written: No such file"):
        CaptureWriter(tmp_path / "nowhere" / "out.pcap")
    with pytest.raises(CaptureError, match="/dev/full cannot be written: No space left on device; 0 frames"):
        CaptureWriter("/dev/full")


def test_a_closed_writer_refuses_frames(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path / "out.pcap")
    writer.close()
    writer.close()
    with pytest.raises(CaptureError, match="out.pcap is closed; 0 frames"):
        writer.write(FRAMES[0], 0)


def test_frames_that_fit_no_record_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    two = np.zeros((2, 64), np.uint8)
    with CaptureWriter(tmp_path / "out.pcap") as writer:
        for lengths, times in [([60, 0], [0, 0]), ([60, 60], [0, -1]), ([60, 60], [0, 2**32 * 10**9]), ([60], [0])]:
            with pytest.raises(ValueError):
                writer.write_batch(two, np.array(lengths), np.array(times))
        for frame, time in [(b"", 0), (b"x", -1)]:
            with pytest.raises(ValueError):
                writer.write(frame, time)
    assert len(read_capture(tmp_path / "out.pcap")) == 0
    with pytest.raises(ValueError, match="snaplen"):
        CaptureWriter(tmp_path / "out.pcap", snaplen=0)


def test_reading_and_writing_leave_no_file_open(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for data in (*ALL_KINDS.values(), b"", b"junk"):
        try:
            parse(tmp_path, data)
        except CaptureError:
            pass
    with CaptureWriter(tmp_path / "out.pcap"):
        assert open_files() == before + 1
    with pytest.raises(CaptureError):
        CaptureWriter("/dev/full")
    assert open_files() == before


def test_the_longest_frame_that_snaplen_allows_is_written() -> None:
    out = io.BytesIO()
    with CaptureWriter(out, snaplen=262144) as writer:
        writer.write(bytes(262144), 0)
        writer.write_batch(np.zeros((1, 262144), np.uint8), np.array([262144]), 0)
    assert len(out.getvalue()) == 24 + 2 * (16 + 262144)


@pytest.mark.parametrize(
    "lengths", [[60, 60, 60], [60, 42, 60], [60, 99, 60]], ids=["equal", "a short one", "limited by snaplen"]
)
@pytest.mark.parametrize("times", [7_000_000_005, [1, 2, 7_000_000_005]], ids=["one time for all", "one time each"])
def test_a_small_batch_is_written_like_its_frames_one_by_one(lengths: list[int], times: int | list[int]) -> None:
    frames = np.arange(3 * 100, dtype=np.uint8).reshape(3, 100)
    together, apart = io.BytesIO(), io.BytesIO()
    with CaptureWriter(together, snaplen=60) as writer:
        writer.write_batch(frames, np.array(lengths, np.uint16), times if isinstance(times, int) else np.array(times))
    with CaptureWriter(apart, snaplen=60) as writer:
        for frame, length, at in zip(frames, lengths, np.broadcast_to(times, 3)):
            writer.write(frame[:length], int(at))
    assert together.getvalue() == apart.getvalue()


def test_rows_may_be_longer_than_the_largest_value_of_the_lengths_type() -> None:
    out = io.BytesIO()
    with CaptureWriter(out, snaplen=200_000) as writer:
        writer.write_batch(np.zeros((1, 100_000), np.uint8), np.array([60], np.uint16), 0)
    assert len(out.getvalue()) == 24 + 16 + 60


@pytest.mark.parametrize("bad", [-1, 4])
def test_rows_outside_of_the_frames_are_refused_and_nothing_is_written(tmp_path: Path, bad: int) -> None:
    with CaptureWriter(tmp_path / "x.pcap") as writer:
        with pytest.raises(ValueError, match="rows"):
            writer.write_batch(
                np.zeros((4, 2000), np.uint8), np.full(300, 2000), 0, rows=np.r_[np.zeros(299, int), bad]
            )
        assert writer.frames == 0


def test_rows_select_the_frames(tmp_path: Path) -> None:
    buffers = np.arange(8 * 64, dtype=np.uint8).reshape(8, 64)
    with CaptureWriter(tmp_path / "x.pcap", snaplen=32) as writer:
        writer.write_batch(buffers, np.array([60, 40, 20]), np.array([1, 2, 3]), rows=np.array([5, 0, 7], np.uint32))
    assert list(read_capture(tmp_path / "x.pcap")) == [
        buffers[5, :32].tobytes(),
        buffers[0, :32].tobytes(),
        buffers[7, :20].tobytes(),
    ]
