"""Loading the C library."""

from __future__ import annotations

import pytest

from ixrings.rings.queue import group


def test_the_environment_limits_how_many_slots_a_lane_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXRINGS_GROUP", "0")
    assert group() == 0
    monkeypatch.setenv("IXRINGS_GROUP", "16")
    with pytest.raises(ValueError, match="IXRINGS_GROUP is 16; choose 0, 4 or 8"):
        group()
