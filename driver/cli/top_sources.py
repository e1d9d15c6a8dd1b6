"""What `ixrings top` looks at: a port of another program, of the daemon, of Linux, or one that it opens itself."""

from __future__ import annotations

import os
import select
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.discovery import FOR_PROGRAMS, ROOT, Function, look_up
from ixrings.hw.pci.nodes import holding, nodes_of
from ixrings.hw.pci.sysfs import text_of
from ixrings.rings import RingError, RxRing, TxRing
from ixrings.rings.layout import Word

from ..daemon.ask import ask_status
from ..daemon.log import printable
from ..errors import PortClosed, PortError
from ..names import Kind, parse_port_name
from ..netmap_port import Connection
from ..opening import PCI, open_port
from ..port import Port
from ..ring_memory import REGION
from ..statistics import PortStatistics, lost
from ..window import Seen, files_of, seen_ports
from .peek import LINK_S, held_by
from .processes import age_s, program
from .stats import kernel_counts

CRC = 4
YOUNG_S, LOOK_S = 5.0, 0.05
PLACES, SANE = ("queue", "ring_at", "slots", "at"), range(1 << 48)  # of a ring in what a program shows
COUNTS = range(1 << 64)
LINUX_LOSSES = ("rx_missed_errors", "rx_dropped", "rx_errors", "tx_dropped", "tx_errors")
NEVER_LOOKED = (
    "drops by reason, link and address: the program has not looked at its NIC since top began; it does so in a wait, "
    "and once in 4096 syncs"
)
NOT_FOR_VFS = "drops by reason: a virtual function has no counters of them"
NOT_FROM_LINUX = "rings: they are Linux's"


@dataclass(frozen=True)
class Fill:
    """A ring. filled: frames that wait for the program (RX) or to be sent (TX), of slots - 1; None: not known."""

    transmits: bool
    queue: int
    slots: int
    filled: int | None

    @property
    def name(self) -> str:
        return f"{'TX' if self.transmits else 'RX'} {self.queue}"


@dataclass(frozen=True)
class Traffic:
    """Frames and bytes so far, with CRC. wire_rx: frames and bytes on the cable, also those that were refused."""

    rx: tuple[int, int]
    tx: tuple[int, int]
    wire_rx: tuple[int, int] | None = None


@dataclass(frozen=True)
class Look:
    """A port at one moment. Times are of time.monotonic().

    counted_by: who counts `traffic`. drops: frames lost so far by reason, as of drops_at_s; None if they cannot be
    seen. users: programs of the daemon. not_seen: sentences.
    """

    at_s: float
    traffic: Traffic
    counted_by: str
    link: str = ""
    speed_mbps: int = 0
    mac: str = ""
    drops: Mapping[str, int] | None = None
    drops_at_s: float = 0.0
    fills: tuple[Fill, ...] = ()
    users: tuple[Mapping[str, Any], ...] = ()
    not_seen: tuple[str, ...] = ()


class Source(ABC):
    """name: for the table. what: who has the port, in words. pid: of that program, or None."""

    name: str
    what: str
    pid: int | None = None

    @abstractmethod
    def look(self) -> Look:
        """Raises PortClosed when the port has ended, and what else the way to it raises."""

    def fills(self) -> tuple[Fill, ...]:
        """Only the rings, if they can be seen without a question to anybody."""
        return ()

    def answered(self) -> bool:
        """Whether the next look has everything that it can have."""
        return True

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        pass


# ---- a port of another program ----


class ProgramPort(Source):
    """A port that a running program has open. Its file and its rings are only read (driver/window.py)."""

    def __init__(self, pid: int, seen: Seen) -> None:
        self.pid, self._seen, self._program = pid, seen, program(pid)
        facts = seen.facts()
        for ring in facts["rings"]:
            if not all(isinstance(ring[name], int) and ring[name] in SANE for name in PLACES):
                raise ValueError(f"a ring is {ring!r:.80}")
            if ring["slots"] < 2:
                raise ValueError("a ring of one slot holds nothing")
        self.name, self.what = printable(str(facts["name"])), f"open in {self._program}"
        self._layout: dict[str, dict[str, int]] = facts["layout"]
        self._rings: list[dict[str, Any]] = facts["rings"]
        self._region, shown = -1, facts["region"]
        self._process = os.pidfd_open(pid)  # readable when it has ended
        for path in files_of(pid, REGION):
            with suppress(OSError):
                if os.stat(path).st_ino == shown:
                    self._region = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        seen.watch()

    def close(self) -> None:
        self._seen.close()
        for fd in (self._region, self._process):
            if fd >= 0:
                os.close(fd)
        self._region = self._process = -1

    def answered(self) -> bool:
        return "stats" in self._facts()

    def _facts(self) -> dict[str, Any]:
        if select.select([self._process], [], [], 0)[0]:
            raise PortClosed(f"{self.name} is closed: {self._program} has ended")
        try:
            return self._seen.facts()
        except ValueError:
            raise PortClosed(f"{self.name} is closed: {self._program} has closed it") from None

    def look(self) -> Look:
        """Raises PortError, too, if the file has something else in it: another user's program may write anything."""
        try:
            return self._look()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise PortError(
                f"{self.name}: what {self._program} shows of it is not understood. Has it another version of ixrings?"
            ) from None

    def _look(self) -> Look:
        at_s = time.monotonic()
        traffic = self._traffic()
        facts = self._facts()
        not_seen = []
        if facts.get("shared"):
            not_seen.append(f"frames of queue {', '.join(map(str, facts['shared']))}: another process has it")
        if "stats" not in facts:
            return Look(at_s, traffic, "its rings", fills=self.fills(), not_seen=(*not_seen, NEVER_LOOKED))
        stats = PortStatistics(**{**facts["stats"], "rx": tuple(facts["stats"]["rx"])})
        drops = drops_of(stats)
        for number in (*(drops or {}).values(), facts["speed_mbps"]):
            if not (isinstance(number, int) and number in COUNTS):  # isinstance first: a range is searched for others
                raise ValueError(f"{number!r:.80} is not a count")
        if drops is None:
            not_seen.append(NOT_FOR_VFS)
        elif at_s - facts["at_s"] > 3:
            not_seen.append(
                f"drops, link and address of the last {at_s - facts['at_s']:.0f} s: the program has not looked at its "
                "NIC since"
            )
        return Look(
            at_s,
            traffic,
            "its rings",
            str(facts["link"]),
            int(facts["speed_mbps"]),
            str(facts["mac"]),
            drops,
            float(facts["at_s"]),
            self.fills(),
            not_seen=tuple(not_seen),
        )

    def _traffic(self) -> Traffic:
        """The hot loop counts frames and bytes without CRC."""
        frames, octets = {"tx": 0, "rx": 0}, {"tx": 0, "rx": 0}
        for ring in self._rings:
            side = ring["side"]
            packets, length = (self._seen.word(ring["at"] + self._layout[side][name]) for name in ("packets", "bytes"))
            frames[side] += packets
            octets[side] += length + CRC * packets
        return Traffic((frames["rx"], octets["rx"]), (frames["tx"], octets["tx"]))

    def fills(self) -> tuple[Fill, ...]:
        found = []
        for ring in self._rings:
            data = os.pread(self._region, 32, ring["ring_at"]) if self._region >= 0 else b""
            found.append(Fill(ring["side"] == "tx", ring["queue"], ring["slots"], filled_of(data, ring)))
        return tuple(found)


def filled_of(header: bytes, ring: Mapping[str, Any]) -> int | None:
    """By head and tail at the start of a netmap_ring, which any program that has the region may have overwritten."""
    if len(header) < 32:
        return None
    head, tail = (int.from_bytes(header[4 * word : 4 * word + 4], "little") for word in (Word.HEAD, Word.TAIL))
    slots = ring["slots"]
    if head >= slots or tail >= slots:
        return None
    owned = (tail - head) % slots
    return int(slots - 1 - owned if ring["side"] == "tx" else owned)


def drops_of(stats: PortStatistics) -> dict[str, int] | None:
    """None for a virtual function."""
    if "MPC" not in stats.port:
        return None
    counts = lost(stats.port, sum(queue["QPRDC"] for queue in (*stats.rx, stats.rx_others)))
    return {reason: int(count) for reason, count in counts.items()}


def traffic_of(stats: PortStatistics) -> Traffic:
    """By the NIC's counters."""
    counts, begin = stats.port, "" if "GPRC" in stats.port else "VF"
    wire = (counts["TPR"], counts["TOR"]) if "TPR" in counts else None
    return Traffic(
        (counts[f"{begin}GPRC"], counts[f"{begin}GORC"]), (counts[f"{begin}GPTC"], counts[f"{begin}GOTC"]), wire
    )


def shown_ports(pid: int, seen: list[Seen]) -> list[Source]:
    """Raises PortError if what the program shows is not understood."""
    found: list[Source] = []
    try:
        for port in seen:
            found.append(ProgramPort(pid, port))
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        for source in found:
            source.close()
        for port in seen:
            port.close()
        raise PortError(
            f"what {program(pid)} shows of its port is not understood. Has it another version of ixrings?"
        ) from None
    return found


def program_ports(pid: str) -> list[Source]:
    """Every port of that program. A program that was started just now gets time to open one. Raises PortError."""
    try:
        number = int(pid)
        while not (seen := seen_ports(number)) and age_s(number) < YOUNG_S:
            time.sleep(LOOK_S)
        regions = list(files_of(number, REGION))
    except (FileNotFoundError, ValueError, ProcessLookupError):
        raise PortError(f"there is no program with the number {pid}. To list yours: pgrep -fa python") from None
    except PermissionError:
        raise PortError(f"program {pid} is not yours. Run as its user, or as root (sudo)") from None
    if seen:
        return shown_ports(number, seen)
    if regions:
        raise PortError(
            f"program {pid} uses rings of another process, and has no NIC of its own. For a port of the daemon: "
            f"ixrings top netmap:ix0. For the rings alone: ixrings ring pid:{pid}"
        )
    raise PortError(f"program {pid} has no port open")


# ---- a port of the daemon ----


class DaemonPort(Source):
    """The daemon tells what its NIC counts, and what its rings hold."""

    def __init__(self, text: str, port: str) -> None:
        self.name, self._port = text, port
        self._connection = Connection(text)
        self.pid = self._connection.pid
        self.what = f"served by {program(self.pid)}"

    def close(self) -> None:
        self._connection.close()

    def look(self) -> Look:
        stats, link, mac = (self._connection.owner(self._port, call) for call in ("stats", "link", "mac"))
        counted = PortStatistics(**{**stats, "rx": tuple(stats["rx"]), "tx": tuple(stats["tx"])})
        at_s = time.monotonic()
        drops = drops_of(counted)
        status = self._status()
        return Look(
            at_s,
            traffic_of(counted),
            "the NIC",
            "up, " + f"{link['speed_mbps'] / 1000:g} Gbit/s" if link["up"] else f"down: {link['reason']}",
            link["speed_mbps"],
            mac,
            drops,
            at_s,
            self._fills(status),
            tuple(handle for handle in status["handles"] if handle["port"] == self._port),
            () if drops is not None else (NOT_FOR_VFS,),
        )

    def _status(self) -> dict[str, Any]:
        try:
            return ask_status(self._connection.path)
        except OSError as error:
            raise PortClosed(f"{self.name}: {error.strerror or error}") from None

    def _fills(self, status: Mapping[str, Any]) -> tuple[Fill, ...]:
        for port in status["ports"]:
            if port["name"] == self._port:
                return tuple(
                    Fill(side == "tx", queue, ring["slots"], ring.get("filled"))
                    for side in ("tx", "rx")
                    for queue, ring in enumerate(port[f"{side}_rings"])
                )
        return ()


# ---- an interface of Linux ----


class LinuxPort(Source):
    """A NIC that a driver of Linux has: Linux counts, and registers are not touched."""

    def __init__(self, text: str, function: Function) -> None:
        self.name, self._netdev = text, function.netdevs[0]
        self.what = f"Linux's {self._netdev}, by {function.driver}"

    def look(self) -> Look:
        counts = kernel_counts(self._netdev)
        at_s = time.monotonic()
        if not counts:
            raise PortClosed(f"{self.name}: Linux has no interface {self._netdev} any more")
        folder = ROOT / "sys/class/net" / self._netdev
        speed = text_of(folder / "speed")
        mbps = int(speed) if speed.isdecimal() else 0
        up = text_of(folder / "operstate") == "up"
        frames = {side: counts.get(f"{side}_packets", 0) for side in ("rx", "tx")}
        octets = {side: counts.get(f"{side}_bytes", 0) + CRC * frames[side] for side in ("rx", "tx")}
        return Look(
            at_s,
            Traffic((frames["rx"], octets["rx"]), (frames["tx"], octets["tx"])),
            "Linux",
            f"up, {mbps / 1000:g} Gbit/s" if up else "down",
            mbps,
            text_of(folder / "address"),
            {name: counts[name] for name in LINUX_LOSSES if name in counts},
            at_s,
            not_seen=(NOT_FROM_LINUX,),
        )


# ---- a port of our own ----


class OwnPort(Source):
    """A NIC that nobody has: top opens it, receives the frames that come, and discards them."""

    def __init__(self, text: str) -> None:
        self.name, self.what = text, "opened by top, which discards what it receives"
        self.pid = os.getpid()
        self.port = open_port(text, link_timeout=LINK_S)

    def close(self) -> None:
        self.port.close()

    def look(self) -> Look:
        stats = self.port.stats()
        at_s = time.monotonic()
        link = self.port.link
        drops = drops_of(stats)
        return Look(
            at_s,
            traffic_of(stats),
            "the NIC",
            str(link),
            link.speed_mbps,
            self.port.mac,
            drops,
            at_s,
            self.fills(),
            not_seen=() if drops is not None else (NOT_FOR_VFS,),
        )

    def fills(self) -> tuple[Fill, ...]:
        rings: list[TxRing | RxRing] = [*self.port.tx_rings, *self.port.rx_rings]
        return tuple(fill_of(ring) for ring in rings)


def fill_of(ring: TxRing | RxRing) -> Fill:
    transmits = isinstance(ring, TxRing)
    try:
        filled = ring.num_slots - 1 - ring.space if transmits else ring.space
    except RingError:
        filled = None
    return Fill(transmits, ring.ringid, ring.num_slots, filled)


# ---- from a name to its sources ----


def sources_of(text: str) -> list[Source]:
    """The ports that PORT names. Raises PortNameError, PortError, DeviceError."""
    if text.startswith("pid:"):
        return program_ports(text.removeprefix("pid:"))
    name = parse_port_name(text)
    if name.kind is Kind.NETMAP:
        assert name.netmap is not None
        if not name.netmap.has_nic:
            raise PortError(f"{text} has no NIC, so nothing counts for it. Run: ixrings daemon --status")
        return [DaemonPort(text, name.netmap.port)]
    if name.kind in PCI:
        function = look_up(name.target)
        if held_by(function):
            return [held(text, function)]
    return [OwnPort(text)]


def held(text: str, function: Function) -> Source:
    """A NIC that a driver or a program has. Raises DeviceError."""
    if function.driver not in FOR_PROGRAMS:
        if function.netdevs:
            return LinuxPort(text, function)
        raise DeviceError(f"{function.driver} has {function.address}, and no interface of Linux counts for it")
    for pid in holding(ROOT, *nodes_of(function, ROOT)):
        with suppress(OSError):
            if seen := seen_ports(pid, lambda facts: str(facts.get("device")).endswith(function.address)):
                return shown_ports(pid, seen)[0]
    raise DeviceError(
        f"{held_by(function)} has {function.address}, and shows nothing of it. Reading the NIC's counters here would "
        "clear them for that program"
    )


def every_source() -> Iterator[Source]:
    """Every port that this user may see: of programs, and of the daemon, which is a program, too."""
    for entry in sorted(Path("/proc").iterdir(), key=lambda path: (len(path.name), path.name)):
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError, PortError):
                yield from shown_ports(int(entry.name), seen_ports(int(entry.name)))


@dataclass
class Opened:
    """Sources, closed together."""

    sources: list[Source] = field(default_factory=list)
    _undo: ExitStack = field(default_factory=ExitStack)

    def add(self, source: Source) -> None:
        self.sources.append(source)
        self._undo.callback(source.close)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def own(self) -> list[Port]:
        """Ports that top has opened itself."""
        return [source.port for source in self.sources if isinstance(source, OwnPort) and not source.port.closed]
