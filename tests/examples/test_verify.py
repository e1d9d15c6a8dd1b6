"""examples/pktgen.py -f rx --verify: known faults between a sender and a receiver are counted exactly."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from tests.examples.test_streams import transmit
from tests.support.netmap_client import daemon
from tests.support.programs import (
    ENVIRONMENT,
    EXAMPLES,
    ROOT,
    Process,
    command,
    interrupt,
    run_example,
    started,
    wait_for,
)

FOREIGN = b"\xff" * 12 + b"\x88\xb5" + bytes(46)
COUNTERS = ("received", "lost", "duplicates", "reordered", "late")


def numbered(tmp_path: Path, count: int, *arguments: str) -> list[bytes]:
    """The frames of a sender that ran once."""
    file = tmp_path / "sent.pcap"
    transmit(file, count, "--number", *arguments)
    return list(read_capture(file))


def received(tmp_path: Path, frames: Sequence[bytes], *arguments: str) -> dict[str, object]:
    """The JSON summary of a receiver of these frames; its exit status says whether all was right."""
    file = tmp_path / "received.pcap"
    with CaptureWriter(file) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, number)
    done = run_example(
        "pktgen", "-f", "rx", "--verify", "-i", f"emulated:pcap={file}", "-n", len(frames), "--json", *arguments
    )
    assert done.stderr == "", done.stderr
    summary: dict[str, object] = json.loads(done.stdout)
    right = not any(summary[name] for name in COUNTERS[1:]) and bool(summary["streams"])
    assert done.returncode == (0 if right else 1)
    return summary


def of_streams(summary: dict[str, object]) -> dict[tuple[str, int], tuple[int, ...]]:
    streams = summary["streams"]
    assert isinstance(streams, list)
    return {(each["sender"], each["stream"]): tuple(each[name] for name in COUNTERS) for each in streams}


def counted_by_hand(frames: Iterable[bytes], offset: int, first: int) -> dict[tuple[str, int], tuple[int, ...]]:
    """The same counts, frame by frame. first: what the sender numbers from."""
    came: dict[tuple[str, int], list[int]] = {}
    for frame in frames:
        if frame != FOREIGN:
            _, sender, stream, number = struct.unpack_from("!HIHI", frame, offset)
            came.setdefault((f"{sender:08x}", stream), []).append((number - first) % 2**32)
    counts: dict[tuple[str, int], tuple[int, ...]] = {}
    for key, numbers in came.items():
        seen: set[int] = set()
        duplicates = reordered = 0
        for number in numbers:
            duplicates += number in seen
            reordered += number not in seen and bool(seen) and number < max(seen)
            seen.add(number)
        counts[key] = (len(numbers), max(seen) - min(seen) + 1 - len(seen), duplicates, reordered, 0)
    return counts


def damaged(frames: Sequence[bytes], seed: int) -> list[bytes]:
    """Frames lost, doubled, delayed by up to 30 places, and foreign ones between."""
    rng = random.Random(seed)
    places: list[tuple[float, bytes]] = []
    for place, frame in enumerate(frames):
        kind = rng.random()
        if kind < 0.05:
            continue
        places.append((place + (rng.uniform(1, 30) if kind < 0.15 else 0), frame))
        if kind > 0.95:
            places.append((place + rng.choice((0.1, rng.uniform(0, 30))), frame))
        if rng.random() < 0.02:
            places.append((place + 0.5, FOREIGN))
    return [frame for _, frame in sorted(places, key=lambda each: each[0])]


@pytest.mark.parametrize(("first", "offset", "arguments"), [
    pytest.param(2**32 - 300, 42, ["-s", "10.0.0.1-10.0.0.5"], marks=pytest.mark.slow),  # the numbers wrap
    pytest.param(0, 42, [], marks=pytest.mark.slow),
    pytest.param(5, 46, ["--vlan", "1-100", "-l", "60,1000"], marks=pytest.mark.slow),
    pytest.param(2**31 - 20, 62, ["-s", "fd00::1-fd00::200", "--random"], marks=pytest.mark.slow),
    pytest.param(2**32 - 1, 66, ["-d", "fd00::1-fd00::ffff", "--vlan", "7"], marks=pytest.mark.slow),
])  # fmt: skip
def test_faults_of_every_kind_are_counted_exactly(
    first: int, offset: int, arguments: list[str], tmp_path: Path
) -> None:
    frames = damaged(numbered(tmp_path, 4000, str(first), *arguments), seed=first)
    summary = received(tmp_path, frames)
    expected = counted_by_hand(frames, offset, first)
    assert of_streams(summary) == expected
    assert [summary["numbered"], *(summary[name] for name in COUNTERS[1:])] == [
        sum(each[column] for each in expected.values()) for column in range(5)
    ]
    assert summary["foreign"] == frames.count(FOREIGN) > 0 and summary["received"] == len(frames)


@pytest.mark.slow
def test_frames_of_all_four_kinds_of_headers_are_found_in_one_batch(tmp_path: Path) -> None:
    kinds = [["-s", "10.0.0.1"], ["-s", "10.0.0.1", "--vlan", "5"], ["-s", "fd00::1"], ["-s", "fd00::1", "--vlan", "5"]]
    sent = [numbered(tmp_path, 300, *kind) for kind in kinds]
    mixed = [frame for row in zip(*sent, strict=True) for frame in row]
    summary = received(tmp_path, mixed)
    assert summary["numbered"] == 1200 and set(of_streams(summary).values()) == {(300, 0, 0, 0, 0)}


@pytest.mark.slow
def test_a_sender_that_restarts_is_a_new_one_and_loses_nothing(tmp_path: Path) -> None:
    first, second = (numbered(tmp_path, 1500, "-s", "10.0.0.1-10.0.0.3") for _ in range(2))
    summary = received(tmp_path, first[:1200] + second)
    assert sorted(of_streams(summary).values()) == [(400, 0, 0, 0, 0)] * 3 + [(500, 0, 0, 0, 0)] * 3
    mixed = [frame for pair in zip(first, second, strict=True) for frame in pair]
    summary = received(tmp_path, mixed[:10] + mixed[12:])
    assert len(of_streams(summary)) == 6 and (summary["lost"], summary["reordered"]) == (2, 0)


@pytest.mark.slow
def test_a_number_that_an_earlier_frame_left_in_a_buffer_is_not_counted_again(tmp_path: Path) -> None:
    long = numbered(tmp_path, 3000, "-s", "fd00::1")
    summary = received(tmp_path, long + [FOREIGN] * 2000 + [long[-1][:62]] * 2000)
    assert (summary["numbered"], summary["foreign"], summary["duplicates"]) == (3000, 4000, 0)


@pytest.mark.slow
def test_a_damaged_number_is_foreign(tmp_path: Path) -> None:
    frames = numbered(tmp_path, 500)
    for byte in range(42, 56):
        broken = bytearray(frames[100 + byte])
        broken[byte] ^= 0x10
        frames[100 + byte] = bytes(broken)
    summary = received(tmp_path, frames)
    assert (summary["foreign"], summary["lost"]) == (14, 14)


@pytest.mark.slow
def test_a_frame_that_is_further_behind_than_the_memory_is_late(tmp_path: Path) -> None:
    frames = numbered(tmp_path, 40_000)
    moved = [*frames[:10], *frames[11:30_000], frames[10], frames[20], *frames[30_000:]]
    summary = received(tmp_path, moved)
    assert [summary[name] for name in COUNTERS[1:]] == [1, 0, 0, 2]


@pytest.mark.slow
def test_many_streams_that_begin_one_after_the_other_keep_their_memory(tmp_path: Path) -> None:
    """More streams have less memory each. What is remembered is kept when more streams come."""
    frames = numbered(tmp_path, 40_000, "-s", "10.0.0.1-10.0.4.0", "--random")
    by_stream = sorted(frames, key=lambda frame: frame[42 + 6 : 42 + 8])  # stable: the order in a stream stays
    begun = by_stream[:50]
    summary = received(tmp_path, [*begun, *by_stream[50:], *frames[-1:], *by_stream[-3:]])
    assert len(of_streams(summary)) == 1024
    assert (summary["duplicates"], summary["lost"], summary["reordered"], summary["late"]) == (4, 0, 0, 0)


@pytest.mark.slow
def test_a_receiver_of_frames_without_numbers_says_how_to_send_them() -> None:
    done = run_example("pktgen", "-f", "rx", "--verify", "-i", "emulated:source", "-n", "100")
    assert done.returncode == 1 and "foreign 100" in done.stdout
    assert "Send with: pktgen.py -f tx --number" in done.stdout


@pytest.mark.slow
def test_streams_with_faults_have_a_line_each_and_there_are_at_most_twenty(tmp_path: Path) -> None:
    frames = numbered(tmp_path, 900, "-s", "10.0.0.1-10.0.0.30")
    file = tmp_path / "received.pcap"
    with CaptureWriter(file) as writer:
        for number, frame in enumerate(frames[:300] + frames[325:]):
            writer.write(frame, number)
    done = run_example("pktgen", "-f", "rx", "--verify", "-i", f"emulated:pcap={file}", "-n", 875)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and lines[1] == "FAILED: 30 streams of 1 sender, 25 with faults."
    assert len(lines) == 23 and lines[2].endswith(" stream 0: received 29, lost 1")
    assert lines[-1] == "... and 5 more streams with faults; --json shows all"


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_printed(tmp_path: Path) -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    block = text.split("## Streams of frames")[1].split("```\n")[1]
    words = block.replace(".venv/bin/python", sys.executable).replace("/tmp/sent.pcap", str(tmp_path / "sent.pcap"))
    done = subprocess.run(
        ["sh", "-ec", words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(
        "45 streams of 1 sender: every frame came once and in order, from the first one received"
    )


# ---- sender and receiver at once ----


def first_words(process: Process) -> None:
    assert process.stdout is not None
    for _ in range(2):
        assert " listens at " in process.stdout.readline()


@pytest.mark.slow
def test_two_virtual_functions_exchange_streams_and_ctrl_c_ends_with_the_verdict(tmp_path: Path) -> None:
    nic = tmp_path / "nic"
    with started(
        [sys.executable, "-m", "ixrings", "emulate", "--vf", "2", "--socket", str(nic), "--wire", "sink"]
    ) as emulator:
        first_words(emulator)
        trace = tmp_path / "trace"
        rx = ("-f", "rx", "--verify", "-i", f"vfio-user:{nic}/vf0.sock", "--trace", trace)
        with started(command("pktgen", *rx)) as receiver:
            wait_for(lambda: trace.exists() and "RDT" in trace.read_text(), "the receiver has not begun")
            tx = ("-f", "tx", "-i", f"vfio-user:{nic}/vf1.sock", "-n", 2000, "-R", 20_000, "--number")
            done = run_example("pktgen", *tx, "-s", "10.0.0.1-10.0.0.9", "-l", "imix")
            assert done.returncode == 0, done.stderr
            output, errors = interrupt(receiver)
    summary, verdict = output.splitlines()
    assert errors == "" and summary.startswith("received ") and "numbered " in summary
    assert "stream" in verdict and receiver.returncode == (0 if "every frame came once" in verdict else 1)


@pytest.mark.slow
def test_what_streams_lost_on_a_daemon_s_port_is_not_more_than_the_nic_missed(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated:loop") as running:
        pktgen = ["env", f"IXRINGS_SOCKET={running.path}", *command("pktgen")]
        with started([*pktgen, "-f", "rx", "--verify", "-i", "netmap:ix0/R", "--json"]) as receiver:
            wait_for(lambda: running.status()["handles"], "the receiver has no handle")
            for options in ("--number -s 10.0.0.1-10.0.0.3", "--number --offload"):
                tx = [*pktgen, "-f", "tx", "-i", "netmap:ix0/T", "-n", "30000", *options.split()]
                done = subprocess.run(tx, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
                assert done.returncode == 0, done.stderr
            output, errors = interrupt(receiver)
        refused = subprocess.run(
            [*pktgen, "-f", "tx", "-i", "vale0:a", "--offload"], env=ENVIRONMENT, capture_output=True, text=True,
            timeout=30,
        )  # fmt: skip
        assert running.end() == ""
    summary = json.loads(output)
    assert errors == "" and 0 < summary["numbered"] <= 60_000 - summary["lost"]
    assert summary["lost"] <= summary["missed"] + summary["dropped"] and summary["duplicates"] == 0
    assert refused.returncode == 1 and "vale0:a: --offload needs a NIC" in refused.stderr
