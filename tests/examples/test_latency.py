"""examples/latency.py as a user runs it: it finds known delays, and tells apart what was lost, late or not stamped."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from ixrings import Offload, open_port, open_ports
from ixrings.hw.emulator import Emulated82599, Fault
from tests.support.programs import EXAMPLES, command, interrupt, run_example, started, wait_for

RESOLUTION_NS = 6.4


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLES)
    yield importlib.import_module("latency")
    for name in ("latency", "probes", "charts", "meter", "packets"):
        sys.modules.pop(name, None)


def measured(*arguments: object) -> dict[str, Any]:
    # A loaded machine may take longer than the default timeout for a probe.
    done = run_example("latency", *arguments, "--timeout", 20, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def near(found: dict[str, Any], delay_ns: float, steps: float = 1) -> None:
    """All latencies are the delay. steps: errors of a cycle that may add up."""
    assert found["probes"] == found["stamped"] and not found["lost"] + found["late"] + found["unstamped"]
    for value in found["latency_ns"].values():
        assert abs(value - delay_ns) <= steps * RESOLUTION_NS


@pytest.mark.parametrize(
    "delay_ns", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.slow), 123_456]
)
def test_the_delay_of_a_looped_port_is_found(delay_ns: int) -> None:
    near(measured("-i", f"emulated:loop,delay={delay_ns}", "-n", 20), delay_ns)


@pytest.mark.slow
@pytest.mark.parametrize("udp", [(), ("--udp",)])
def test_the_delay_between_two_ports_is_found_under_load(udp: tuple[str, ...]) -> None:
    found = measured(
        "-i", "emulated:cable=a,delay=5000", "-i", "emulated:cable=a", "-n", 100, "-R", 200_000, "-l", 1000, *udp
    )
    near(found, 5000, steps=2)
    load = found["load"]
    assert load["sent"] > 0 and load["sent"] == load["received"] + load["missed"]
    assert found["clocks"]["method"] == "probes both ways"
    assert abs(found["clocks"]["drift_ppm"] or 0) < 1
    assert 0 < found["clocks"]["drift_uncertainty_ppm"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-80.0, 35.0])
def test_offset_and_drift_of_two_clocks_are_measured(latency: ModuleType, ppm: float) -> None:
    with open_ports("emulated:cable=drift,delay=700", "emulated:cable=drift", tx_queues=2, rx_queues=2) as (one, two):
        for port in (one, two):
            latency.prepare(port)
        two.clock.adjust(ppm)
        two.clock.set(one.clock.now() + 10**9)
        measurement = latency.Measurement(one, two, latency.Load(one, two, 0, 60), 1.0, False)
        measurement.run(100, 0, 0.005)
        result = measurement.result()
    assert result.drift_ppm == pytest.approx(two_ppm(ppm), abs=0.2)
    assert result.offset.ns == pytest.approx(10**9, abs=10**6)
    assert max(abs(result.ns - 700)) <= 3 * RESOLUTION_NS


def two_ppm(ppm: float) -> float:
    """The rate after rounding to steps of TIMINCA, of 0.075 ppm."""
    nominal = round(6.4 * 2**21)
    return (round(nominal * (1 + ppm / 1e6)) / nominal - 1) * 1e6


@pytest.mark.slow
def test_probes_that_do_not_arrive_are_lost_and_the_program_says_what_is_needed() -> None:
    done = run_example("latency", "-i", "emulated:sink", "-n", 2, "--timeout", "0.02")
    assert done.returncode == 1
    assert done.stdout.startswith("2 probes: 0 measured, 2 lost, 0 late, 0 without a stamp")
    assert "The far end must return frames to 01:1b:19:00:00:00" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_probes_that_a_fault_takes_are_lost_and_the_next_ones_are_measured(latency: ModuleType) -> None:
    with Emulated82599() as nic, open_port(nic, tx_queues=2, rx_queues=2) as port:
        latency.prepare(port)
        way = latency.Way(port, port, lambda: None, 0.05)
        nic.inject(Fault.RECEIVE_WRITE_BACK)
        assert not way.cross().arrived and not way.cross().arrived
        nic.mend(Fault.RECEIVE_WRITE_BACK)
        assert (way.sent, way.lost, way.late, way.unstamped) == (2, 2, 0, 0)
        way = latency.Way(port, port, lambda: None, 20.0)
        crossed = way.cross()
        assert crossed.came == crossed.left and way.lost == 0


@pytest.mark.slow
def test_probes_that_come_after_their_time_are_late_and_not_lost() -> None:
    done = run_example("latency", "-i", "emulated:loop,delay=80000000", "-n", 5, "--timeout", "0.04", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["late"] + found["lost"] == 5 and found["late"] >= 3 and found["latency_ns"] is None


@pytest.mark.slow
def test_probes_that_the_receiving_nic_does_not_stamp_are_told_apart(latency: ModuleType) -> None:
    with open_ports("emulated:cable=taken", "emulated:cable=taken", tx_queues=2, rx_queues=2) as (one, two):
        for port in (one, two):
            latency.prepare(port)
        way = latency.Way(one, two, lambda: None, 1.0)
        two.nic.TSYNCRXCTL.write(EN=0)
        crossed = way.cross()
        assert crossed.arrived and crossed.left is not None and crossed.came is None
        assert (way.unstamped, way.lost, way.late) == (1, 0, 0)


@pytest.mark.slow
def test_a_stamp_that_nobody_read_is_not_taken_for_the_next_probes(latency: ModuleType) -> None:
    with open_ports("emulated:cable=unread,delay=900", "emulated:cable=unread", tx_queues=2, rx_queues=2) as ports:
        for port in ports:
            latency.prepare(port)
        ports[0].send(
            [importlib.import_module("probes").probe_frame(10**6, ports[0])], ring=1, offload=Offload(timestamp=True)
        )
        ports[0].flush()
        list(ports[1].recv(0.1))
        ways = [latency.Way(*ports, lambda: None, 1.0), latency.Way(*reversed(ports), lambda: None, 1.0)]
        there, back = ways[0].cross(), ways[1].cross()
        assert abs((there.came - there.left + back.came - back.left) / 2 - 900) <= RESOLUTION_NS


@pytest.mark.slow
def test_a_path_in_one_direction_is_measured_by_reading_both_clocks(latency: ModuleType) -> None:
    with open_ports("emulated:cable=half", "emulated:cable=half", tx_queues=2, rx_queues=2) as (one, two):
        for port in (one, two):
            latency.prepare(port)
        there, back = latency.Way(one, two, lambda: None, 1.0), latency.Way(one, two, lambda: None, 0.02)
        back.receiver = one  # nothing that is sent by `one` comes back to it
        two.clock.step(5 * 10**9)
        offset = importlib.import_module("probes").clock_offset(there, back)
        truth = importlib.import_module("probes").clock_offset(there, latency.Way(two, one, lambda: None, 1.0))
    assert offset.method == "reading both clocks" and offset.uncertainty_ns > RESOLUTION_NS
    assert abs(offset.ns - truth.ns) <= offset.uncertainty_ns + truth.uncertainty_ns


@pytest.mark.slow
def test_the_histogram_is_drawn_as_svg(tmp_path: Path) -> None:
    file = tmp_path / "latency.svg"
    done = run_example("latency", "-i", "emulated:loop,delay=1000", "-n", 20, "--svg", file)
    assert done.returncode == 0 and "latency in ns: min" in done.stdout and "#####" in done.stdout
    root = ElementTree.parse(file).getroot()
    assert root.tag.endswith("svg")
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert any(text.startswith("20 probes, median ") for text in texts)


@pytest.mark.slow
def test_the_lines_of_the_page_measure_what_they_configure() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\S+ examples/latency\.py (.*)$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        delay = re.search(r"delay=(\d+)", line)
        assert delay
        near(measured(*line.split()), int(delay[1]), steps=3)


@pytest.mark.slow
def test_ctrl_c_gives_the_results_so_far(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with started(command("latency", "-i", "emulated:loop", "-t", 600, "--trace", trace)) as process:
        wait_for(lambda: trace.exists() and trace.read_text().count("TXSTMPH") > 2, "no probe was sent")
        out, err = interrupt(process)
    assert (process.returncode, err) == (0, "") and re.match(r"[1-9]\d* probes: ", out)


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "says"), [
    (("-i", "emulated-vf:loop", "-n", 1), "the IEEE 1588 clock belongs to the PF"),
    (("-R", 1, "-n", 1), "-R 1 is 0.000512 Mbit/s, and the NIC keeps rates from 10 Mbit/s on: -R 19531, or longer"),
    (("-i", "emulated", "-i", "emulated", "-i", "emulated"), "a path has one or two ports"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_words(arguments: tuple[object, ...], says: str) -> None:
    done = run_example("latency", *arguments)
    assert done.returncode != 0 and says in done.stderr and not done.stdout
