"""examples/labs/check.py as students and teachers run it, also with scripts that do damage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ixrings.hw.capture.pcap import read_capture
from tests.support.lab_verdicts import LABS, ROOT

sys.path.insert(0, str(LABS))

from gaps import open_gaps

OPEN = """\
from course import open_nic
from ixrings.hw.registers import Registers
device = open_nic()
nic = Registers(device)
"""
STARTS_FIVE_PROCESSES = """\
import ctypes, os, time
libc = ctypes.CDLL(None)
for _ in range(5):
    if libc.fork() == 0:
        libc.setsid()
        time.sleep(600)
time.sleep(0.3)
"""


def check(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package")}
    return subprocess.run(
        [sys.executable, str(LABS / "check.py"), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def script(folder: Path, text: str) -> Path:
    file = folder / "lab.py"
    file.write_text(text, encoding="utf-8")
    return file


def solution(lab: str) -> Path:
    return next(LABS.glob(f"{lab}_*/solution.py"))


def named(name: str) -> str:
    """Python code that gives its process, and the processes that it starts, this name."""
    return f"import ctypes\nctypes.CDLL(None).prctl(15, b{name!r}, 0, 0, 0)\n"


def processes(name: str) -> list[str]:
    """The IDs of the processes with this name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() == name[:15]:
                found.append(process.name)
    return found


# ---- one lab ----


def test_a_run_says_that_the_lab_passed_and_saves_capture_and_trace(tmp_path: Path) -> None:
    done = check("03", script(tmp_path, solution("03").read_text()))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "| sent" in done.stdout and "Lab 03 send one frame: passed." in done.stdout
    (frame,) = read_capture(tmp_path / "packets.pcap")
    assert frame[12:26] == b"\x88\xb5Hello, wire!"
    trace = (tmp_path / "trace.txt").read_text()
    assert re.search(r"^ +\d+\.\d+ write TDT\[0\] 0x00000001$", trace, re.MULTILINE)


@pytest.mark.slow
def test_ixrings_trace_reads_the_trace(tmp_path: Path) -> None:
    check("01", script(tmp_path, solution("01").read_text()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package")}
    done = subprocess.run(
        [sys.executable, "-m", "ixrings", "trace", str(tmp_path / "trace.txt"), "--register", "EEC"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and not done.stderr
    assert re.search(r"read +EEC +0x\w+ +.*AUTO_RD=1", done.stdout)


def test_the_capture_has_received_frames_too(tmp_path: Path) -> None:
    done = check("04", script(tmp_path, solution("04").read_text()))
    (frame,) = read_capture(tmp_path / "packets.pcap")
    assert f"| {frame.hex()}" in done.stdout


def test_an_untouched_lab_lists_its_gaps_and_the_first_hint(tmp_path: Path) -> None:
    done = check("01", script(tmp_path, open_gaps(solution("01").read_text())))
    assert done.returncode == 1
    assert "not yet" in done.stdout and "GAP 1, 2, 3, 4, 5" in done.stdout and "--hint 1" in done.stdout


@pytest.mark.parametrize("lab", [f"{number:02}" for number in range(1, 13)])
def test_each_lab_has_at_least_two_hints(lab: str) -> None:
    hints = (next(LABS.glob(f"{lab}_*")) / "hints.md").read_text()
    assert len(re.findall(r"^## ", hints, re.MULTILINE)) >= 2


@pytest.mark.slow
def test_hints_are_shown_one_by_one() -> None:
    first, second = check("03", "--hint", 1), check("03", "--hint", 2)
    assert first.stdout.startswith("Hint 1 of ") and second.stdout.startswith("Hint 2 of ")
    assert check("03", "--hint", 99).returncode == 2


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("13",), "neither a lab"),
    (("1",), "check.py 01"),
    (("03", "/nowhere/lab.py"), "does not exist"),
    (("/tmp/no-such-class",), "neither a lab"),
    (("03", "--hint", "1", "--json"), "leave out --hint and --nic"),
])  # fmt: skip
def test_a_wrong_call_is_answered_with_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = check(*arguments)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_a_missing_nic_is_reported_in_a_sentence() -> None:
    done = check("01", solution("01"), "--nic", "0000:ff:1f.7")
    assert done.returncode == 1 and "0000:ff:1f.7" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_is_reported_as_json(tmp_path: Path) -> None:
    done = check("03", script(tmp_path, solution("03").read_text()), "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0 and "sent" in result["output"]
    assert (result["lab"], result["passed"], result["saved"]) == ("03", True, True)
    done = check("03", script(tmp_path, "1 / 0"), "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 1 and not result["passed"] and result["reason"]
    assert "division by zero" in result["explanation"]


def test_an_error_names_the_file_and_line_of_the_student(tmp_path: Path) -> None:
    done = check("03", script(tmp_path, "\n" + OPEN + "device.alloc_dma('much')\n"))
    assert "lab.py, line 6: device.alloc_dma('much')" in done.stdout and "course.py" not in done.stdout


# ---- a class ----


def make_class(folder: Path) -> None:
    """Two students: ada has solved two labs, bob has not started one."""
    for student, labs in {"ada": ("01", "03"), "bob": ("01",)}.items():
        for lab in labs:
            theirs = folder / student / solution(lab).parent.name
            theirs.mkdir(parents=True)
            text = solution(lab).read_text()
            script(theirs, text if student == "ada" else open_gaps(text))
    (folder / "notes").mkdir()


def test_a_class_is_shown_as_a_table(tmp_path: Path) -> None:
    make_class(tmp_path)
    done = check(tmp_path)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["student", *(f"{number:02}" for number in range(1, 13))]
    assert lines[1].split() == ["ada", "passed", "-", "passed", *["-"] * 9]
    assert lines[2].split() == ["bob", "not", "yet", *["-"] * 11]
    assert lines[4].startswith("bob 01: The script did not print which device it found.")
    assert (tmp_path / "ada" / solution("03").parent.name / "packets.pcap").exists()


@pytest.mark.slow
def test_a_class_is_reported_as_json(tmp_path: Path) -> None:
    make_class(tmp_path)
    done = check(tmp_path, "--json")
    assert done.returncode == 1, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["student"], row["lab"], row["passed"]) for row in rows] == [
        ("ada", "01", True),
        ("ada", "03", True),
        ("bob", "01", False),
    ]
    assert rows[0]["reason"] == "" and rows[2]["reason"].startswith("The script did not print which device it found.")


def test_a_folder_without_a_class_is_an_error(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert done.returncode == 2 and "STUDENT/NN_*/lab.py" in done.stderr


# ---- folders that cannot be written, processes, and ends ----


def test_a_script_beside_which_nothing_can_be_saved_is_still_judged(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").mkdir()
    done = check("01", script(tmp_path, ""))
    assert (done.returncode, done.stderr) == (1, "")
    assert "could not be written beside the file" in done.stdout


def test_a_link_in_a_students_folder_does_not_make_the_checker_overwrite_a_file(tmp_path: Path) -> None:
    grades = tmp_path / "grades"
    grades.write_text("ada 1")
    folder = tmp_path / "ada"
    folder.mkdir()
    for name in ("packets.pcap", "trace.txt"):
        (folder / name).symlink_to(grades)
    check("01", script(folder, ""))
    assert grades.read_text() == "ada 1"


@pytest.mark.slow
def test_the_same_script_runs_on_another_nic(tmp_path: Path) -> None:
    """--nic is meant for a real NIC; an emulated NIC in another process stands in for it."""
    socket = tmp_path / "nic"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package")}
    nic = subprocess.Popen(
        [sys.executable, "-m", "ixrings", "emulate", "--socket", str(socket), "--wire", "sink"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert nic.stdout is not None and "listens" in nic.stdout.readline()
        done = check("03", solution("03"), "--nic", f"vfio-user:{socket}")
    finally:
        nic.terminate()
        nic.communicate(timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sent\n", "")


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_checker_and_the_script(number: signal.Signals, tmp_path: Path) -> None:
    name = f"lab-{os.getpid()}-{int(number)}"
    file = script(tmp_path, named(name) + "import time\ntime.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package"), "TMPDIR": str(tmp_path)}
    checker = subprocess.Popen(
        [sys.executable, str(LABS / "check.py"), "01", str(file), "--time", "60"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 30
    while not processes(name) and time.monotonic() < end:
        time.sleep(0.01)
    checker.send_signal(number)
    _, errors = checker.communicate(timeout=30)
    assert (checker.returncode, errors) == (128 + number, "")
    assert processes(name) == []
    assert [file.name for file in tmp_path.iterdir()] == ["lab.py"]


def test_ctrl_c_during_the_imports_is_quiet() -> None:
    """numpy stands in for a slow import: it sends the signal."""
    code = f"""\
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv[0] = {str(LABS / "check.py")!r}
sys.path.insert(0, {str(LABS)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package")}
    done = subprocess.run(
        [sys.executable, "-c", code, "01"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_reader_that_leaves_ends_the_checker_quietly(tmp_path: Path) -> None:
    make_class(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package")}
    checker = subprocess.Popen(
        [sys.executable, str(LABS / "check.py"), str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert checker.stdout is not None and checker.stderr is not None
    checker.stdout.close()
    with checker.stderr as errors:
        assert errors.read() == ""
    assert checker.wait(timeout=60) == 1


def test_a_python_without_the_package_names_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(LABS / "check.py"), "01"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "has no module ixrings" in done.stderr and ".venv/bin/python examples/labs/check.py 01" in done.stderr


@pytest.mark.parametrize("lab", [f"{number:02}" for number in (1, 10)])
def test_a_lab_that_is_run_by_itself_names_the_command(lab: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package")}
    done = subprocess.run(
        [sys.executable, str(solution(lab))], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"Run: python examples/labs/check.py {lab}" in done.stderr


@pytest.mark.slow
def test_no_process_that_a_script_started_is_left(tmp_path: Path) -> None:
    name = f"lab-{os.getpid()}"
    check("01", script(tmp_path, named(name) + STARTS_FIVE_PROCESSES))
    assert processes(name) == []


@pytest.mark.slow
def test_the_length_of_a_trace_is_bounded(tmp_path: Path) -> None:
    check("02", script(tmp_path, OPEN + "while True: device.write32(0, 0)"), "--time", 3)
    trace = (tmp_path / "trace.txt").read_text().splitlines()
    assert len(trace) <= 50_002 and (len(trace) < 50_000 or re.fullmatch(r"# and \d+ more", trace[-1]))
