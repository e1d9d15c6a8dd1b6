"""pktgen.py --gaps: frames leave when the pattern says, to the byte of the wire, and the receiver drops the fillers."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ixrings import open_port, open_ports
from ixrings.hw.emulator import Emulated82599
from tests.qemu.lab.served import ServedNic
from tests.support.netmap_client import daemon
from tests.support.programs import ENVIRONMENT, EXAMPLES, ROOT, run_example

FRAME = bytes.fromhex("020000000009 028259900001 88b5") + bytes(1500)
BYTE_NS = 0.8
SEED = 7
LIST_NS = [2000.4, 0, 90.4, 1400, 123_456, 67.2, 68, 200_000.017]
FRAMES = 400


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def starts_ns(kind: str, rate: float, wire: int) -> list[float]:
    """When frames should begin, from the words that describe the pattern."""
    step = 1e9 / rate if rate else 0
    if kind == "constant":
        return [i * step for i in range(FRAMES)]
    if kind == "poisson":
        return [float(at) for at in np.cumsum(np.random.default_rng(SEED).exponential(step, FRAMES))]
    if kind == "burst:5":
        return [i // 5 * 5 * step + i % 5 * wire * BYTE_NS for i in range(FRAMES)]
    times = [0.0]
    while len(times) < FRAMES:
        times.append(times[-1] + LIST_NS[(len(times) - 1) % len(LIST_NS)])
    return times


def departures(wanted_ns: Sequence[float], wire: int) -> list[int]:
    """Where frames can begin, one after the other: a gap below 84 bytes is left out, and the next gap gets it."""
    free, owed, places = 0, 0, []
    for at in wanted_ns:
        begin = max(round(at / BYTE_NS), free)
        owed += begin - free
        if owed >= 84:
            owed = 0
        places.append(begin - owed)
        free = begin + wire
    return places


def chosen(kind: str, tmp_path: Path) -> str:
    if kind != "list":
        return kind
    file = tmp_path / "gaps"
    file.write_text("# ns\n" + "".join(f"{gap}\n" for gap in LIST_NS))
    return str(file)


@pytest.fixture
def pacing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module("pacing")
    sys.modules.pop("pacing", None)


@pytest.mark.parametrize(
    ("length", "kind", "share"),
    [
        slow(60, "constant", 0.93),
        slow(60, "constant", 0.1),
        (60, "poisson", 0.6),
        slow(60, "poisson", 0.1),
        slow(60, "burst:5", 0.5),
        slow(60, "list", 0),
        slow(1514, "constant", 0.3),
        slow(1514, "constant", 0.97),
        slow(1514, "poisson", 0.6),
        (1514, "burst:5", 0.1),
        slow(1514, "list", 0),
    ],
)
def test_frames_leave_at_the_byte_of_the_pattern(
    pacing: Any, length: int, kind: str, share: float, tmp_path: Path
) -> None:
    """share: of the wire, that the frames take."""
    wire = length + 24
    rate = share * 1.25e9 / wire
    pattern = pacing.pattern(chosen(kind, tmp_path))
    with Emulated82599("sink") as nic, open_port(nic) as port:
        record = nic.record_departures(100 * FRAMES * len(LIST_NS))
        paced = pacing.Paced(port, FRAME[:length], pattern, rate, 256, SEED)
        paced._at_once = 77  # plans that end anywhere
        counted: dict[str, float] = {}
        paced.send(lambda sent: FRAMES - sent, counted, lambda: None)
        port.flush(20)
        frames = record.frames()
        assert record.lost == 0
    sent, fillers = frames[frames["damaged"] == 0], frames[frames["damaged"] == 1]
    assert counted["sent"] == len(sent) == FRAMES and counted["fillers"] == len(fillers)
    assert set(sent["bytes"]) == {length + 4}
    assert 64 <= fillers["bytes"].min() <= fillers["bytes"].max() <= 1518
    wanted = starts_ns(kind, rate, wire)
    expected = departures(wanted, wire)
    first = 0 if frames["damaged"][0] else expected[0]  # positions are from the first frame or filler on
    assert sent["position"].tolist() == [place - first for place in expected]
    late = [place - round(at / BYTE_NS) for place, at in zip(expected, wanted)]
    assert counted.get("early", 0) == sum(each < 0 for each in late)
    assert counted.get("late", 0) == sum(each > 0 for each in late)


def test_the_receiver_gets_the_frames_and_counts_the_fillers_as_crc_errors(pacing: Any) -> None:
    counted: dict[str, float] = {}
    with open_ports("emulated:cable=gaps", "emulated:cable=gaps", promiscuous=True) as (one, two):
        paced = pacing.Paced(one, FRAME[:60], pacing.pattern("poisson"), 1e6, 256, SEED)
        paced.send(lambda sent: 200 - sent, counted, lambda: None)
        one.flush(20)
        assert len(list(itertools.islice(two.recv(20), 200))) == 200
        stats = two.stats()
    assert (stats["GPRC"], stats["CRCERRS"]) == (200, counted["fillers"]) and counted["fillers"] > 100


@pytest.mark.slow
def test_the_buffers_are_the_ring_s_own_afterwards(pacing: Any) -> None:
    with Emulated82599("sink") as nic, open_port(nic) as port:
        before = port.tx_rings[0].slots["buf_idx"].tolist()
        paced = pacing.Paced(port, FRAME[:60], pacing.pattern("burst:3"), 1e6, 64)
        counted: dict[str, float] = {}

        def interrupted() -> None:
            if counted["sent"] > 300:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            paced.send(lambda sent: 1e9, counted, interrupted)
        assert port.tx_rings[0].slots["buf_idx"].tolist() == before


@pytest.mark.parametrize("addresses", [FRAME[:12], slow(bytes(12)), slow(b"\xff" * 12)])
def test_no_filler_of_any_length_has_a_right_crc(pacing: Any, addresses: bytes) -> None:
    filler = pacing.filler_bytes(addresses)
    assert len(filler) == 1518
    for length in range(64, 1519):
        assert zlib.crc32(filler[: length - 4]) != int.from_bytes(filler[length - 4 : length], "little")


@pytest.mark.slow
def test_the_receiver_counts_the_fillers_as_crc_errors_and_gets_the_frames(tmp_path: Path) -> None:
    with ServedNic(tmp_path, "loop") as served:
        nic = served.nic
        record = nic.record_departures()
        done = run_example(
            "pktgen", "-i", f"vfio-user:{served.socket}", "-f", "tx", "-R", 2e6, "-n", 300, "--gaps", "constant",
            "--json",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        summary = json.loads(done.stdout)
        frames = record.frames()
        assert summary["sent"] == 300 and summary["fillers"] == 299 == int(frames["damaged"].sum())
        assert frames["position"][frames["damaged"] == 0].tolist() == [625 * i for i in range(300)]
        assert nic.violations == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--gaps", "constant"), "--gaps constant needs a rate of 1 frame a second or more: -R 1000000"),
        (("--gaps", "burst:0", "-R", "1000"), "write burst:N, with 1 to 32768 frames in a burst"),
        (("--gaps", "nowhere", "-R", "5"), "there is no file nowhere; --gaps takes constant, poisson, burst:N or a"),
        (("--gaps", "poisson", "-R", "5", "-p", "2"), "--gaps needs the order of one queue; leave out -p"),
        (("--gaps", "poisson", "-R", "20e6"), "the link carries 14880952 frames a second. Take a lower rate"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = run_example("pktgen", "-i", "emulated:sink", "-f", "tx", *arguments)
    assert done.returncode in (1, 2) and sentence in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1\n-2\n", "line 2: '-2' is refused; write nanoseconds"),
        ("# no gap\n", "has no line with nanoseconds"),
        ("1e11\n", "line 1: '1e11' is refused; .* 0 to 10000000000"),
        ("nan", "line 1: 'nan' is refused"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(pacing: Any, text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "gaps").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        pacing.pattern(str(tmp_path / "gaps"))


@pytest.mark.slow
def test_readme_s_commands_send_what_they_say() -> None:
    section = (EXAMPLES / "README.md").read_text().partition("## Exact gaps")[2].partition("\n## ")[0]
    commands = section.split("```")[1]
    assert commands.count("--gaps") == 2
    done = subprocess.run(
        ["bash", "-ec", commands.replace(".venv/bin/python", sys.executable)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [line.split(" frames")[0] for line in done.stdout.splitlines()] == ["sent 10,000"] * 2 and not done.stderr


@pytest.mark.slow
def test_a_daemon_s_nic_sends_exact_gaps_and_its_ports_without_a_wire_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(tmp_path, "ix0=emulated:sink", "--slots", "128") as running:
        monkeypatch.setitem(ENVIRONMENT, "IXRINGS_SOCKET", running.path)
        arguments = ("-f", "tx", "-R", 1e6, "-n", 200, "--gaps", "constant")
        done = run_example("pktgen", "-i", "netmap:ix0", *arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "") and json.loads(done.stdout)["fillers"] == 199
        done = run_example("pktgen", "-i", "netmap:p{1", *arguments)
        assert done.returncode == 1
        assert "netmap:p{1 has no speed, so its bytes take no time: --gaps is for a NIC" in done.stderr
        running.end()
