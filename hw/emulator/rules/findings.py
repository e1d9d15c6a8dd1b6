"""What the software 82599 notices: a datasheet rule, a Violation of it, and what is to be done about one.

The rules themselves stand in rules/, a file a chapter. Two kinds: `@rule` is a function that looks at a register access before it is
carried out and answers with what is wrong, in words; `Found` is what the C engine notices in descriptors and memory, by number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ixrings.hw.errors import DeviceError

if TYPE_CHECKING:
    from .access import Access

IOMMU = "IOMMU"  # in place of a section: the fault is not the 82599's to see
NO_REGISTER = ""  # in place of a register's name: an offset that has none


class Severity(Enum):
    """An error makes the device misbehave; a warning is what drivers are known to get away with."""

    ERROR = "error"
    WARNING = "warning"


ERROR, WARNING = Severity.ERROR, Severity.WARNING


class Policy(Enum):
    """What a NIC does about a broken rule, warnings too. DMA faults are recorded always."""

    RAISE = "raise"  # RuleBroken, from the register access that broke it, or from the next one or the next sync
    RECORD = "record"  # in `nic.violations`
    IGNORE = "ignore"


@dataclass(frozen=True)
class Found:
    """What the engine reports as finding `number` (nic.h), in words: of queue, first and second."""

    number: int
    register: str
    text: str


@dataclass(frozen=True)
class Rule:
    """What a driver has to do (`sentence`), where it is written, and how it is noticed that it did not.

    check: answers with what is wrong about an access, or None. writes, reads: the registers it looks at; "*" is all.
    unmaps: it looks at memory that the device loses. found: what the engine notices.
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
    """Makes a rule, called like it, of a function that checks an access."""
    return lambda check: Rule(check.__name__, section, severity, sentence, check, writes, reads, unmaps, found)


@dataclass(frozen=True)
class Violation:
    """A broken rule: where (`RDT[0]`), the queue it concerns (or the register's index), the values, and what happened in words."""

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
    """A rule was broken and the NIC's policy is to raise; the access was carried out all the same."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation
