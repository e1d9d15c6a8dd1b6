"""examples/capture.py: formats, filters and ring files, compared with tcpdump, tshark and gunzip."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest

from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from ixrings.hw.capture.ring_files import RingFiles
from ixrings.hw.errors import CaptureError
from tests.support.netmap_client import daemon
from tests.support.programs import ENVIRONMENT, EXAMPLES, ROOT, command, run_example, started, wait_for
from tests.support.ptp import message, on_ethernet, on_udp

ETHERNET = bytes.fromhex("020000000002 020000000001")
UDP = ETHERNET + bytes.fromhex("0800 4500 0020 0000 0000 40110000 0a000002 c0a80001 0035 0050 000c 0000") + bytes(30)
ARP = bytes.fromhex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001") + bytes(28)
MANY = 20_000  # more than the slots of a ring
PATIENCE_S = 30


def needs(program: str) -> str:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    return program


def without_sanitizer() -> dict[str, str]:
    return {name: value for name, value in ENVIRONMENT.items() if name != "LD_PRELOAD"}


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    """UDP frames, and after MANY of them ten of ARP."""
    file = tmp_path / "traffic.pcapng.gz"
    with CaptureWriter(file) as writer:
        for frame in [UDP] * MANY + [ARP] * 10:
            writer.write(frame, 1)
    return file


def test_a_filter_by_ether_type_lets_the_nic_choose_and_everything_is_counted(traffic: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    arguments = (
        "-i",
        f"emulated@rules=raise:pcap={traffic}",
        "-w",
        file,
        "--json",
        "--filter",
        "arp or ether proto 0x88cc",
    )
    done = run_example("capture", *arguments, "-c", 10)
    told = json.loads(done.stdout)
    assert (told["received"], told["filtered"], told["missed"], told["dropped"]) == (10, MANY, 0, 0), told
    assert [frame[:42] for frame in read_capture(file)] == [ARP[:42]] * 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expression", "count"), [("udp port 53", MANY), ("not udp and host 10.0.0.1", 10), ("", MANY + 10)]
)
def test_other_filters_take_frames_by_numpy(expression: str, count: int, traffic: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    arguments = ("-i", f"emulated:pcap={traffic}", "-w", file, "-c", count, "--filter", expression, "--json")
    told = json.loads(run_example("capture", *arguments).stdout)
    assert told["received"] == len(read_capture(file)) == count
    assert told.get("filtered", 0) == (MANY if count == 10 else 0)


@pytest.mark.slow
def test_wanted_frames_that_come_before_the_filters_are_written(tmp_path: Path) -> None:
    traffic, file = tmp_path / "early.pcap", tmp_path / "x.pcap"
    with CaptureWriter(traffic) as writer:
        for frame in [ARP] * 10 + [UDP] * 10 + [ARP] * 10:
            writer.write(frame, 1)
    arguments = ("-i", f"emulated:pcap={traffic}", "-w", file, "-c", 20, "--filter", "arp", "--json")
    told = json.loads(run_example("capture", *arguments).stdout)
    assert told["received"] == 20 and [frame[:42] for frame in read_capture(file)] == [ARP[:42]] * 20


@pytest.mark.slow
def test_wanted_frames_are_not_lost_in_a_flood_of_others(tmp_path: Path) -> None:
    """A ring of 64 slots at 10 Gbit/s loses frames of the flood (they are not wanted), and none of the ten."""
    traffic, file = tmp_path / "flood.pcap", tmp_path / "x.pcap"
    with CaptureWriter(traffic) as writer:
        flood = np.broadcast_to(np.frombuffer(UDP, np.uint8), (1000, len(UDP)))
        for _ in range(1500):  # a tenth of a second, and the filters take effect after a few milliseconds
            writer.write_batch(flood, np.full(1000, len(UDP)), 1)
        for _ in range(10):
            writer.write(ARP, 1)
    with started(
        command(
            "capture", "-i", f"emulated@paced:pcap={traffic}", "-w", file, "--filter", "arp", "--slots", 64, "-c", 10
        )
    ) as process:
        words, errors = process.communicate(timeout=PATIENCE_S)
    assert "received 10 frames" in words, words + errors
    assert [frame[:42] for frame in read_capture(file)] == [ARP[:42]] * 10


@pytest.mark.slow
def test_a_virtual_function_filters_by_numpy(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    done = run_example(
        "capture", "-i", "emulated-vf:source", "-w", file, "--filter", "arp or udp dst port 9", "-c", 9, "--json"
    )
    assert json.loads(done.stdout)["received"] == len(read_capture(file)) == 9
    with started(command("capture", "-i", "emulated-vf:source", "-w", file, "--filter", "arp", "--json")) as process:
        wait_for(lambda: file.stat().st_size == 24, "the capture has not begun", PATIENCE_S)
        process.send_signal(signal.SIGINT)
        assert json.loads(process.communicate(timeout=PATIENCE_S)[0])["received"] == 0


def statistics_of(file: Path) -> dict[int, int]:
    """The 64-bit options of the last block: 4 received by the interface, 5 dropped, 6 accepted, 8 delivered."""
    data = file.read_bytes()
    (length,) = struct.unpack("<I", data[-4:])
    block, found, at = data[-length:], {}, 20
    assert struct.unpack_from("<I", block)[0] == 5
    while (option := struct.unpack_from("<HH", block, at)) != (0, 0):
        found[option[0]] = int.from_bytes(block[at + 4 : at + 12], "little")
        at += 4 + option[1]
    return found


@pytest.mark.slow
def test_a_pcapng_file_ends_with_what_the_nic_received_and_lost(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    told = json.loads(
        run_example("capture", "-i", "emulated@paced:source", "-w", file, "-c", 30_000, "--slots", 64, "--json").stdout
    )
    counted = statistics_of(file)
    # The file is closed after the summary, and the wire goes on.
    assert counted[5] >= told["missed"] + told["dropped"] > 0 and counted[8] == told["received"] == 30_000
    assert counted[4] >= counted[5] + counted[8]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_tshark_reads_a_capture_from_a_pipe(form: str, tmp_path: Path) -> None:
    needs("tshark")
    words = " ".join(command("capture", "-i", "emulated:source=100", "-w", "-", "-F", form, "-c", 50))
    done = subprocess.run(
        ["sh", "-c", f"{words} | env -u LD_PRELOAD tshark -n -r - -T fields -e frame.len"],
        env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["100"] * 50, done.stderr
    assert "received 50 frames" in done.stderr


@pytest.mark.slow
def test_capinfos_shows_the_port_and_the_comment(tmp_path: Path) -> None:
    needs("capinfos")
    file = tmp_path / "x.pcapng.gz"
    run_example("capture", "-i", "emulated:source", "-w", file, "-c", 5, "--comment", "from rack 7", "--filter", "udp")
    told = subprocess.run(
        ["capinfos", file], env=without_sanitizer(), capture_output=True, text=True, timeout=60
    ).stdout
    for words in (
        "Capture comment:     from rack 7", "Name = emulated:source", "Filter string = udp", "packets = 5",
        "Hardware = Intel 82599 made of software", "Time precision = nanoseconds", "Speed = 10000000000",
    ):  # fmt: skip
        assert words in told, (words, told)


@pytest.mark.slow
def test_ctrl_c_leaves_a_compressed_file_that_gunzip_reads_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng.gz"
    with started(command("capture", "-i", "emulated:source", "-w", file, "--json")) as process:
        wait_for(lambda: file.exists() and file.stat().st_size > 100_000, "nothing is captured", PATIENCE_S)
        process.send_signal(signal.SIGINT)
        told = json.loads(process.communicate(timeout=PATIENCE_S)[0])
    file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    assert told["received"] == len(read_capture(file)) == len(read_capture(file.with_suffix("")))


@pytest.mark.slow
def test_replay_sends_a_compressed_capture(traffic: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent.pcap"
    done = run_example("replay", "-i", f"emulated:pcap=,{sent}", traffic, "--flat-out", "--json")
    assert json.loads(done.stdout)["sent"] == MANY + 10 == len(read_capture(sent))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.pcap", "x.pcapng", "x.pcapng.gz"])
def test_a_full_disk_is_one_sentence_and_what_was_written_is_whole(name: str, tmp_path: Path) -> None:
    words = " ".join(command("capture", "-i", "emulated:source", "-w", name, "--slots", 512))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 5000; exec {words}"],
        env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "cannot be written: File too large" in line], done.stderr
    assert len(read_capture(tmp_path / name)) > 10_000 and "Traceback" not in done.stderr


# ---- ring files ----


@pytest.fixture(scope="module")
def long_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of several lengths, 5 MB."""
    file = tmp_path_factory.mktemp("frames") / "in.pcap"
    with CaptureWriter(file) as writer:
        for number in range(7000):
            writer.write(ETHERNET + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(60 + number * 7 % 1400), 1)
    return file


def files_in(folder: Path) -> dict[str, list[bytes]]:
    return {file.name: list(read_capture(file)) for file in sorted(folder.iterdir())}


OPTIONS = ["-C 1", "-C 2", "-C 1 -W 1", "-C 1 -W 2", "-C 1 -W 3", "-C 1 -W 10", "-C 1 -W 11", "-C 1 -G 1000",
           "-C 1 -G 1000 -W 2", "-G 1000", "-G 1000 -W 3"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_ring_files_have_the_names_and_the_frames_of_tcpdumps(options: str, long_frames: Path, tmp_path: Path) -> None:
    needs("tcpdump")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    name = "x%Y.pcap"
    user = ["-Z", "root"] if os.geteuid() == 0 else []
    subprocess.run(
        ["tcpdump", *user, "-r", long_frames, "-w", name, *options.split()], cwd=theirs, check=True, capture_output=True
    )
    arguments = ("-i", f"emulated:pcap={long_frames}", "-w", ours / name, "-c", 7000, "--json", *options.split())
    done = run_example("capture", *arguments)
    assert json.loads(done.stdout)["received"] == 7000
    assert files_in(ours) == files_in(theirs)


@pytest.mark.slow
def test_both_end_after_the_last_of_so_many_periods(tmp_path: Path) -> None:
    """tcpdump gets frames through a pipe; it ends with the first frame after the last period."""
    needs("tcpdump")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    user = ["-Z", "root"] if os.geteuid() == 0 else []
    options = ["-G", "1", "-W", "2"]
    tcpdump = subprocess.Popen(
        ["tcpdump", *user, "-r", "-", "-w", "x%s.pcap", *options],
        cwd=theirs, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert tcpdump.stdin is not None
    writer = CaptureWriter(cast(BinaryIO, tcpdump.stdin))

    def ended() -> bool:
        with suppress(CaptureError):  # a broken pipe, at the end
            writer.write(UDP, 1)
            writer.flush()
        return tcpdump.poll() is not None

    wait_for(ended, "tcpdump goes on", PATIENCE_S)
    for close in (writer.close, tcpdump.stdin.close):
        with suppress(CaptureError, OSError):
            close()
    done = run_example(
        "capture", "-i", "emulated@paced:source=9000", "--mtu", 9000, "-s", 60, "-w", ours / "x%s.pcap", *options
    )
    assert done.returncode == tcpdump.returncode == 0
    assert len(files_in(ours)) == len(files_in(theirs)) == 2
    assert all(name.startswith("x1") and frames for name, frames in files_in(ours).items())


class Time:
    """A clock that is set."""

    now = 1_700_000_000.7

    def __call__(self) -> float:
        return self.now


def test_the_time_names_files_and_a_period_begins_with_the_frame_after_the_last_one(tmp_path: Path) -> None:
    clock, frames = Time(), np.zeros((4, 100), np.uint8)

    def write(count: int) -> None:
        files.write_batch(frames, np.full(count, 60), 1, np.zeros(count, np.int64))

    files = RingFiles(str(tmp_path / "%s.pcap"), CaptureWriter, seconds=60, most=3, clock=clock)
    over = []
    for later, count in [(0, 2), (59, 1), (100, 4), (60, 5), (60, 1)]:  # two periods without frames have no file
        clock.now += later
        over.append(files.over)
        write(count)
    files.close()
    assert over == [False, False, False, False, True] and files.frames == 12
    assert {name: len(each) for name, each in files_in(tmp_path).items()} == {
        "1700000000.pcap": 3, "1700000159.pcap": 4, "1700000219.pcap": 5,
    }  # fmt: skip


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_printed(tmp_path: Path) -> None:
    needs("tshark")
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8").partition("## Captures")[2]
    printed = text.split("```\n")[1].replace(".venv/bin/python examples", f"{sys.executable} {EXAMPLES}")
    outputs = []
    for line in printed.replace("| tshark", "| env -u LD_PRELOAD tshark").splitlines():
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert len(read_capture(tmp_path / "echo.pcapng.gz")) == 1000 and len(outputs[2].splitlines()) == 10
    assert sorted(file.name for file in tmp_path.glob("last*")) == ["last.pcap0", "last.pcap1", "last.pcap2"]


@pytest.mark.slow
def test_the_nics_stamps_of_ptp_messages_are_comments_of_their_frames(tmp_path: Path) -> None:
    """The NIC has one stamp at a time, so only some frames of this flood have one."""
    needs("tshark")
    traffic, file = tmp_path / "ptp.pcap", tmp_path / "x.pcapng"
    with CaptureWriter(traffic) as writer:
        for number in range(30_000):
            writer.write((on_ethernet, on_udp)[number % 2](message(sequence=number)), 1)
    arguments = ("-i", f"emulated:pcap={traffic}", "-w", file, "-c", 30_000, "--ptp-stamps", "--json")
    told = json.loads(run_example("capture", *arguments).stdout)
    assert told["received"] == 30_000
    fields = ("-e", "frame.number", "-e", "frame.time_epoch", "-e", "frame.comment")
    lines = subprocess.run(
        ["tshark", "-n", "-r", file, "-Y", "frame.comment", "-T", "fields", *fields],
        env=without_sanitizer(), capture_output=True, text=True, timeout=120,
    ).stdout.splitlines()  # fmt: skip
    assert len(lines) == told["stamped"] > 0
    for line in lines:
        place, seconds, comment = line.split("\t")
        found = re.fullmatch(r"the NIC's clock: (\d+\.\d{9}) s, sequenceId (\d+)", comment)
        assert found and int(found[2]) == int(place) - 1 and abs(float(found[1]) - float(seconds)) < PATIENCE_S


@pytest.mark.slow
def test_the_benchmark_of_its_cost_runs() -> None:
    program = ROOT / "tests" / "bench" / "capture_cost.py"
    done = subprocess.run(
        [sys.executable, program, "-n", "2000", "--runs", "1", "--json"],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert len(json.loads(done.stdout)) == 7, done.stderr


@pytest.mark.slow
def test_frames_in_several_buffers_of_a_daemon_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.pcap"
    with daemon(tmp_path, "ix0=emulated:source=3000", "--mtu", "9000", "--no-host") as running:
        monkeypatch.setitem(ENVIRONMENT, "IXRINGS_SOCKET", running.path)
        for options in ((), ("--filter", "udp and len > 2048"), ("-C", 1)):
            done = run_example("capture", "-i", "netmap:ix0", "-w", file, "-c", 20, *options)
            assert done.returncode == 0, done.stderr
            assert read_capture(file).lengths.tolist() == [3000] * 20
