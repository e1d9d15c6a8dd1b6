"""examples/throughput_test.py against devices whose limits and faults are known."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ixrings import open_port
from tests.support.programs import EXAMPLES, ROOT, command, first_line, interrupt, run_example, started
from tests.support.vfio_user_peer import emulate

PROGRAM = "throughput_test"
QUICK = ("--seconds", 0.05, "--settle", 0.02, "--resolution", 10)
LIMIT = 2000.0  # frames a second: so few that a busy machine forwards them
SVG = "{http://www.w3.org/2000/svg}"


@contextmanager
def device(folder: Path, *faults: object) -> Iterator[tuple[str, ...]]:
    """A device under test in a process of its own; yields the arguments that name its two ports."""
    program = [sys.executable, str(ROOT / "tests/support/device_under_test.py"), str(folder), *map(str, faults)]
    with started(program) as process:
        assert first_line(process) == "ready\n", process.communicate(timeout=30)
        yield "-i", f"vfio-user:{folder}/left.sock", "-o", f"vfio-user:{folder}/right.sock"


def measured(*arguments: object) -> dict[str, Any]:
    """The only size of a report."""
    done = run_example(PROGRAM, *arguments, "--json", timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    report = json.loads(done.stdout)
    assert report["complete"] and len(report["sizes"]) == 1
    size: dict[str, Any] = report["sizes"][0]
    return size


@pytest.mark.slow
def test_a_wire_loses_nothing_and_the_report_has_rate_latency_loss_and_drawing(tmp_path: Path) -> None:
    wire = ("-i", "emulated:loop,delay=20000")
    size = measured(*QUICK, *wire, "--sizes", "imix", "--max-rate", 5000, "--svg", tmp_path / "report.svg")
    assert size["size"] == "imix" and size["bytes"] == pytest.approx((7 * 64 + 4 * 594 + 1518) / 12)
    assert size["line_rate_fps"] == pytest.approx(1.25e9 / (size["bytes"] + 20))
    assert 0 < size["throughput_fps"] <= 5000 and [each["loss_percent"] for each in size["loss_curve"]] == [0, 0]
    assert size["latency_method"] == "the NIC's clock"
    assert all(abs(value - 20) <= 0.0064 for value in size["latency_us"].values())
    for trial in size["trials"]:
        assert trial["received"] == trial["sent"] > 0 and not trial["duplicates"] and not trial["missed_by_tester"]
    drawn = ElementTree.parse(tmp_path / "report.svg").getroot()
    assert drawn.tag == f"{SVG}svg" and len(drawn.findall(f".//{SVG}polyline")) == 2


@pytest.mark.slow
def test_the_limit_of_a_device_is_found_in_the_search_and_in_the_loss_curve(tmp_path: Path) -> None:
    with device(tmp_path, "--rate", LIMIT, "--queue", 256) as ports:
        size = measured(
            *ports, "--seconds", 1.5, "--settle", 0.2, "--resolution", 10, "--sizes", 1518, "--max-rate", 4 * LIMIT,
            "--step", 50,
        )  # fmt: skip
    assert 0.5 * LIMIT < size["throughput_fps"] < 1.5 * LIMIT, size
    assert size["latency_us"]["median"] > 0
    losses = [each["loss_percent"] for each in size["loss_curve"]]
    assert losses[0] > 40 and losses[0] > losses[1] > 10, losses  # at 4 and 2 times the limit


@pytest.mark.slow
def test_a_device_with_a_limit_in_each_direction_is_tested_both_ways(tmp_path: Path) -> None:
    with device(tmp_path, "--rate", LIMIT, "--queue", 256) as ports:
        size = measured(
            *ports, "--both", "--seconds", 1, "--settle", 0.2, "--resolution", 10, "--sizes", 256, "--max-rate",
            4 * LIMIT, "--tests", "throughput",
        )  # fmt: skip
    assert len({trial["direction"] for trial in size["trials"]}) == 2
    assert 0.3 * LIMIT < size["throughput_fps"] < 2 * LIMIT, size


@pytest.mark.slow
def test_a_device_that_drops_one_percent_at_any_rate_has_no_throughput_unless_this_is_accepted(tmp_path: Path) -> None:
    with device(tmp_path, "--drop", 100) as ports:
        fixed = (*ports, "--settle", 0.05, "--sizes", 64, "--max-rate", 5000, "--seconds", 0.5)
        curve = measured(*fixed, "--tests", "loss", "--step", 50)["loss_curve"]
        assert [each["loss_percent"] for each in curve] == [pytest.approx(1, abs=0.2)] * 2
        done = run_example(PROGRAM, *fixed, "--tests", "throughput", timeout=120)
        rate = re.search(r"throughput (?:at least )?([\d,]+) frames/s", done.stdout)
        assert rate and int(rate[1].replace(",", "")) < 500, done.stdout
        accepted = measured(*fixed, "--tests", "throughput", "--loss", 2, "--resolution", 10)
        assert accepted["throughput_fps"] > 1000, accepted


@pytest.mark.slow
def test_duplicates_are_noticed_and_are_not_counted_as_received(tmp_path: Path) -> None:
    with device(tmp_path, "--duplicate", 10) as ports:
        arguments = (*ports, *QUICK, "--sizes", 64, "--max-rate", 2000, "--tests", "loss")
        for trial in measured(*arguments)["trials"]:
            assert trial["received"] == trial["sent"] and 0.05 < trial["duplicates"] / trial["sent"] < 0.15
        assert "the device duplicates" in run_example(PROGRAM, *arguments).stdout


@pytest.mark.slow
def test_a_device_that_returns_nothing_is_said_at_once_although_the_link_is_up(tmp_path: Path) -> None:
    with device(tmp_path, "--silent") as ports:
        done = run_example(PROGRAM, *ports, *QUICK, "--json")
    assert done.returncode == 1 and json.loads(done.stdout) == {"complete": False, "sizes": []}
    assert re.search(r"none of \d+ frames came back.*link is up", done.stderr), done.stderr


@pytest.mark.slow
def test_frames_of_others_are_not_taken_for_frames_of_the_test() -> None:
    done = run_example(PROGRAM, "-i", "emulated:source", *QUICK)
    assert done.returncode == 1 and re.search(r"none of \d+ frames came back.* [1-9]\d* other frames", done.stderr)


@pytest.mark.slow
def test_a_tester_that_cannot_send_at_the_rate_says_so_and_does_not_blame_the_device(tmp_path: Path) -> None:
    size = measured("--seconds", 0.2, "--settle", 0.5, "--sizes", 64, "--tests", "throughput")  # 14.88 million a second
    assert "the tester " in size["limited_by_tester"], size


@pytest.mark.slow
def test_frames_that_the_tester_itself_missed_are_not_counted_as_loss_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    trials, program = importlib.import_module("trials"), importlib.import_module("throughput_test")
    try:
        with open_port("emulated:loop", promiscuous=True, tx_slots=4096, rx_slots=64, drop=True) as port:
            port.wait_link()
            address = (bytes.fromhex("020000000001"), b"\xff" * 6, (bytes([10, 0, 0, 1]), 1), (bytes([10, 0, 0, 2]), 2))
            way = trials.Way("loop", port, port, trials.Addresses(*address))
            (seen,) = trials.trial([way], trials.Mix("64", (64,)), 14e6, 0.001, 0.05)  # batches longer than the RX ring
    finally:
        for name in ("trials", "throughput_test", "charts", "meter", "packets"):
            sys.modules.pop(name, None)
    assert seen.missed > 0 and seen.received + seen.missed == seen.sent and seen.lost == 0
    assert "the tester could not receive" in program.tester_failure([seen])


@pytest.mark.slow
def test_a_link_that_is_down_or_goes_down_is_said(tmp_path: Path) -> None:
    done = run_example(PROGRAM, "-i", "emulated:cable=alone", "-w", 0.1)
    assert done.returncode == 1 and "cable=alone has no port at its other end" in done.stderr
    with emulate(tmp_path / "nic.sock") as emulator:
        arguments = ("-i", emulator.port, "--sizes", "64,128", "--max-rate", 2000, "--seconds", 0.5, "--settle", 0.05)
        with started(command(PROGRAM, *arguments)) as process:
            assert first_line(process).startswith("   64 bytes: throughput ")
            emulator.process.send_signal(signal.SIGUSR1)  # pulls the cable
            output, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and "the test ended early" in output and "the link went down in a trial" in errors


@pytest.mark.slow
@pytest.mark.parametrize("file", ["/dev/full", "missing/report.svg"])
def test_a_drawing_that_cannot_be_written_is_said_after_the_report(file: str, tmp_path: Path) -> None:
    target = file if file.startswith("/") else str(tmp_path / file)
    done = run_example(PROGRAM, *QUICK, "--sizes", 64, "--max-rate", 2000, "--tests", "loss", "--svg", target)
    assert done.returncode == 1 and "loss at" in done.stdout and target in done.stderr, done.stderr


@pytest.mark.slow
def test_ctrl_c_prints_what_is_found_so_far(tmp_path: Path) -> None:
    arguments = ("--sizes", "64,128", "--max-rate", 2000, "--seconds", 0.5, "--settle", 0.05)
    with started(command(PROGRAM, *arguments)) as process:
        first = first_line(process)
        output, errors = interrupt(process)
    assert process.returncode == 0 and not errors and first.startswith("   64 bytes: throughput ")
    assert output.endswith("the test ended early: these are the results so far\n")


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "words"), [
    (("--sizes", "64,99999"), "64 to 9728 bytes"), (("--max-rate", "fast"), "such as 10%"),
    (("--tests", "jitter"), "throughput,latency,loss"), (("--both",), "-i PORT -o PORT"),
])  # fmt: skip
def test_bad_arguments_are_refused_with_what_to_type(arguments: tuple[str, ...], words: str) -> None:
    done = run_example(PROGRAM, *arguments)
    assert done.returncode == 2 and words in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_command_of_the_readme_runs_as_printed() -> None:
    printed = re.search(
        r"^\.venv/bin/python (examples/throughput_test\.py -i emulated.*)$", (EXAMPLES / "README.md").read_text(), re.M
    )
    assert printed
    done = subprocess.run(
        [sys.executable, *shlex.split(printed[1], comments=True)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "64 bytes: throughput" in done.stdout, done.stderr
