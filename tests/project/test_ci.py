"""CI's second try: what passed only then is named, and what fails twice or too often is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.slow

FAILS = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_it(number):
    tries = Path(f"tries-{{number}}")
    tries.touch()
    with tries.open("a") as file:
        file.write("x")
    assert tries.stat().st_size > {times}

def test_another():
    with open("another", "a") as file:
        file.write("x")
"""


def twice(folder: Path, tests: int, times: int, *options: str) -> tuple[int, int]:
    """Run `tests` tests that fail so many `times`. Returns the exit status and the number of lines with FLAKY."""
    (folder / "test_time.py").write_text(FAILS.format(tests=tests, times=times))
    done = subprocess.run(
        [sys.executable, ROOT / ".ci/twice.py", *options, "-q", "."],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.count("FLAKY: test_time.py::test_it[")


@pytest.mark.parametrize(
    ("tests", "times", "status", "tries", "flaky"),
    [(1, 0, 0, 1, 0), (3, 1, 0, 2, 3), (3, 2, 1, 2, 0), (4, 1, 1, 1, 0)],
    ids=["all pass", "three fail once", "three fail twice", "four fail"],
)
def test_at_most_three_tests_are_tried_again_and_named_if_they_pass_then(
    tests: int, times: int, status: int, tries: int, flaky: int, tmp_path: Path
) -> None:
    assert twice(tmp_path, tests, times) == (status, flaky)
    assert (tmp_path / "tries-0").stat().st_size == tries
    assert (tmp_path / "another").stat().st_size == 1


def test_a_whole_file_is_tried_again(tmp_path: Path) -> None:
    assert twice(tmp_path, 4, 1, "--files") == (0, 4)
    assert (tmp_path / "tries-0").stat().st_size == (tmp_path / "another").stat().st_size == 2


def test_files_are_not_tried_again_when_more_than_three_tests_of_several_failed(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_it(): assert False")
    assert twice(tmp_path, 3, 1, "--files") == (1, 0)
    assert (tmp_path / "another").stat().st_size == 1
