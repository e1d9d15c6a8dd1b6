"""The evidence of one run: the NIC's record, the frames on the wire, what the script printed. A lab is a list of
questions about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ixrings.hw.emulator import Violation

from .nic import Pace
from .record import Access, Descriptor
from .sandbox import Run


@dataclass(frozen=True)
class Setup:
    """What a script runs against, different in each run.

    frames: sent to the NIC. link_up_s: time that the link needs to come up. pace: how fast the NIC works (None: at full
    speed). expects_faults: DMA faults are the lab's subject. awaited: each register write is answered before the script
    continues, so the record has the script's times; otherwise writes are posted. answers: what the peer of lab 11 sends
    back for a frame. neighbour: the address of VF 0 in lab 12.
    """

    mac: bytes
    frames: tuple[bytes, ...] = ()
    link_up_s: float = 0.0
    pace: Pace | None = None
    expects_faults: bool = False
    awaited: bool = False
    answers: dict[bytes, bytes] = field(default_factory=dict)
    neighbour: bytes = b""


@dataclass
class Traffic:
    """What the peer of lab 11 saw. sent: frames of the judged program, with times. answered: answers sent to it.
    neighbours: frames of the other program that came as they were sent; changed: that came otherwise."""

    sent: list[tuple[float, bytes]] = field(default_factory=list)
    answered: list[tuple[float, bytes]] = field(default_factory=list)
    neighbours: int = 0
    changed: int = 0


@dataclass
class Told:
    """The daemon's log in lab 11. broken: each broken rule of the judged program's rings, with the number of the other
    program's frames that had come until then."""

    lines: list[str] = field(default_factory=list)
    broken: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Command:
    """What the script asked the PF's administrator to do in lab 12, and what had happened until then: accesses: to the
    VF. requests: of the VF by mailbox. sent: frames that the NIC let out of it. spoofed: frames that it dropped."""

    text: str
    accesses: int
    requests: int
    sent: int
    spoofed: int


@dataclass
class Pools:
    """The PF's side of lab 12. addresses: of VF 0 and VF 1. requests: words of each request of VF 1, and of the answer.
    spoofed: frames that the NIC dropped. neighbour: frames that VF 0 got."""

    addresses: tuple[bytes, ...] = ()
    commands: list[Command] = field(default_factory=list)
    requests: list[tuple[list[int], list[int]]] = field(default_factory=list)
    spoofed: int = 0
    neighbour: list[bytes] = field(default_factory=list)


@dataclass
class Evidence:
    """What one run left.

    opened: whether the script opened the NIC. record: the first KEPT accesses; accesses: the number of all.
    sent: frames that left the NIC. played: the number of setup.frames that reached it. received: frames by queue
    (QPRC). not_saved: why packets.pcap and trace.txt are not beside the script, or "". Of lab 11, told: by the daemon;
    traffic: what the peer saw; goes_on: the other program's traffic after the run. Of lab 12, pools: the PF's side.
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
    not_saved: str = ""
    told: Told = field(default_factory=Told)
    traffic: Traffic = field(default_factory=Traffic)
    goes_on: bool = True
    pools: Pools = field(default_factory=Pools)

    @property
    def faults(self) -> list[Violation]:
        return [violation for violation in self.violations if violation.is_dma_fault]

    @property
    def complaints(self) -> list[Violation]:
        """The violations, except DMA faults that the lab expects."""
        return [
            violation for violation in self.violations if not (violation.is_dma_fault and self.setup.expects_faults)
        ]

    def writes(self, name: str, index: int = 0) -> list[Access]:
        return [access for access in self.record if access.write and access.name == name and access.index == index]

    def reads(self, name: str, index: int = 0) -> list[Access]:
        return [access for access in self.record if not access.write and access.name == name and access.index == index]

    def last(self, name: str, index: int = 0) -> int:
        """The value written last; 0 when the register was never written."""
        written = self.writes(name, index)
        return written[-1].value if written else 0

    def instead(self, name: str, index: int) -> str:
        """What was written in place of a register that was not: " (TDBAL[1] was written)", or ""."""
        others = [other for other in self.record if other.write and other.name == name and other.index != index]
        twin = {"T": "R", "R": "T"}.get(name[0], "") + name[1:]
        if not others and name.startswith(("TD", "RD", "TX", "RX")) and not self.set_at(f"{twin[0]}XDCTL", ENABLE=1):
            others = self.writes(twin, index)  # the queues of this side are not in use
        return f" ({others[-1].label} was written)" if others else ""

    def set_at(self, name: str, index: int = 0, **fields: int) -> Access | None:
        """The first write in which the fields have these values."""
        return next((access for access in self.writes(name, index) if has_fields(access, fields)), None)

    def seen_at(self, name: str, index: int = 0, **fields: int) -> Access | None:
        """The first read in which the fields have these values."""
        return next((access for access in self.reads(name, index) if has_fields(access, fields)), None)

    def position(self, access: Access) -> int:
        """The access's index in the record."""
        return next(i for i, other in enumerate(self.record) if other is access)

    def given(self, name: str, queue: int = 0) -> list[Descriptor]:
        """The descriptors that writes of this tail register gave to the NIC, in order."""
        return [descriptor for access in self.writes(name, queue) for descriptor in access.given]

    def printed(self, text: str) -> bool:
        """Whether the script printed this text, in any mix of upper and lower case."""
        return text.lower() in self.run.output.lower()

    def numbers(self, label: str) -> dict[str, float]:
        """The line `label: frames=10 looks=3` as {"frames": 10.0, "looks": 3.0}; {} if the script did not print it."""
        for line in self.run.output.splitlines():
            if line.startswith(f"{label}:"):
                return dict(number_pairs(line.partition(":")[2]))
        return {}


def has_fields(access: Access, fields: dict[str, int]) -> bool:
    return all(getattr(access.word, name) == number for name, number in fields.items())


def number_pairs(text: str) -> Iterator[tuple[str, float]]:
    for piece in text.split():
        name, _, number = piece.partition("=")
        try:
            yield name, float(number)
        except ValueError:
            continue


Step = Callable[[Evidence], "str | None"]


@dataclass(frozen=True)
class Lab:
    """number: "03". setup: of a run. steps: questions in order; the first answer says what is missing. file: the
    student's. on_vf: it runs on a virtual function."""

    number: str
    setup: Callable[[Random], Setup]
    steps: tuple[Step, ...]
    file: str = "lab.py"
    on_vf: bool = False

    @property
    def folder(self) -> Path:
        """The folder with the lab's README.md, file, solution and hints.md."""
        return next(Path(__file__).resolve().parent.parent.glob(f"{self.number}_*"))

    @property
    def is_here(self) -> bool:
        """Whether the lab's folder exists."""
        return any(Path(__file__).resolve().parent.parent.glob(f"{self.number}_*"))
