"""The ends of the labs' pages: commands to look with run as printed. A solved challenge passes, the plain lab and an
empty one are told what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lab_challenges import CHALLENGES, solved
from tests.support.lab_verdicts import LABS, Case, judged
from tests.support.programs import ENVIRONMENT

sys.path.insert(0, str(LABS))

from gaps import open_gaps

SOLUTIONS = {file.parent.name[:2]: file.read_text() for file in sorted(LABS.glob("[0-9][0-9]_*/solution.*"))}


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LABS / "check.py"), *map(str, arguments)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("lab", CHALLENGES)
def test_a_solved_challenge_passes_and_the_plain_lab_does_not(lab: str) -> None:
    right, plain, empty = judged([
        Case(lab, solved(lab, SOLUTIONS[lab]).replace("PATIENCE_S = 1", "PATIENCE_S = 20"), 40.0, challenge=True),
        Case(lab, SOLUTIONS[lab], challenge=True),
        Case(lab, open_gaps(SOLUTIONS[lab]), challenge=True),
    ])  # fmt: skip
    assert right.passed, right
    assert not plain.passed and plain.missing and not plain.ending
    assert not empty.passed and empty.reason and "could not be judged" not in empty.reason


def test_the_command_line_checks_a_challenge(tmp_path: Path) -> None:
    file = tmp_path / "challenge.py"
    file.write_text(SOLUTIONS["01"])
    done = check("01", "--challenge", file)
    assert done.returncode == 1 and done.stdout.count("MSI-X: vectors=N") == 1, done.stdout + done.stderr
    assert "The challenge of lab 01 find the nic: not yet." in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "sentence"), [
    (("01", "--challenge", "/nowhere/challenge.py"), "does not exist"),
    (("10", "--challenge"), "judges the challenges of the labs 01, 02, 03, 04, 05, 06, 08, 09."),
    (("01", "--challenge", "--hint", "1"), "leave out --hint and --nic"),
])  # fmt: skip
def test_a_wrong_call_is_answered_with_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = check(*arguments)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("lab", SOLUTIONS)
def test_each_page_has_a_time_and_says_how_its_challenge_is_checked(lab: str) -> None:
    folder = next(LABS.glob(f"{lab}_*"))
    text = (folder / "README.md").read_text()
    assert re.search(r"^\*\*Time\*\*: about \d+ (minutes|hours)\b", text, re.MULTILINE)
    assert "\n**Then look**" in text
    (challenge,) = re.findall(r"^\*\*Challenge\*\*(.*?)(?:\n\*\*|\n#|\Z)", text, re.MULTILINE | re.DOTALL)
    challenge = " ".join(challenge.split())
    assert (f"check.py {lab} --challenge" in challenge) == (lab in CHALLENGES)
    assert lab in CHALLENGES or "You know that it is right" in challenge


def to_look_with(lab: str) -> list[str]:
    """The commands that a page prints after "Then look"."""
    text = (next(LABS.glob(f"{lab}_*")) / "README.md").read_text()
    (look,) = re.findall(r"^\*\*Then look\*\*(.*?)(?:\n\*\*|\n#|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"`((?:ixrings|tshark|tcpdump) [^`]*)`", look)


@pytest.mark.slow
def test_the_commands_to_look_with_run_as_printed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ixrings"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ixrings "$@"\n')
    program.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    ran = 0
    for lab in (lab for lab in SOLUTIONS if lab != "11"):  # that page looks at a daemon
        folder = tmp_path / next(LABS.glob(f"{lab}_*")).name
        folder.mkdir()
        (folder / "lab.py").write_text(SOLUTIONS[lab])
        assert check(lab, folder / "lab.py").returncode == 0, lab
        assert to_look_with(lab), lab
        for command in to_look_with(lab):
            if shutil.which(command.split()[0], path=environment["PATH"]):
                done = subprocess.run(
                    command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
                )
                assert done.returncode == 0 and done.stdout, f"{lab}: {command}: {done.stderr}"
                ran += 1
    assert ran >= len(SOLUTIONS)
