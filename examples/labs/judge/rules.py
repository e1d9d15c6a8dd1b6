"""What the labs need to know of the emulator's rules; nothing else here depends on how it keeps them."""

from __future__ import annotations

from ixrings.hw.emulator import Violation


def is_error(violation: Violation) -> bool:
    """Whether a driver must not do it; else it is what drivers are known to get away with."""
    rule = getattr(violation, "rule", None)  # an emulator whose rules have no severity means all of them
    return rule is None or rule.severity.value == "error"
