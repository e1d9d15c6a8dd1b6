"""Errors of rings and their memory."""

from __future__ import annotations

from .rules import Rule


class RingError(Exception):
    """A rule of the ring is broken. Nothing was moved; a sync has reset the ring to the driver's indices.

    rule: the Rule. ring: the ring's name. values: "value", "low", "high" and, if one slot is concerned, "slot".
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
    """The region cannot be made or is too small, or has no interface at an offset. The text says what to do."""


class LibraryError(Exception):
    """The C library is missing or has another version. The text says what to type."""
