"""Loading the C library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ixrings.rings.hotloop import group


def test_a_python_without_a_gil_is_refused_with_the_command_to_type() -> None:
    """Simulated, because such a Python may not be installed."""
    script = (
        "import sys; sys._is_gil_enabled = lambda: False\nfrom ixrings.rings.hotloop import LibraryError, group\n"
        "try: group()\nexcept LibraryError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert "Run: python -X gil=1" in done.stdout, done.stderr


def test_the_environment_limits_how_many_slots_a_lane_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXRINGS_GROUP", "0")
    assert group() == 0
    monkeypatch.setenv("IXRINGS_GROUP", "16")
    with pytest.raises(ValueError, match="IXRINGS_GROUP is 16; choose 0, 4 or 8"):
        group()
