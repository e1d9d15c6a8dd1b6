"""The tests run wherever they are started: in the background, under nohup."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.programs import ENVIRONMENT, ROOT

IN_THE_BACKGROUND = ["sh", "-c", 'trap "" INT HUP TERM; exec "$@"', "sh", sys.executable]
CHILD = """
import signal, subprocess
from tests.support.signals import stop_ignoring_signals
stop_ignoring_signals()
signal.raise_signal(signal.SIGHUP)  # still ignored here
subprocess.run(["grep", "SigIgn", "/proc/self/status"], check=True)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("Ctrl-C")
"""


def test_programs_that_a_test_starts_have_the_default_signals() -> None:
    command = [*IN_THE_BACKGROUND, "-c", CHILD]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["SigIgn:", "0000000000000000", "Ctrl-C"], done.stderr


@pytest.mark.slow
def test_tests_that_press_ctrl_c_pass_in_the_background() -> None:
    tests = ["tests/driver/test_waiting.py", "tests/driver/test_bad_input.py", "tests/driver/cli/test_ring.py"]
    command = [*IN_THE_BACKGROUND, "-m", "pytest", "-q", "-k", "ctrl_c", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-2000:]
