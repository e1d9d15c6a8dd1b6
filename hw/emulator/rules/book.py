"""The 82599 datasheet's rules for a driver, one file per chapter; README.md lists them.

A rule is a function with `@rule`, or a `Rule` whose findings the C engine reports. To add a rule, write it in its
chapter. tests/hw/emulator/test_rules.py then asks for a case that keeps and breaks it, and for a new README.md.
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
    virtual_functions,
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
    virtual_functions,
    memory,
)
ANY = "*"


def rules_of(chapter: ModuleType) -> list[Rule]:
    return [entry for entry in vars(chapter).values() if isinstance(entry, Rule)]


@dataclass(frozen=True)
class Book:
    """All rules. writes, reads: by register name. found: by the engine's number."""

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
            {found.kind: (rule, found) for rule in rules for found in rule.found},
        )

    def on_write(self, register: str) -> tuple[Rule, ...]:
        return self.writes.get(register) or self.writes[ANY]

    def on_read(self, register: str) -> tuple[Rule, ...]:
        return self.reads.get(register, ())
