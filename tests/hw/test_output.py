"""Outputs do not overwrite inputs or files of another kind, whichever program writes them (hw/output.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.driver.cli import main
from ixrings.hw.capture.pcap import CaptureError, CaptureWriter, read_capture
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import WireError
from ixrings.hw.trace.device import TracedDevice
from tests.support.programs import ENVIRONMENT, run_example

FRAME = bytes.fromhex("020000000002 020000000001 88b5") + bytes(46)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    file = tmp_path / "mine.pcap"
    with CaptureWriter(file) as writer:
        for number in range(100):
            writer.write(FRAME, number)
    return file


def same(file: Path) -> Path:
    return file


def other_spelling(file: Path) -> Path:
    return file.parent / ".." / file.parent.name / file.name


def symbolic_link(file: Path) -> Path:
    link = file.with_name("symbolic.pcap")
    link.symlink_to(file)
    return link


def hard_link(file: Path) -> Path:
    link = file.with_name("hard.pcap")
    os.link(file, link)
    return link


@pytest.mark.parametrize("name", [same, other_spelling, symbolic_link, hard_link])
def test_a_wire_does_not_record_over_the_capture_that_it_plays(name: Callable[[Path], Path], capture: Path) -> None:
    before = capture.read_bytes()
    with pytest.raises(WireError, match="reads or writes this file now; give another name"):
        open_port(f"emulated:pcap={capture},{name(capture)}")
    assert capture.read_bytes() == before


@pytest.mark.slow
def test_no_second_output_goes_to_a_file_that_is_in_use(capture: Path, tmp_path: Path) -> None:
    before, recording = capture.read_bytes(), tmp_path / "out.pcap"
    with open_port(f"emulated:pcap={capture},{recording}", promiscuous=True):
        for file in (capture, recording):
            with pytest.raises(CaptureError, match="reads or writes this file now"):
                CaptureWriter(file)
        done = run_example("capture", "-w", recording, "-c", 1)  # another program
        assert done.returncode == 1 and "reads or writes this file now" in done.stderr
        assert len(read_capture(recording)) == 0  # but it may be read
    done = run_example("capture", "-i", f"emulated:pcap={capture}", "-w", capture, "-c", 1)
    assert done.returncode == 1 and "reads or writes this file now" in done.stderr
    assert capture.read_bytes() == before
    CaptureWriter(capture).close()
    assert len(read_capture(capture)) == 0  # it was free again, and a capture replaces a capture


def by_capture(file: Path) -> None:
    CaptureWriter(file)


def by_wire(file: Path) -> None:
    open_port(f"emulated:pcap=,{file}")


def by_trace(file: Path) -> None:
    open_port("emulated", trace=str(file))


def by_page(file: Path) -> None:
    assert main(["ring", "emulated", "--html", str(file)]) == 1


def by_server(file: Path) -> None:
    command = [sys.executable, "-m", "ixrings", "emulate", "--socket", f"{file}.sock", "--trace", str(file)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "rm " in done.stderr


@pytest.mark.parametrize("write", [by_capture, by_wire, by_trace, by_page, by_server])
def test_a_file_of_another_kind_is_not_overwritten(
    write: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("\\documentclass{article}")
    try:
        write(thesis)
    except (CaptureError, WireError, OSError) as error:
        print(error, file=sys.stderr)
    words = capsys.readouterr().err
    if write is not by_server:  # its words are on the standard error of another process
        assert "it exists and is not " in words and "5c 64 6f 63" in words and f"rm {thesis}" in words
    assert thesis.read_text() == "\\documentclass{article}"


def test_outputs_of_the_same_kind_are_replaced(tmp_path: Path) -> None:
    trace, page = tmp_path / "port.trace", tmp_path / "ring.html"
    for _ in range(2):
        with Emulated82599("sink") as nic, TracedDevice.recording(nic, trace) as traced:
            traced.read32(8)
        assert main(["ring", "emulated", "--html", str(page)]) == 0
    assert trace.read_text().count("# ixrings trace") == 1
    empty = tmp_path / "empty"
    empty.touch()
    CaptureWriter(empty).close()
    CaptureWriter("/dev/null").close()
    assert len(read_capture(empty)) == 0
