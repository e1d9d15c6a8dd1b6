"""A rule of the datasheet, a Violation of it, and the policy that says what happens then.

There are two kinds of rules. A function with `@rule` sees a register access before it is carried out, and returns what
is wrong with it as a sentence. A `Found` is a mistake in descriptors or memory that the C engine reports by number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ...errors import DeviceError
from ..engine.findings import FindingKind

if TYPE_CHECKING:
    from .access import Access

IOMMU = "IOMMU"  # in place of a section: an IOMMU detects it, not the 82599
NO_REGISTER = ""  # in place of a register's name: an offset without a register


class Severity(Enum):
    """Breaking an ERROR makes the device misbehave. Known drivers break a WARNING and work on real cards."""

    ERROR = "error"
    WARNING = "warning"


ERROR, WARNING = Severity.ERROR, Severity.WARNING


class Policy(Enum):
    """What a NIC does about a broken rule, also about a warning. Every policy records DMA faults."""

    RAISE = "raise"  # RuleBroken, from the register access that broke the rule, or from the next access or sync
    RECORD = "record"  # in `nic.violations`
    IGNORE = "ignore"


@dataclass(frozen=True)
class Found:
    """The engine's finding of this `kind`. register, text: templates with {queue}, {first} and {second}."""

    kind: FindingKind
    register: str
    text: str


@dataclass(frozen=True)
class Rule:
    """What a driver must do (`sentence`), the datasheet's `section`, and how a violation is detected.

    check: returns a sentence about what is wrong with an access, or None. writes, reads: names of the registers whose
    accesses it checks; "*" is all. unmaps: it checks the unmapping of DMA memory. found: what the engine reports.
    """

    name: str
    section: str
    severity: Severity
    sentence: str
    check: Callable[[Access], str | None] | None = None
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    unmaps: bool = False
    found: tuple[Found, ...] = ()

    @property
    def cite(self) -> str:
        return self.section if self.section == IOMMU else f"82599 {self.section}"


def rule(
    section: str,
    severity: Severity,
    sentence: str,
    *,
    writes: tuple[str, ...] = (),
    reads: tuple[str, ...] = (),
    unmaps: bool = False,
    found: tuple[Found, ...] = (),
) -> Callable[[Callable[[Access], str | None]], Rule]:
    """Turn a function that checks an access into a Rule with the function's name."""
    return lambda check: Rule(check.__name__, section, severity, sentence, check, writes, reads, unmaps, found)


@dataclass(frozen=True)
class Violation:
    """A broken rule. register: as in `RDT[0]`. queue: of a register access, its index. text: what happened."""

    rule: Rule
    register: str
    queue: int
    values: tuple[int, ...]
    text: str

    @property
    def is_dma_fault(self) -> bool:
        return self.rule.section == IOMMU

    def __str__(self) -> str:
        return f"{self.rule.severity.value}: {self.rule.sentence} ({self.rule.cite}). {self.text}"


class RuleBroken(DeviceError):
    """A rule was broken and the NIC has Policy.RAISE. The access was carried out nevertheless."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation
