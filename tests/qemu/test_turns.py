"""CI runs a part of the guests each day: no guest is forgotten, and no name in the table is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.qemu.lab.guest import PROJECT
from tests.qemu.turns import DAYS, TURN, is_of

pytestmark = pytest.mark.slow


def scenarios(turn: str) -> list[str]:
    """The scenarios of these days, as test_dma_guest[group-transmit-True]; those of all days for ""."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "qemu", "tests/qemu"],
        env={**os.environ, TURN: turn},
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.removeprefix("tests/qemu/") for line in done.stdout.splitlines() if "::" in line]
    return [line.partition(".py::")[0] + line[line.find("[") :] * ("[" in line) for line in lines]


def test_two_days_run_every_scenario_and_each_day_leaves_some_out() -> None:
    every, even, odd = (set(scenarios(turn)) for turn in ("", "even", "odd"))
    assert even | odd == every and even != every != odd
    assert [guest for guest in DAYS if not any(is_of(name, guest) for name in every)] == []


def test_a_wrong_turn_is_refused() -> None:
    with pytest.raises(AssertionError, match=f"{TURN} is 'tuesday'; it may be even or odd"):
        scenarios("tuesday")
