"""What one run of a script left: the record of the NIC, the frames on the wire, what was printed; and how a lab asks about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ixrings.hw.emulator import Violation

from .nic import Access, Descriptor, Pace
from .sandbox import Run


@dataclass(frozen=True)
class Setup:
    """The world a script meets, new for each run. frames: what the wire has for it. expects_faults: DMA faults are the lab's subject.

    awaited: register writes are answered one by one, so that the record's times are the script's; else they are posted.
    """

    mac: bytes
    frames: tuple[bytes, ...] = ()
    link_up_s: float = 0.0
    pace: Pace | None = None
    expects_faults: bool = False
    awaited: bool = False


@dataclass
class Evidence:
    """opened: whether the script took the NIC. sent: frames that left the NIC. played: how many of setup.frames reached it.

    received: frames by queue (QPRC). record: the first accesses (KEPT of them), accesses: the count of all.
    not_left: why there is no packets.pcap or trace.txt beside the script.
    """

    setup: Setup
    run: Run
    opened: bool
    record: list[Access] = field(default_factory=list)
    accesses: int = 0
    sent: list[bytes] = field(default_factory=list)
    played: int = 0
    received: list[int] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    not_left: str = ""

    @property
    def faults(self) -> list[Violation]:
        return [violation for violation in self.violations if violation.is_dma_fault]

    @property
    def complaints(self) -> list[Violation]:
        """Violations that are not what the lab is about."""
        return [
            violation for violation in self.violations if not (violation.is_dma_fault and self.setup.expects_faults)
        ]

    def writes(self, name: str, index: int = 0) -> list[Access]:
        return [access for access in self.record if access.write and access.name == name and access.index == index]

    def reads(self, name: str, index: int = 0) -> list[Access]:
        return [access for access in self.record if not access.write and access.name == name and access.index == index]

    def last(self, name: str, index: int = 0) -> int:
        """The value last written; 0 when there was none."""
        written = self.writes(name, index)
        return written[-1].value if written else 0

    def set_at(self, name: str, index: int = 0, **fields: int) -> Access | None:
        """The first write of these numbers."""
        return next((access for access in self.writes(name, index) if _has(access, fields)), None)

    def seen_at(self, name: str, index: int = 0, **fields: int) -> Access | None:
        """The first read that showed these numbers."""
        return next((access for access in self.reads(name, index) if _has(access, fields)), None)

    def position(self, access: Access) -> int:
        return next(i for i, other in enumerate(self.record) if other is access)

    def given(self, name: str, queue: int = 0) -> list[Descriptor]:
        """Descriptors that writes of this tail handed over, in order."""
        return [descriptor for access in self.writes(name, queue) for descriptor in access.given]

    def says(self, text: str) -> bool:
        """Whether the script printed this, be it in capitals."""
        return text.lower() in self.run.output.lower()

    def numbers(self, label: str) -> dict[str, float]:
        """`label: frames=10 looks=3` as {"frames": 10.0, "looks": 3.0}; empty when no line begins so."""
        for line in self.run.output.splitlines():
            if line.startswith(f"{label}:"):
                return dict(_pairs(line.partition(":")[2]))
        return {}


def _has(access: Access, fields: dict[str, int]) -> bool:
    return all(getattr(access.word, name) == number for name, number in fields.items())


def _pairs(text: str) -> Iterator[tuple[str, float]]:
    for piece in text.split():
        name, _, number = piece.partition("=")
        try:
            yield name, float(number)
        except ValueError:
            continue


Step = Callable[[Evidence], "str | None"]


@dataclass(frozen=True)
class Lab:
    """number: "03". setup: the world of one run. steps: asked in order; the first that answers says what is missing."""

    number: str
    setup: Callable[[Random], Setup]
    steps: tuple[Step, ...]

    @property
    def folder(self) -> Path:
        """Where its text, its script with gaps, its solution and its hints are."""
        return next(Path(__file__).resolve().parent.parent.glob(f"{self.number}_*"))
