"""Port names: which NIC, how it is reached, and which of its rings.

    0000:03:00.0   vfio:0000:03:00.0   vfio-noiommu:0000:03:00.0   uio:0000:03:00.0   vfio-user:SOCKET   emulated[:WIRE]
    emulated-vf[N][:WIRE]    virtual function N (0 by default) of an emulated NIC
    netmap:NAME   valeBRIDGE:PORT      ports of `ixrings daemon`, by netmap's own grammar: netmap_names.py

with netmap's suffixes `[-k][/flags][@options]`:

    -k          only ring pair k
    /flags      R receive rings only, T transmit rings only, x exclusive (every port here is exclusive)
    @options    of the emulated NIC: paced, link=SECONDS, rules=raise|record|ignore, fault=NAME[+N], vfs=N
                of a NIC on vfio-pci: vf_token=UUID, for virtual functions whose PF is on vfio-pci too

Suffixes may follow the kind word (`emulated-0/R@paced:pcap=a-1.pcap`). They may also follow loop, sink, source and a
PCI address. The text after cable=, pcap=, tap= and vfio-user: is taken literally, because file names may contain any
character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from ixrings.hw.registers import QUEUES

from .errors import PortNameError
from .netmap_names import NetmapName, is_netmap_name, parse_netmap_name

BDF = re.compile(r"(?:(?P<domain>[0-9a-fA-F]{4,8}):)?(?P<rest>[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])")
HEAD = re.compile(
    r"(?P<kind>emulated-vf|emulated|vfio-user|vfio-noiommu|vfio|uio)(?P<vf>[0-9]*)(?P<suffix>[-/@][^:]*)?(?P<colon>:)?"
)
SUFFIX = re.compile(r"(?:-(?P<queue>[0-9]+))?(?:/(?P<flags>[^@]*))?(?:@(?P<options>.*))?")
FIXED_WIRE = re.compile(r"(?:loop(?:,[^-/@]*)?|(?:sink|source)(?:=[0-9]+)?)(?![a-z=0-9])")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LAST_VF = 62  # one of 64 pools stays with the PF
POLICIES = ("raise", "record", "ignore")  # as in hw.emulator.Policy, which needs a C library
NAMED_WIRES = ("cable=", "pcap=", "tap=")
GRAMMAR = (
    "a port is emulated[:WIRE], emulated-vf[NUMBER][:WIRE], a PCI address such as 0000:03:00.0, vfio:ADDRESS, "
    "uio:ADDRESS, vfio-user:SOCKET or netmap:NAME, with [-queue][/flags][@options]"
)
WIRES = "a wire is loop[,delay=NS], sink[=NS], source[=LENGTH], cable=NAME[,delay=NS], pcap=IN[,OUT] or tap=INTERFACE"


class Kind(Enum):
    """How the NIC is reached."""

    EMULATED = "emulated"
    EMULATED_VF = "emulated-vf"
    VFIO = "vfio"
    UIO = "uio"
    VFIO_NOIOMMU = "vfio-noiommu"
    VFIO_USER = "vfio-user"
    BDF = "PCI address"
    NETMAP = "netmap"


@dataclass(frozen=True)
class PortName:
    """A parsed name. target: the wire, the PCI address with its domain, the socket, or the daemon's port.

    netmap: what netmap's grammar adds, for a port of the daemon. vf: the number of an emulated virtual function. vfs:
    how many an emulated NIC has. vf_token: in lower case, "" without one. Other attributes: as in the grammar.
    """

    text: str
    kind: Kind
    target: str
    queue: int | None = None
    flags: frozenset[str] = frozenset()
    paced: bool = False
    link_up_s: float = 0.0
    rules: str = "record"
    fault: str = ""
    netmap: NetmapName | None = None
    vf: int = 0
    vfs: int = 0
    vf_token: str = ""

    @property
    def is_emulated(self) -> bool:
        return self.kind in (Kind.EMULATED, Kind.EMULATED_VF)

    @property
    def transmits(self) -> bool:
        return "R" not in self.flags

    @property
    def receives(self) -> bool:
        return "T" not in self.flags


def parse_port_name(text: str) -> PortName:
    """Parse a port name. Raises PortNameError."""
    if is_netmap_name(text):
        found = parse_netmap_name(text)
        return PortName(text, Kind.NETMAP, found.port, found.queue, found.flags, netmap=found)
    address = BDF.match(text)
    if address:
        return with_suffix(PortName(text, Kind.BDF, full_address(address)), text[address.end() :])
    head = HEAD.match(text)
    if (
        not head
        or (not head["colon"] and head.end() != len(text))
        or (head["vf"] and head["kind"] != Kind.EMULATED_VF.value)
    ):
        raise PortNameError(f"{text!r} is not a port name: {GRAMMAR}")
    name = with_suffix(PortName(text, Kind(head["kind"]), "", vf=vf_number(text, head["vf"])), head["suffix"] or "")
    rest = text[head.end() :]
    if name.is_emulated:
        return emulated_name(name, rest if head["colon"] else "loop")
    if name.kind is Kind.VFIO_USER:
        if not rest:
            raise PortNameError(f"{text!r} has no socket; write vfio-user:/run/nic.sock")
        return replace(name, target=rest)
    address = BDF.match(rest)
    if not address:
        raise PortNameError(
            f"{text!r}: {rest!r} is not a PCI address; write {name.kind.value}:0000:03:00.0 (`lspci -D -d 8086:` lists "
            "them)"
        )
    return with_suffix(replace(name, target=full_address(address)), rest[address.end() :])


def vf_number(text: str, digits: str) -> int:
    """Raises PortNameError."""
    if digits and (len(digits) > 2 or int(digits) > LAST_VF):
        raise PortNameError(f"{text!r}: an 82599 has the virtual functions 0 to {LAST_VF}")
    return int(digits or 0)


def pci_address(text: str) -> str:
    """`0000:03:00.0` for `03:00.0` or `0000:03:00.0`. Raises PortNameError."""
    match = BDF.fullmatch(text)
    if not match:
        raise PortNameError(f"{text!r} is not a PCI address; write it as 0000:03:00.0 (ixrings list shows them)")
    return full_address(match)


def full_address(match: re.Match[str]) -> str:
    return f"{match['domain'] or '0000'}:{match['rest']}".lower()


def emulated_name(name: PortName, wire: str) -> PortName:
    if wire.startswith(NAMED_WIRES):
        if wire in NAMED_WIRES:
            raise PortNameError(f"{name.text!r}: {wire} needs a name after it; {WIRES}")
        return replace(name, target=wire)
    fixed = FIXED_WIRE.match(wire)
    if not fixed:
        raise PortNameError(f"{name.text!r}: {wire!r} is not a wire; {WIRES}")
    return with_suffix(replace(name, target=fixed.group()), wire[fixed.end() :])


def with_suffix(name: PortName, suffix: str) -> PortName:
    """`name` with `[-k][/flags][@options]` applied."""
    parts = SUFFIX.fullmatch(suffix)
    if not parts:
        raise PortNameError(f"{name.text!r}: {suffix!r} is not [-queue][/flags][@options], such as -0/R@paced")
    if parts["queue"] is not None:
        if name.queue is not None:
            raise PortNameError(f"{name.text!r} names two queues; one -k is allowed")
        if len(parts["queue"]) > 3 or int(parts["queue"]) >= QUEUES:
            raise PortNameError(
                f"{name.text!r}: -{parts['queue']} is not a queue; the 82599 has queues 0 to {QUEUES - 1}"
            )
        name = replace(name, queue=int(parts["queue"]))
    if parts["flags"] is not None:
        name = replace(name, flags=name.flags | parse_flags(name, parts["flags"]))
    if name.flags >= {"R", "T"}:
        raise PortNameError(
            f"{name.text!r}: R (receive only) and T (transmit only) together leave no ring; write one of them"
        )
    return with_options(name, parts["options"]) if parts["options"] is not None else name


def parse_flags(name: PortName, letters: str) -> frozenset[str]:
    unknown = [letter for letter in letters if letter not in "RTx"]
    if unknown or not letters:
        raise PortNameError(
            f"{name.text!r}: flags are R (receive only), T (transmit only) and x (exclusive), not {letters!r}"
        )
    return frozenset(letters)


def with_options(name: PortName, text: str) -> PortName:
    for option in text.split(","):
        key, _, value = option.partition("=")
        if key == "vf_token" and name.kind in (Kind.BDF, Kind.VFIO, Kind.VFIO_NOIOMMU):
            name = replace(name, vf_token=parse_token(name, value))
            continue
        if (
            not name.is_emulated
            or key not in ("paced", "link", "rules", "fault", "vfs")
            or (key == "paced" and value)
            or (key == "vfs" and name.kind is not Kind.EMULATED)
        ):
            raise PortNameError(
                f"{name.text!r}: {option!r} is not an option; the emulated NIC has paced, link=SECONDS, rules=raise, "
                "fault=NAME and vfs=NUMBER, a NIC on vfio-pci has vf_token=UUID, other ports have none"
            )
        match key:
            case "paced":
                name = replace(name, paced=True)
            case "link":
                name = replace(name, link_up_s=parse_seconds(name, value))
            case "fault":
                name = replace(name, fault=value)
            case "vfs":
                name = replace(name, vfs=parse_vfs(name, value))
            case _:
                name = replace(name, rules=parse_policy(name, value))
    return name


def parse_token(name: PortName, text: str) -> str:
    if not UUID.fullmatch(text.lower()):
        raise PortNameError(
            f"{name.text!r}: vf_token={text} is not a UUID, such as 00112233-4455-6677-8899-aabbccddeeff; a new one is "
            "in /proc/sys/kernel/random/uuid"
        )
    return text.lower()


def parse_policy(name: PortName, text: str) -> str:
    if text not in POLICIES:
        raise PortNameError(
            f"{name.text!r}: rules={text} is not one of {', '.join(POLICIES)}; write rules=raise to get an error when "
            "a datasheet rule is broken"
        )
    return text


def parse_vfs(name: PortName, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > LAST_VF + 1:
        raise PortNameError(
            f"{name.text!r}: vfs={text} is not a number of virtual functions; choose 0 to {LAST_VF + 1}"
        )
    return int(text)


def parse_seconds(name: PortName, text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text):
        raise PortNameError(
            f"{name.text!r}: link={text} is not a time; write link=2.5 for a link that trains for 2.5 seconds"
        )
    return float(text)
