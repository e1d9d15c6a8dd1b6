"""Port names: which NIC, reached how, and which of its rings.

    0000:03:00.0   vfio:0000:03:00.0   vfio-noiommu:0000:03:00.0   uio:0000:03:00.0   vfio-user:SOCKET   emulated[:WIRE]

with netmap's suffixes `[-k][/flags][@options]`: ring pair k only; R receive rings only, T transmit rings only, x exclusive
(every port here is); options of the emulated NIC: paced, link=SECONDS, rules=raise|record|ignore, fault=NAME[+N]. Suffixes may always stand behind the kind word
(`emulated-0/R@paced:pcap=a-1.pcap`); at the end they may stand behind loop, sink, source and a PCI address, where nothing can
be mistaken for them. What follows cable=, pcap=, tap= and vfio-user: is taken literally, file names have every character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from .errors import PortNameError

BDF = re.compile(r"(?:(?P<domain>[0-9a-fA-F]{4}):)?(?P<rest>[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])")
HEAD = re.compile(r"(?P<kind>emulated|vfio-user|vfio-noiommu|vfio|uio)(?P<suffix>[-/@][^:]*)?(?P<colon>:)?")
SUFFIX = re.compile(r"(?:-(?P<queue>[0-9]+))?(?:/(?P<flags>[^@]*))?(?:@(?P<options>.*))?")
FIXED_WIRE = re.compile(r"(?:loop|sink|source(?:=[0-9]+)?)(?![a-z=0-9])")
POLICIES = ("raise", "record", "ignore")  # hw.emulator.Policy, which comes with a C library
NAMED_WIRES = ("cable=", "pcap=", "tap=")
GRAMMAR = (
    "a port is emulated[:WIRE], a PCI address such as 0000:03:00.0, vfio:ADDRESS, uio:ADDRESS or vfio-user:SOCKET, "
    "with [-queue][/flags][@options]"
)
WIRES = "a wire is loop, sink, source[=LENGTH], cable=NAME, pcap=IN[,OUT] or tap=INTERFACE"


class Kind(Enum):
    """How the NIC is reached."""

    EMULATED = "emulated"
    VFIO = "vfio"
    UIO = "uio"
    VFIO_NOIOMMU = "vfio-noiommu"
    VFIO_USER = "vfio-user"
    BDF = "PCI address"


@dataclass(frozen=True)
class PortName:
    """A parsed name. target: the wire, the PCI address with its domain, or the socket."""

    text: str
    kind: Kind
    target: str
    queue: int | None = None
    flags: frozenset[str] = frozenset()
    paced: bool = False
    link_up_s: float = 0.0
    rules: str = "record"
    fault: str = ""

    @property
    def transmits(self) -> bool:
        return "R" not in self.flags

    @property
    def receives(self) -> bool:
        return "T" not in self.flags


def parse_port_name(text: str) -> PortName:
    """Raises PortNameError."""
    address = BDF.match(text)
    if address:
        return _suffixed(PortName(text, Kind.BDF, _address(address)), text[address.end() :])
    head = HEAD.match(text)
    if not head or (not head["colon"] and head.end() != len(text)):
        raise PortNameError(f"no port is called {text!r}: {GRAMMAR}")
    name = _suffixed(PortName(text, Kind(head["kind"]), ""), head["suffix"] or "")
    rest = text[head.end() :]
    if name.kind is Kind.EMULATED:
        return _emulated(name, rest if head["colon"] else "loop")
    if name.kind is Kind.VFIO_USER:
        if not rest:
            raise PortNameError(f"{text!r} names no socket: write vfio-user:/run/nic.sock")
        return replace(name, target=rest)
    address = BDF.match(rest)
    if not address:
        raise PortNameError(
            f"{text!r}: {rest!r} is no PCI address; write {name.kind.value}:0000:03:00.0 (`lspci -D -d 8086:` lists them)"
        )
    return _suffixed(replace(name, target=_address(address)), rest[address.end() :])


def pci_address(text: str) -> str:
    """The address with its domain, of `03:00.0` or `0000:03:00.0`. Raises PortNameError."""
    match = BDF.fullmatch(text)
    if not match:
        raise PortNameError(f"{text!r} is no PCI address; write it as 0000:03:00.0 (ixrings list shows them)")
    return _address(match)


def _address(match: re.Match[str]) -> str:
    return f"{match['domain'] or '0000'}:{match['rest']}".lower()


def _emulated(name: PortName, wire: str) -> PortName:
    if wire.startswith(NAMED_WIRES):
        if wire in NAMED_WIRES:
            raise PortNameError(f"{name.text!r}: {wire} needs a name behind it; {WIRES}")
        return replace(name, target=wire)
    fixed = FIXED_WIRE.match(wire)
    if not fixed:
        raise PortNameError(f"{name.text!r}: there is no wire {wire!r}; {WIRES}")
    return _suffixed(replace(name, target=fixed.group()), wire[fixed.end() :])


def _suffixed(name: PortName, suffix: str) -> PortName:
    """`name` with `[-k][/flags][@options]` applied."""
    parts = SUFFIX.fullmatch(suffix)
    if not parts:
        raise PortNameError(f"{name.text!r}: {suffix!r} is not [-queue][/flags][@options], such as -0/R@paced")
    if parts["queue"] is not None:
        if name.queue is not None:
            raise PortNameError(f"{name.text!r} names two queues; one -k is allowed")
        name = replace(name, queue=int(parts["queue"]))
    if parts["flags"] is not None:
        name = replace(name, flags=name.flags | _flags(name, parts["flags"]))
    if name.flags >= {"R", "T"}:
        raise PortNameError(f"{name.text!r}: R (receive only) and T (transmit only) leave no ring; write one of them")
    return _options(name, parts["options"]) if parts["options"] is not None else name


def _flags(name: PortName, letters: str) -> frozenset[str]:
    unknown = [letter for letter in letters if letter not in "RTx"]
    if unknown or not letters:
        raise PortNameError(
            f"{name.text!r}: flags are R (receive only), T (transmit only) and x (exclusive), not {letters!r}"
        )
    return frozenset(letters)


def _options(name: PortName, text: str) -> PortName:
    for option in text.split(","):
        key, _, value = option.partition("=")
        if (
            name.kind is not Kind.EMULATED
            or key not in ("paced", "link", "rules", "fault")
            or (key == "paced" and value)
        ):
            raise PortNameError(
                f"{name.text!r}: {option!r} is not an option; the emulated NIC has paced, link=SECONDS, rules=raise and fault=NAME, other ports none"
            )
        match key:
            case "paced":
                name = replace(name, paced=True)
            case "link":
                name = replace(name, link_up_s=_seconds(name, value))
            case "fault":
                name = replace(name, fault=value)
            case _:
                name = replace(name, rules=_policy(name, value))
    return name


def _policy(name: PortName, text: str) -> str:
    if text not in POLICIES:
        raise PortNameError(
            f"{name.text!r}: rules={text} is not one of {', '.join(POLICIES)}; write rules=raise to be stopped by a broken datasheet rule"
        )
    return text


def _seconds(name: PortName, text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text):
        raise PortNameError(
            f"{name.text!r}: link={text} is not a time; write link=2.5 for a link that needs 2.5 seconds"
        )
    return float(text)
