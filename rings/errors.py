"""What can go wrong with rings and their memory."""

from __future__ import annotations

from .rules import Rule


class RingError(Exception):
    """A ring rule was broken. Nothing was moved; after a sync the ring stands where the driver has it.

    rule: the Rule. ring: the ring's name. values: "value", "low", "high" and, where one is concerned, "slot".
    also: errors of other rings in the same sync.
    """

    def __init__(
        self, rule: Rule, ring: str, *, value: int, low: int, high: int, slot: int = 0, note: str = "",
        also: tuple[RingError, ...] = (),
    ) -> None:  # fmt: skip
        self.rule = rule
        self.ring = ring
        self.values = {"value": value, "low": low, "high": high, "slot": slot}
        self.note = note
        self.also = also
        super().__init__(f"{ring}: {rule.text.format(**self.values)} ({rule.name}).{note}")


class RegionError(Exception):
    """The region cannot be made, is too small, or does not hold what was looked for. The text says what to do."""


class LibraryError(Exception):
    """The C library is missing or of another version; the text says what to type."""
