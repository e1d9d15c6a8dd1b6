"""The 82599 datasheet's rules for a driver, a file a chapter: `python -m ixrings.hw.emulator.rules` prints the list (README.md).

A rule is a function behind `@rule`, or a `Rule` of what the C engine finds. A new one is its lines in a chapter; tests/hw/emulator/test_rules.py
then asks for its case, and for a new print of the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType

from . import (
    coalescing,
    dca,
    descriptors,
    filters,
    flow_control,
    flow_director,
    initialization,
    memory,
    receive,
    reset,
    rings,
    shared,
    transmit,
    virtualization,
)
from .findings import Found, Rule

CHAPTERS = (
    reset,
    initialization,
    shared,
    flow_control,
    rings,
    receive,
    coalescing,
    filters,
    flow_director,
    transmit,
    descriptors,
    dca,
    virtualization,
    memory,
)
ANY = "*"


def rules_of(chapter: ModuleType) -> list[Rule]:
    return [entry for entry in vars(chapter).values() if isinstance(entry, Rule)]


@dataclass(frozen=True)
class Book:
    """All rules, by what sets them off."""

    rules: tuple[Rule, ...]
    writes: dict[str, tuple[Rule, ...]]
    reads: dict[str, tuple[Rule, ...]]
    on_unmap: tuple[Rule, ...]
    found: dict[int, tuple[Rule, Found]]

    @staticmethod
    @cache
    def of_all_chapters() -> Book:
        rules = tuple(rule for chapter in CHAPTERS for rule in rules_of(chapter))
        writes = {name for rule in rules for name in rule.writes}
        reads = {name for rule in rules for name in rule.reads}
        return Book(
            rules,
            {name: tuple(rule for rule in rules if {name, ANY} & set(rule.writes)) for name in writes},
            {name: tuple(rule for rule in rules if {name, ANY} & set(rule.reads)) for name in reads},
            tuple(rule for rule in rules if rule.unmaps),
            {found.number: (rule, found) for rule in rules for found in rule.found},
        )

    def on_write(self, register: str) -> tuple[Rule, ...]:
        return self.writes.get(register) or self.writes[ANY]

    def on_read(self, register: str) -> tuple[Rule, ...]:
        return self.reads.get(register, ())
