"""The severity of the emulator's rules. Only this file depends on how the emulator stores its rules."""

from __future__ import annotations

from ixrings.hw.emulator import Violation


def is_error(violation: Violation) -> bool:
    """Whether the violation fails the lab. The other violations are habits that real NICs are known to tolerate."""
    rule = getattr(violation, "rule", None)  # a violation without a rule counts as an error
    return rule is None or rule.severity.value == "error"
