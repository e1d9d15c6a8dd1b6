"""What the labs' checker keeps scripts from: the evidence, the checker, other students' files, memory, processes.

Each test checks a class in which `attacker` comes before `honest`, with the rights of different users.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ixrings.hw.capture.pcap import read_capture
from tests.examples.test_labs_check import check as run_checker
from tests.examples.test_labs_check import named, processes
from tests.support.lab_verdicts import LABS, ROOT

NOBODY = 65534
NO_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--securebits=+noroot,+noroot_locked"]
CALLERS = {  # the rights with which the checker runs: the command before it
    "this user": [],
    "another user": ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"],
    "root of a user namespace": ["unshare", "--user", "--map-root-user"],
    "no namespaces": [
        *("unshare", "--user", "--map-root-user", "sh", "-c"),
        'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"',
        "sh",
        *NO_RIGHTS,
    ],
}
WRONG_FRAME = (
    next(LABS.glob("03_*/solution.py")).read_text(encoding="utf-8").replace('b"Hello, wire!"', 'b"Nothing here"')
)
FORGES = """
import os, struct, sys, time
right = (frame[:14] + b"Hello, wire!").ljust(60, b"\\0")
forged = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 1, 0, 60, 60) + right
socket = sys.argv[1].split(":", 1)[1]
places = [os.path.join(os.path.dirname(socket), name) for name in ("out.pcap", "in.pcap", "packets.pcap")]
for pid in [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
    try:
        places += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        pass
for place in places:
    try:
        if not os.path.exists(place) or "pcap" in os.readlink(place):
            open(place, "r+b").write(forged)
            print("forged", place)
    except OSError:
        pass
"""
ATTACKS = """
import ctypes, os, shutil, sys
def attempt(what, *arguments):
    try:
        what(*arguments)
    except OSError:
        pass
libc = ctypes.CDLL(None)
parent = os.getppid()
for number in range(1, 32):
    attempt(os.kill, parent, number)
libc.ptrace(16, parent, 0, 0)
attempt(lambda: open(f"/proc/{parent}/mem", "r+b"))
folder = os.path.dirname(sys.argv[1].split(":", 1)[1])
attempt(os.remove, folder + "/nic")
attempt(lambda: open(folder + "/out.pcap", "w"))
attempt(shutil.rmtree, folder)
other = "../../honest/03_send_one_frame"
attempt(lambda: open(other + "/lab.py", "w").write("print('sent')"))
attempt(os.rename, "lab.py", other + "/lab.py")
attempt(os.symlink, "/etc/passwd", other + "/trace.txt")
attempt(os.mkdir, other + "/packets.pcap")
attempt(shutil.rmtree, "..")
"""
FILLS_MEMORY = """
import os
files = [os.memfd_create("x") for _ in range(30)]
for fd in files:
    for _ in range(50):
        os.write(fd, bytes(1 << 20))
print("took 1500 MB")
"""
FORKS = """
import ctypes
while True:
    ctypes.CDLL(None).fork()
"""


@pytest.fixture
def students() -> Iterator[Path]:
    """The folder of a class: `honest` has solved lab 03. Other users may write to it."""
    folder = Path(tempfile.mkdtemp(prefix="ixrings-class-"))
    add(folder, "honest", next(LABS.glob("03_*/solution.py")).read_text(encoding="utf-8"))
    yield folder
    shutil.rmtree(folder)


def add(folder: Path, student: str, text: str) -> Path:
    theirs = folder / student / "03_send_one_frame"
    theirs.mkdir(parents=True)
    (theirs / "lab.py").write_text(text, encoding="utf-8")
    if os.geteuid() == 0:
        for path in (folder, theirs.parent, theirs, theirs / "lab.py"):
            path.chmod(0o777)
    return theirs


def check(folder: Path, caller: str = "this user", *options: str) -> tuple[dict[str, Any], str]:
    """The rows of the class by student, and the checker's remarks."""
    command = [*CALLERS[caller], sys.executable]
    if caller != "this user":
        allowed = os.geteuid() == 0 and subprocess.run([*command, "-c", "import numpy"], capture_output=True)
        if not allowed or allowed.returncode:
            pytest.skip(f"the checker cannot be run with the rights of {caller} here")
    done = subprocess.run(
        [*command, str(LABS / "check.py"), str(folder), "--json", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".package")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout, done.stderr
    return {row["student"]: row for row in json.loads(done.stdout)}, done.stderr


@pytest.mark.parametrize(
    "caller", [pytest.param(each, marks=[] if each == "this user" else pytest.mark.slow) for each in CALLERS]
)
def test_a_script_cannot_forge_the_recording(caller: str, students: Path) -> None:
    theirs = add(students, "attacker", WRONG_FRAME + FORGES)
    rows, _ = check(students, caller)
    assert "in its payload" in rows["attacker"]["reason"] and rows["honest"]["passed"]
    if (theirs / "packets.pcap").exists():
        (frame,) = read_capture(theirs / "packets.pcap")
        assert b"Nothing here" in frame


@pytest.mark.parametrize("caller", [
    "this user",
    pytest.param("another user", marks=pytest.mark.slow),
    pytest.param("root of a user namespace", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_script_that_attacks_the_checker_and_other_students_is_judged_and_so_are_they(
    caller: str, students: Path
) -> None:
    theirs = add(students, "attacker", WRONG_FRAME + ATTACKS)
    before = (students / "honest/03_send_one_frame/lab.py").read_bytes()
    rows, _ = check(students, caller)
    assert "in its payload" in rows["attacker"]["reason"] and rows["honest"]["passed"]
    assert (students / "honest/03_send_one_frame/lab.py").read_bytes() == before
    assert {file.name for file in theirs.iterdir()} == {"lab.py", "packets.pcap", "trace.txt"}
    assert not (students / "honest/03_send_one_frame/trace.txt").is_symlink()


@pytest.mark.slow
def test_memory_in_files_is_bounded_or_the_checker_says_that_it_is_not(students: Path) -> None:
    add(students, "attacker", FILLS_MEMORY)
    rows, remarks = check(students)
    assert not rows["attacker"]["passed"] and rows["honest"]["passed"]
    if "filling memory with files" not in remarks:
        done = run_checker("03", str(students / "attacker/03_send_one_frame/lab.py"))
        assert "took more than 512 MB of memory" in done.stdout and "took 1500 MB" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("caller", ["this user", "another user"])
def test_nothing_is_left_of_a_script_that_forks_without_end(caller: str, students: Path) -> None:
    name = f"lab-{os.getpid()}"
    add(students, "attacker", named(name) + FORKS)
    rows, _ = check(students, caller, "--time", "3")
    assert not rows["attacker"]["passed"] and rows["honest"]["passed"]
    assert processes(name) == []


@pytest.mark.slow
def test_the_checker_says_in_one_sentence_what_this_machine_does_not_hold(students: Path) -> None:
    _, remarks = check(students, "no namespaces")
    assert remarks.startswith("check.py: on this machine a script is not kept from ")
    assert "stopping the checker" in remarks and remarks.count("\n") == 1


def test_folders_that_cannot_be_judged_cost_their_students_a_sentence(students: Path) -> None:
    """A directory in place of a file stands in for everything that a judge does not expect."""
    (students / "copier").mkdir()
    (students / "copier/03_send_one_frame").symlink_to("../honest/03_send_one_frame")
    theirs = add(students, "attacker", "")
    (theirs / "lab.py").unlink()
    (theirs / "lab.py").mkdir()
    rows, _ = check(students)
    assert rows["honest"]["passed"]
    assert rows["attacker"]["reason"].startswith("This file could not be judged: ")
    assert "leads out of the student's folder" in rows["copier"]["reason"]
