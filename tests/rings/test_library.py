"""The C library as Python loads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ixrings.rings.hotloop import group


def test_a_python_without_a_gil_is_refused_with_what_to_type() -> None:
    """Pretended, for such a Python may not be there: the sentence is what matters."""
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


def test_how_many_slots_go_at_once_may_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXRINGS_GROUP", "0")
    assert group() == 0
    monkeypatch.setenv("IXRINGS_GROUP", "16")
    with pytest.raises(ValueError, match="IXRINGS_GROUP=16: it is 0, 4 or 8"):
        group()
