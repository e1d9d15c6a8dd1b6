"""The examples as a user runs them: options, exact counts, rates, summaries in words and JSON."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ixrings import open_ports
from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from tests.support.programs import ENVIRONMENT, EXAMPLES, command, interrupt, run_example, started, wait_for

OTHERS = {"scapy_port"}  # needs Scapy: test_scapy.py
PROGRAMS = sorted(
    {file.stem for file in EXAMPLES.glob("*.py") if "__main__" in file.read_text(encoding="utf-8")} - OTHERS
)
LIBRARIES = {"charts", "meter", "packets", "trials"}
MAC = bytes.fromhex("028259900001")  # the emulated NIC's default address
PEER = bytes.fromhex("020000000009")
LOSSES = {"missed", "dropped", "errors"}


def in_json(name: str, *arguments: object) -> dict[str, float]:
    """The JSON summary of an example that ends by itself."""
    done = run_example(name, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    summary: dict[str, float] = json.loads(done.stdout)
    return summary


def write_capture(file: Path, frames: list[bytes], times_s: list[float]) -> None:
    with CaptureWriter(file) as writer:
        for frame, at in zip(frames, times_s):
            writer.write_batch(
                np.frombuffer(frame, np.uint8).reshape(1, -1),
                np.array([len(frame)], np.uint16),
                np.array([int(at * 1e9)], np.int64),
            )


def test_the_examples_are_found() -> None:
    assert {"pktgen", "bridge", "capture", "replay", "responder"} <= set(PROGRAMS)
    assert not LIBRARIES & set(PROGRAMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_what_the_example_does_and_shows_a_call(name: str) -> None:
    done = run_example(name, "--help")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("usage:") and "--json" in done.stdout
    assert f"{name}.py " in done.stdout.split("options:")[0].split("\n\n", 1)[1], "the help shows no call"


@pytest.mark.parametrize(("name", "arguments", "keys"), [
    ("pktgen", ("-f", "tx", "-i", "emulated@rules=raise:sink", "-n", "1000"), {"sent", "unsent"}),
    pytest.param("pktgen", ("-f", "rx", "-i", "emulated@rules=raise:source", "-n", "1000"), {"received", *LOSSES},
                 marks=pytest.mark.slow),
    ("pktgen", ("-f", "ping", "-i", "emulated@rules=raise:loop", "-n", "20"),
     {"sent", "unsent", "received", "lost", "min_us", "median_us", "max_us", *LOSSES}),
    pytest.param("capture", ("-i", "emulated@rules=raise:source", "-w", "/dev/null", "-c", "1000"),
                 {"received", *LOSSES}, marks=pytest.mark.slow),
    ("rss_workers", ("-i", "emulated@rules=raise:source", "-n", "1000", "--forward"),
     {"forwarded", "unsent", *LOSSES}),
    pytest.param("line_rate", ("-t", "0.3"), {"sent", "unsent", "received", "wrong", *LOSSES},
                 marks=pytest.mark.slow),
])  # fmt: skip
def test_json_is_one_object_of_numbers_and_nothing_else(name: str, arguments: tuple[str, ...], keys: set[str]) -> None:
    summary = in_json(name, *arguments)
    assert set(summary) == keys | {"seconds"}
    assert summary["seconds"] > 0


@pytest.mark.slow
def test_the_summary_in_words_has_counts_rates_and_time() -> None:
    done = run_example("pktgen", "-f", "tx", "-i", "emulated:sink", "-n", "12345")
    assert re.fullmatch(r"sent 12,345 frames \(\d+\.\d\d Mpps\) in \d+\.\d\d s\n", done.stdout), done.stdout
    done = run_example("pktgen", "-f", "ping", "-i", "emulated:loop", "-n", "5")
    assert re.fullmatch(
        r"sent 5 frames .*, received 5 frames .*, lost 0, min_us [\d.,]+, median_us [\d.,]+, max_us [\d.,]+ in .* s\n",
        done.stdout,
    ), done.stdout


def on_a_terminal(*arguments: str) -> str:
    """The first line that pktgen.py shows on a terminal."""
    terminal, end = pty.openpty()
    try:
        process = subprocess.Popen(
            command("pktgen", *arguments),
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=end,
            text=True,
        )
        line = os.read(terminal, 1000).decode()
        while not line.endswith("\n"):
            line += os.read(terminal, 1000).decode()
        interrupt(process)
    finally:
        os.close(terminal)
        os.close(end)
    return line


@pytest.mark.slow
def test_a_terminal_shows_rates_every_second() -> None:
    line = on_a_terminal("-f", "tx", "-i", "emulated:sink")
    assert re.match(r" +1 s  sent \d+\.\d{3} Mpps\r\n", line), line


@pytest.mark.slow
def test_a_terminal_shows_counters_that_are_no_frames_as_they_are() -> None:
    line = on_a_terminal("-f", "ping", "-i", "emulated:loop")
    assert re.match(r" +1 s  sent \d+\.\d{3} Mpps, received \d+\.\d{3} Mpps, lost 0, min_us [\d.,]+, median", line), (
        line
    )


# ---- pktgen ----


@pytest.mark.parametrize(
    ("count", "length", "batch", "queues"), [(1, 60, 1, 1), (1000, 60, 256, 1), (777, 1514, 100, 1), (5003, 200, 64, 4)]
)
def test_pktgen_sends_the_number_and_length_asked_for(
    count: int, length: int, batch: int, queues: int, tmp_path: Path
) -> None:
    sent = tmp_path / "sent.pcap"
    summary = in_json(
        "pktgen", "-f", "tx", "-i", f"emulated:pcap=,{sent}", "-n", count, "-l", length, "-b", batch, "-p", queues
    )
    capture = read_capture(sent)
    assert summary["sent"] == len(capture) == count
    assert set(capture.lengths.tolist()) == {length}


@pytest.mark.slow
def test_pktgen_uses_the_addresses_given(tmp_path: Path) -> None:
    sent = tmp_path / "sent.pcap"
    addresses = "-s 192.0.2.1:7 -d 198.51.100.2:9 -S 02:00:00:00:00:01 -D 02:00:00:00:00:02"
    in_json("pktgen", "-f", "tx", "-i", f"emulated:pcap=,{sent}", "-n", 1, *addresses.split())
    (frame,) = read_capture(sent)
    assert frame[:14].hex() == "020000000002" + "020000000001" + "0800"
    assert (frame[26:30], frame[30:34]) == (bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2]))
    assert frame[34:38] == bytes([0, 7, 0, 9])
    if shutil.which("tcpdump"):
        words = subprocess.run(["tcpdump", "-nvvr", str(sent)], capture_output=True, text=True).stdout
        assert "bad cksum" not in words and "192.0.2.1.7 > 198.51.100.2.9" in words


@pytest.mark.parametrize("queues", [1, 4])
def test_pktgen_receives_the_number_asked_for(queues: int) -> None:
    assert in_json("pktgen", "-f", "rx", "-i", "emulated:source", "-n", 54321, "-p", queues)["received"] == 54321


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "count"), [(2_000, 1_000), (100_000, 50_000)])
def test_pktgen_sends_at_a_rate_within_a_tenth(rate: int, count: int) -> None:
    for _ in range(4):  # on a busy machine the program may not run at the right moment
        summary = in_json("pktgen", "-f", "tx", "-i", "emulated:sink", "-R", rate, "-n", count)
        assert summary["sent"] == count
        if summary["sent"] / summary["seconds"] == pytest.approx(rate, rel=0.1):
            return
    assert summary["sent"] / summary["seconds"] == pytest.approx(rate, rel=0.1)


@pytest.fixture
def pktgen(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module("pktgen")
    for name in ("pktgen", *LIBRARIES):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_ping_and_pong_meet_on_a_cable(
    pktgen: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cable joins ports of one process, so both programs run in threads."""
    programs = []
    for options in (["-f", "pong"], ["-f", "ping", "-n", "300"]):
        monkeypatch.setattr(sys, "argv", ["pktgen", "-i", "emulated:cable=pp", "--json", *options])
        programs.append(pktgen.Generator())
    pong, ping = (threading.Thread(target=program.main) for program in programs)
    pong.start()
    ping.start()
    ping.join(30)
    assert pong.ident
    # Ctrl-C for this thread only.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(pong.ident), ctypes.py_object(KeyboardInterrupt))
    pong.join(30)
    summaries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (answers,) = (summary for summary in summaries if "min_us" not in summary)
    (trips,) = (summary for summary in summaries if "min_us" in summary)
    assert trips["sent"] == trips["received"] + trips["lost"] == 300
    assert answers["received"] == answers["sent"] >= trips["received"] > 250
    assert 0 < trips["min_us"] <= trips["median_us"] <= trips["max_us"] <= 1.1e6


@pytest.mark.slow
def test_ping_fails_if_no_frame_comes_back() -> None:
    done = run_example("pktgen", "-f", "ping", "-i", "emulated:sink", "-n", "1", "--json")
    summary = json.loads(done.stdout)
    assert (summary["sent"], summary["received"], summary["lost"]) == (1, 0, 1)
    assert done.returncode == 1 and "none of 1 sent frames came back" in done.stderr


# ---- lost frames ----


@pytest.mark.slow
def test_a_capture_that_is_too_slow_says_how_many_frames_the_nic_missed(tmp_path: Path) -> None:
    """The source numbers its frames, so the file shows how many are missing between the first frame and the last."""
    file = tmp_path / "source.pcap"
    words = run_example("capture", "-i", "emulated@paced:source", "-w", file, "-c", 30_000, "--slots", 64).stdout
    numbers = [int.from_bytes(frame[42:50], "big") for frame in read_capture(file)]
    gaps = numbers[-1] - numbers[0] + 1 - len(numbers)
    found = re.search(r"received 30,000 frames .*, ([\d,]+) missed for lack of packet buffer \(MPC\)", words)
    assert found and 0 < gaps <= int(found[1].replace(",", "")), (gaps, words)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), [
    ("pktgen", ("-f", "rx", "-i", "emulated:pcap={}", "-n", "2")),
    ("capture", ("-i", "emulated:pcap={}", "-w", "/dev/null", "-c", "2")),
])  # fmt: skip
def test_frames_longer_than_the_mtu_are_counted_as_errors(
    name: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "in.pcap"
    write_capture(file, [PEER + MAC + bytes(length) for length in (60, 2000, 1990, 60)], [0.0] * 4)
    summary = in_json(name, *(each.format(file) for each in arguments))
    assert (summary["received"], summary["errors"]) == (2, 2)


@pytest.mark.slow
def test_a_bridge_counts_what_both_its_nics_did_not_deliver(tmp_path: Path) -> None:
    file = tmp_path / "in.pcap"
    write_capture(file, [PEER + MAC + bytes(length) for length in (2000, 60)], [0.0] * 2)
    targets = tmp_path / "a.pcap", tmp_path / "b.pcap"
    ports = [f"emulated:pcap={file},{target}" for target in targets]
    with started(command("bridge", "-i", ports[0], "-i", ports[1], "--json")) as process:
        wait_for(lambda: all(each.exists() and each.stat().st_size > 24 for each in targets), "nothing is forwarded")
        summary = json.loads(interrupt(process)[0])
    assert (summary["forwarded"], summary["unsent"], summary["errors"]) == (2, 0, 2)


def test_a_bridge_sleeps_while_it_cannot_send(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    class Ticks:
        count, end = 0, time.monotonic() + 0.5

        def tick(self) -> None:
            self.count += 1
            if time.monotonic() > self.end:
                raise Stop

    monkeypatch.syspath_prepend(str(EXAMPLES))
    bridge, ticks = importlib.import_module("bridge"), Ticks()
    try:
        with open_ports(
            "emulated:source", "emulated:cable=alone", promiscuous=True, tx_slots=64, rx_slots=64, link_timeout=0
        ) as (left, right):
            with pytest.raises(Stop):
                bridge.forward(left, right, 1024, False, ticks, {"forwarded": 0})
    finally:
        for name in ("bridge", *LIBRARIES):
            sys.modules.pop(name, None)
    assert ticks.count < 2000


# ---- capture, replay, bridge, responder, line_rate ----


def test_capture_writes_every_frame_once_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "source.pcap"
    summary = in_json("capture", "-i", "emulated:source=100", "-w", file, "-c", 20_000)
    capture = read_capture(file)
    assert summary["received"] == len(capture) == 20_000
    assert [int.from_bytes(frame[42:50], "big") for frame in capture] == list(range(20_000))
    assert set(capture.lengths.tolist()) == {100}
    assert (np.diff(capture.times_ns) >= 0).all() and abs(capture.times_ns[-1] / 1e9 - time.time()) < 60


def test_capture_keeps_only_the_bytes_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "short.pcap"
    in_json("capture", "-i", "emulated:source=1000", "-w", file, "-c", 100, "-s", 50)
    capture = read_capture(file)
    assert set(capture.lengths.tolist()) == {50} and set(capture.wire_lengths.tolist()) == {1000}


@pytest.mark.slow
def test_capture_keeps_whole_jumbo_frames(tmp_path: Path) -> None:
    file = tmp_path / "jumbo.pcap"
    in_json("capture", "-i", "emulated:source=9000", "-w", file, "-c", 100, "--mtu", 9000)
    assert set(read_capture(file).lengths.tolist()) == {9000}


TIMES_S = [0.0, 0.1, 0.1, 0.25, 0.4, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(("pace", "due_s"), [
    (("--speed", "1"), TIMES_S),
    (("--speed", "5"), [at / 5 for at in TIMES_S]),
    (("-R", "20"), [n / 20 for n in range(len(TIMES_S))]),
    (("--flat-out",), [0.0] * len(TIMES_S)),
])  # fmt: skip
def test_replay_sends_at_the_pace_asked_for(pace: tuple[str, ...], due_s: list[float], tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    frames = [PEER + MAC + b"\x88\xb5" + bytes([n]) * (46 + 100 * n) for n in range(len(TIMES_S))]
    write_capture(source, frames, [1000 + at for at in TIMES_S])
    for _ in range(4):  # on a busy machine the program may not run at the right moment
        assert in_json("replay", source, "-i", f"emulated:pcap=,{target}", *pace)["sent"] == len(frames)
        received = read_capture(target)
        assert list(received) == frames
        sent_s = (received.times_ns - received.times_ns[0]) / 1e9
        if sent_s == pytest.approx(due_s, abs=0.04):
            return
    assert sent_s == pytest.approx(due_s, abs=0.04)


def test_replay_sends_frames_of_every_length_up_to_the_longest(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    frames = [bytes([n % 256]) * length for n, length in enumerate((60, 1514, 1515, 9000, 9724) * 50)]
    write_capture(source, frames, [0.0] * len(frames))
    in_json("replay", source, "-i", f"emulated:pcap=,{target}")
    assert list(read_capture(target)) == frames


def test_bridge_forwards_in_both_directions_and_counts(tmp_path: Path) -> None:
    lefts, rights = tmp_path / "left.pcap", tmp_path / "right.pcap"
    left_frames, right_frames = (
        [kind + bytes([n % 256]) * (60 + n % 1000) for n in range(3000)] for kind in (b"left", b"right")
    )
    write_capture(lefts, left_frames, [0.0] * 3000)
    write_capture(rights, right_frames, [0.0] * 3000)
    outputs = tmp_path / "to_left.pcap", tmp_path / "to_right.pcap"
    ports = f"emulated:pcap={lefts},{outputs[0]}", f"emulated:pcap={rights},{outputs[1]}"
    with started(command("bridge", "-i", ports[0], "-i", ports[1], "--json")) as process:
        whole = [rights.stat().st_size, lefts.stat().st_size]
        wait_for(
            lambda: [file.exists() and file.stat().st_size for file in outputs] == whole,
            "the bridge has not sent everything",
        )
        output, errors = interrupt(process)
    assert not errors and json.loads(output)["forwarded"] == 6000
    assert [list(read_capture(file)) for file in outputs] == [right_frames, left_frames]


def echo(address: bytes, length: int) -> bytes:
    """An echo request with `length` bytes of data, built without examples/packets.py."""
    icmp = bytes([8, 0, 0, 0, 0, 1, 0, 2]) + bytes(range(256)) * (length // 256 + 1)
    icmp = icmp[: 8 + length]
    icmp = icmp[:2] + internet_checksum(icmp) + icmp[4:]
    ip = (
        bytes([0x45, 0]) + (20 + len(icmp)).to_bytes(2, "big") + bytes([0, 1, 0, 0, 64, 1, 0, 0, 10, 9, 0, 1]) + address
    )
    return MAC + PEER + b"\x08\x00" + ip[:10] + internet_checksum(ip) + ip[12:] + icmp


def internet_checksum(data: bytes) -> bytes:
    total = int(np.frombuffer(data + bytes(len(data) % 2), ">u2").sum(dtype=np.int64))
    return (0xFFFF - (1 + (total - 1) % 0xFFFF)).to_bytes(2, "big")  # a ones' complement sum is 1 to 0xFFFF, never 0


def test_the_responder_answers_only_arp_and_ping_for_its_address(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    mine, other = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 3])
    arp = b"\xff" * 6 + PEER + b"\x08\x06" + bytes([0, 1, 8, 0, 6, 4, 0, 1]) + PEER + bytes([10, 9, 0, 1]) + bytes(6)
    damaged = bytearray(echo(mine, 10))
    damaged[-1] ^= 1
    frames = [
        arp + mine,
        arp + other,
        echo(mine, 0),
        echo(other, 56),
        bytes(damaged),
        echo(mine, 57),
        b"\xff" * 60,
        echo(mine, 1400),
    ]
    write_capture(source, frames, [0.0] * len(frames))
    assert in_json("responder", "-i", f"emulated:pcap={source},{target}", "-a", "10.9.0.2", "-c", 4)["sent"] == 4
    answers = list(read_capture(target))
    assert answers[0] == (
        PEER + MAC + b"\x08\x06" + bytes([0, 1, 8, 0, 6, 4, 0, 2]) + MAC + mine + PEER + bytes([10, 9, 0, 1])
    ).ljust(60, b"\0")
    for answer, length in zip(answers[1:], (0, 57, 1400), strict=True):
        ip, icmp = answer[14:34], answer[34 : 42 + length]
        assert answer[:12] == PEER + MAC and ip[12:] == mine + bytes([10, 9, 0, 1])
        assert icmp[:2] == bytes([0, 0]) and icmp[4:] == echo(mine, length)[38:]
        assert internet_checksum(ip) == internet_checksum(icmp) == bytes(2)


@pytest.mark.slow
def test_line_rate_loses_no_frame_and_says_so() -> None:
    done = run_example("line_rate", "-t", "0.5")
    assert done.returncode == 0 and "Every frame came back in order and every byte was right." in done.stdout
    summary = in_json("line_rate", "-t", "0.3", "-i", "emulated:loop")
    assert summary["sent"] == summary["received"] > 1_000 and summary["wrong"] == summary["missed"] == 0


def test_a_program_on_a_virtual_function_does_not_tell_losses_that_nobody_counts() -> None:
    summary = in_json("pktgen", "-i", "emulated-vf", "-f", "ping", "-n", "3")
    assert (summary["received"], summary["lost"]) == (3, 0) and "missed" not in summary


@pytest.mark.parametrize(("wire", "words"), [
    ("source", "the frames that arrive are not those that were sent"),
    pytest.param("sink", "none of [0-9]+ frames came back", marks=pytest.mark.slow),
])  # fmt: skip
def test_line_rate_says_why_a_port_that_is_not_looped_cannot_be_checked(wire: str, words: str) -> None:
    done = run_example("line_rate", "-t", "0.2", "-i", f"emulated:{wire}")
    assert done.returncode == 1 and "right" not in done.stdout
    assert re.search(f"{words}.* needs a port that receives what it sends", done.stderr), done.stderr


def test_pktgen_sends_jumbo_frames(tmp_path: Path) -> None:
    file = tmp_path / "jumbo.pcap"
    assert in_json("pktgen", "-f", "tx", "-i", f"emulated:pcap=,{file}", "-l", 9000, "-n", 500)["sent"] == 500
    assert set(read_capture(file).lengths.tolist()) == {9000}


@pytest.mark.slow
def test_examples_work_on_a_virtual_function(tmp_path: Path) -> None:
    assert in_json("line_rate", "-i", "emulated-vf", "-t", "0.5")["wrong"] == 0
    assert in_json("line_rate", "-i", "emulated-vf", "-t", "0.2", "-b", 8192)["wrong"] == 0
    assert in_json("pktgen", "-i", "emulated-vf", "-f", "ping", "-n", 100)["received"] == 100
    nic, file = tmp_path / "nic", tmp_path / "came.pcap"
    with started([sys.executable, "-m", "ixrings", "emulate", "--vf", "2", "--socket", str(nic)]) as emulator:
        assert emulator.stdout is not None
        for _ in range(2):
            assert " listens at " in emulator.stdout.readline()
        with started(command("capture", "-i", f"vfio-user:{nic}/vf0.sock", "-w", file, "-c", 5)) as capture:
            wait_for(file.exists, "capture.py has not begun")
            assert in_json("pktgen", "-i", f"vfio-user:{nic}/vf1.sock", "-f", "tx", "-n", 5)["sent"] == 5
            capture.communicate(timeout=30)
            assert capture.returncode == 0
    assert len(read_capture(file).lengths) == 5
