"""The copy of the labs for students that gaps.py --class writes, as a student and a teacher use it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lab_verdicts import LABS, ROOT

sys.path.insert(0, str(LABS))

from gaps import numbers, open_gaps

SOLUTIONS = sorted(LABS.glob("[0-9][0-9]_*/solution.*"))


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".package")},
        cwd=program.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def write_copy(folder: Path, *labs: str) -> Path:
    done = run(LABS / "gaps.py", "--class", folder, *labs)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return folder


def filled(solution: str) -> list[str]:
    """What stands in each gap of a solution, as one text."""
    return [
        "\n".join(line for line in solution.splitlines() if line not in open_gaps(solution, [gap]).splitlines())
        for gap in numbers(solution)
    ]


def texts(folder: Path) -> dict[str, str]:
    """The programs in the folder. Pages and hints may show single lines."""
    return {str(file): file.read_text() for file in folder.rglob("*") if file.suffix in (".py", ".c", ".h")}


@pytest.mark.slow
def test_a_copy_has_no_solution_and_its_checker_judges_an_empty_lab_and_a_solved_one(tmp_path: Path) -> None:
    copy = write_copy(tmp_path / "class")
    found = texts(copy)
    for file in SOLUTIONS:
        for lines in filled(file.read_text()):
            assert lines and [name for name, text in found.items() if lines in text] == []
    page = (copy / "README.md").read_text()
    assert not list(copy.rglob("solution*")) and "For teachers" not in page and "a solution" not in page
    assert [name for name, text in found.items() if "LMS=3" in text or "RDBAH[queue]" in text] == []

    empty = run(copy / "check.py", "01")
    assert empty.returncode == 1 and "Still open in the file: GAP 1, 2, 3, 4, 5." in empty.stdout
    assert f"A hint: python {copy / 'check.py'} 01 --hint 1" in empty.stdout

    shutil.copy(next(LABS.glob("03_*/solution.py")), next(copy.glob("03_*")) / "lab.py")  # it uses encoded steps
    solved = run(copy / "check.py", "03")
    assert solved.returncode == 0 and "passed" in solved.stdout, solved.stdout


@pytest.mark.slow
@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda file: file.parent.name[:2])
def test_every_solution_passes_in_a_copy(solution: Path, tmp_path: Path) -> None:
    copy = write_copy(tmp_path / "class", solution.parent.name[:2])
    shutil.copy(solution, copy / solution.parent.name / f"lab{solution.suffix}")
    done = run(copy / "check.py", solution.parent.name[:2], "--time", "40")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_teacher_checks_the_copies_that_students_hand_in(tmp_path: Path) -> None:
    """ada hands in her whole copy, bob the folder of a lab alone, whose link to course.py then leads nowhere."""
    given = write_copy(tmp_path / "class" / "ada", "01", "03")
    shutil.copytree(next(given.glob("03_*")), tmp_path / "class" / "bob" / next(given.glob("03_*")).name, symlinks=True)
    for folder in (tmp_path / "class").glob("*/03_*"):
        shutil.copy(LABS / folder.name / "solution.py", folder / "lab.py")
    done = run(LABS / "check.py", tmp_path / "class")
    rows = [line.split() for line in done.stdout.splitlines()[1:3]]
    assert rows == [["ada", "not", "yet", "-", "passed", *"-" * 9], ["bob", "-", "-", "passed", *"-" * 9]], done.stdout


@pytest.mark.slow
def test_links_and_commands_in_a_copy_lead_to_files_of_the_copy(tmp_path: Path) -> None:
    copy = write_copy(tmp_path / "class")
    for page in copy.rglob("*.md"):
        text = page.read_text()
        links = [link.partition("#")[0] for link in re.findall(r"\]\((?!http)([^)]+)\)", text)]
        assert [link for link in links if not (page.parent / link).exists()] == [], page
        assert "examples/" not in text


@pytest.mark.slow
def test_a_copy_of_the_first_labs_has_none_of_the_later_labs_steps(tmp_path: Path) -> None:
    copy = write_copy(tmp_path / "class", "01", "02")
    assert sorted(file.name[:2] for file in copy.glob("[0-9][0-9]_*")) == ["01", "02"]
    course = (copy / "course.py").read_text()
    assert "def open_nic" in course and "b64decode(" not in course and "bring_up" not in course
    done = run(copy / "check.py", "05")
    assert done.returncode == 2 and "05 is neither a lab (01, 02) nor the folder of a class" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "sentence"), [
    (("--class", "{full}"), "is not an empty folder. Name a new one"),
    (("--class", "{new}", "13"), "there is no lab 13"),
    (("01",), "add --class FOLDER"),
])  # fmt: skip
def test_a_wrong_call_of_gaps_is_answered_with_a_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = run(LABS / "gaps.py", *(each.format(full=tmp_path, new=tmp_path / "new") for each in arguments))
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_and_a_full_disk_are_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(LABS / "gaps.py", "--class", tmp_path / "file" / "class")
    assert done.returncode == 1 and re.fullmatch(r".*gaps\.py: .*/file/class: Not a directory\n", done.stderr)
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(LABS / "gaps.py"), "--class", str(tmp_path / "class"), "01"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package")}
        status = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert status.returncode == 1 and "No space left on device" in status.stderr
    assert status.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_copy_makes_no_copy(tmp_path: Path) -> None:
    done = run(write_copy(tmp_path / "class", "01") / "gaps.py", "--class", tmp_path / "other")
    assert done.returncode == 2 and "is a copy for students" in done.stderr
