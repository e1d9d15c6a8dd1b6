"""Flow director: thousands of filters in a part of the packet buffer, found by a hash (82599 7.1.2.7, 8.2.3.21)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network

from ixrings.hw.registers import Registers

from .errors import PortError

BUFFER_KB = 64  # of the packet buffer: PBALLOC 1, the least
PBALLOC = 1
DROP_QUEUE = 127  # what is dropped goes to a queue that is not enabled: a port that has this one too cannot drop
FLEX_OFFSET = 6  # words: the EtherType. It is not compared, but has to be somewhere
MAX_LENGTH = 10  # filters that may share a bucket before a frame's search ends
FULL_THRESH = 4

ADD, REMOVE = 1, 2  # FDIRCMD.CMD

# The keys that the datasheet recommends (7.1.2.7.4): for the bucket and for the signature.
BUCKET_KEY = 0x3DAD14E2
SIGNATURE_KEY = 0x174D3614
PERFECT_BUCKET = 0x1FFF  # bits of the bucket's hash in perfect mode

ALL_IPV4 = 0xFFFF_FFFF


class Protocol(Enum):
    """What follows the IP header."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


L4TYPE = {None: 0, Protocol.UDP: 1, Protocol.TCP: 2, Protocol.SCTP: 3}  # FDIRCMD


class FlowDirector(Enum):
    """perfect: 2046 filters, all fields compared, IPv4. signature: 8190 filters known by two hashes of 15 bits, so that now and then another
    flow matches; IPv4 and IPv6."""

    PERFECT = "perfect"
    SIGNATURE = "signature"


CAPACITY = {FlowDirector.PERFECT: 2046, FlowDirector.SIGNATURE: 8190}  # in BUFFER_KB (7.1.2.7.2)


@dataclass(frozen=True)
class FlowFilter:
    """Frames of these fields go to `queue`, or nowhere (None). A field that is None is not compared.

    source, destination: an address, "10.0.0.1", or a network, "10.0.0.0/8". vlan: 0..4095, 0 for frames without a tag. Frames are IPv4
    unless an address says IPv6. A fragment has no ports, so none of its frames matches a filter with a protocol. Raises ValueError.
    """

    queue: int | None
    protocol: Protocol | None = None
    source: str | None = None
    destination: str | None = None
    source_port: int | None = None
    destination_port: int | None = None
    vlan: int | None = None

    def __post_init__(self) -> None:
        for name, most in (("source_port", 0xFFFF), ("destination_port", 0xFFFF), ("vlan", 0xFFF)):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= most:
                raise ValueError(f"{name}={number}: 0 to {most}, or None for any")
        ports = [port for port in (self.source_port, self.destination_port) if port is not None]
        if ports and self.protocol is None:
            raise ValueError("ports are compared with their protocol only; add protocol=Protocol.TCP or UDP")
        if self.protocol is Protocol.SCTP and len(ports) < 2:
            raise ValueError(
                "flow director compares both ports of SCTP, always (82599 8.2.3.21.7); give source_port and destination_port, "
                "or use a FiveTupleFilter"
            )
        object.__setattr__(self, "source", None if self.source is None else str(ip_network(self.source)))
        object.__setattr__(self, "destination", None if self.destination is None else str(ip_network(self.destination)))
        networks = [each for each in (self.source_network, self.destination_network) if each]
        if len({each.version for each in networks}) > 1:
            raise ValueError(f"{self.source} and {self.destination} are of different IP versions")
        if self.ipv6 and any(each.prefixlen != each.max_prefixlen for each in networks):
            raise ValueError(
                "of IPv6, flow director compares whole addresses (82599 8.2.3.21.8); give them without a prefix length"
            )

    @property
    def source_network(self) -> IPv4Network | IPv6Network | None:
        return None if self.source is None else ip_network(self.source)

    @property
    def destination_network(self) -> IPv4Network | IPv6Network | None:
        return None if self.destination is None else ip_network(self.destination)

    @property
    def ipv6(self) -> bool:
        return any(each is not None and each.version == 6 for each in (self.source_network, self.destination_network))


@dataclass(frozen=True)
class Mask:
    """Which fields are compared: of all filters alike, as there is one set of mask registers (8.2.3.21.4 to 8.2.3.21.9)."""

    protocol: bool
    source: int  # IPv4 netmask; all ones for an IPv6 address
    destination: int
    source_port: bool
    destination_port: bool
    vlan: bool

    @classmethod
    def of(cls, filter: FlowFilter) -> Mask:
        return cls(
            filter.protocol is not None,
            netmask(filter.source_network),
            netmask(filter.destination_network),
            filter.source_port is not None,
            filter.destination_port is not None,
            filter.vlan is not None,
        )

    def write(self, nic: Registers) -> None:
        """In the registers, ones are not compared. Ports and IPv6 addresses are compared whole or not at all, so the bits' order, which is
        reversed there, does not matter."""
        nic.FDIRSIP4M.write(wire_order(~self.source & ALL_IPV4))
        nic.FDIRDIP4M.write(wire_order(~self.destination & ALL_IPV4))
        nic.FDIRIP6M.write(SIPM=0 if self.source else 0xFFFF, DIPM=0 if self.destination else 0xFFFF)
        for register in (nic.FDIRTCPM, nic.FDIRUDPM):
            register.write(SPORTM=0 if self.source_port else 0xFFFF, DPORTM=0 if self.destination_port else 0xFFFF)
        nic.FDIRM.write(
            VLANID=int(not self.vlan),
            VLANP=1,
            POOL=1,
            L4P=int(not self.protocol),
            FLEX=1,
            DIPV6=int(not self.destination),
        )

    def __str__(self) -> str:
        parts = {
            "protocol": self.protocol,
            "source": self.source,
            "destination": self.destination,
            "source_port": self.source_port,
            "destination_port": self.destination_port,
            "vlan": self.vlan,
        }
        lengths = {
            name: f"{name}/{int(bits).bit_count()}"
            for name, bits in parts.items()
            if bits and name in ("source", "destination")
        }
        return ", ".join(lengths.get(name, name) for name, compared in parts.items() if compared) or "nothing"


def netmask(network: IPv4Network | IPv6Network | None) -> int:
    return 0 if network is None else int(network.netmask) if network.version == 4 else ALL_IPV4


def wire_order(address: int) -> int:
    """As FDIRIPSA and the like have an IPv4 address: its first byte in bits 7:0."""
    return int.from_bytes(address.to_bytes(4, "big"), "little")


def flow_type(filter: FlowFilter) -> int:
    """FDIRCMD's L4TYPE and above it IPV6."""
    return L4TYPE[filter.protocol] | filter.ipv6 << 2


def hash_input(filter: FlowFilter) -> int:
    """336 bits (7.1.2.7.4): tag, source, destination, ports, flexible bytes and pool (not compared: 0), flow type. An IPv4 address fills the
    first word of its 128 bits; where it stands makes no difference to the hash."""

    def address(network: IPv4Network | IPv6Network | None) -> int:
        return 0 if network is None else int(network.network_address) << (128 - network.max_prefixlen)

    stream = 0
    for value, width in (
        (filter.vlan or 0, 16),
        (address(filter.source_network), 128),
        (address(filter.destination_network), 128),
        (filter.source_port or 0, 16),
        (filter.destination_port or 0, 16),
        (0, 16),
        (0, 8),
        (flow_type(filter), 8),
    ):
        stream = stream << width | value
    return stream


def flow_hash(key: int, stream: int) -> int:
    """15 bits. Bit i of the key, which is repeated along the input, stands for the 16 bits of the input that end at its place, and they
    go on around the input's ends; the bits that stand at ones of the key are added up (7.1.2.7.4)."""
    around = (stream & 0x7FFF) << 351 | stream << 15 | stream >> 321
    total = 0
    for place in range(351):
        if key >> (place + 1) % 32 & 1:
            total ^= around >> place & 0x7FFF
    return total


def init_flow_director(nic: Registers, mode: FlowDirector) -> None:
    """Before reception starts, as the packet buffer shrinks (4.6.7, 8.2.3.8.9)."""
    nic.FDIRHKEY.write(BUCKET_KEY)
    nic.FDIRSKEY.write(SIGNATURE_KEY)
    nic.FDIRCTRL.write(
        PBALLOC=PBALLOC,
        PERFECT_MATCH=int(mode is FlowDirector.PERFECT),
        DROP_QUEUE=DROP_QUEUE,
        FLEX_OFFSET=FLEX_OFFSET,
        MAX_LENGTH=MAX_LENGTH,
        FULL_THRESH=FULL_THRESH,
    )
    nic.FDIRCTRL.wait(INIT_DONE=1, timeout=0.010, section="7.1.2.7.3")


class Director:
    """A port's flow director. Its table cannot be read, so what is in it is known here."""

    def __init__(self, nic: Registers, mode: FlowDirector) -> None:
        self._nic, self._mode = nic, mode
        self._hashes: dict[FlowFilter, tuple[int, int]] = {}  # of each flow: bucket, and signature or software index
        self._filters: dict[tuple[int, int], FlowFilter] = {}
        self._unused = list(reversed(range(CAPACITY[mode])))  # software indices of perfect filters
        init_flow_director(nic, mode)

    @property
    def filters(self) -> tuple[FlowFilter, ...]:
        return tuple(self._filters.values())

    def add(self, filter: FlowFilter) -> None:
        """Raises ValueError, PortError."""
        flow = replace(filter, queue=None)
        if flow in self._hashes:
            raise ValueError(f"there is {self._filters[self._hashes[flow]]} already; remove that first")
        if len(self._hashes) == CAPACITY[self._mode]:
            raise PortError(
                f"flow director's table is full: {len(self._hashes)} filters. Take one out with port.filters.remove(), "
                "or clear() them"
            )
        if filter.ipv6 and self._mode is FlowDirector.PERFECT:
            raise ValueError("perfect filters know IPv4 only; open the port with flow_director=FlowDirector.SIGNATURE")
        self._agree_on_mask(Mask.of(filter))
        bucket, tag = self._hash(filter)
        # IPv6 addresses are not in perfect filters, and signature filters have no addresses at all.
        source, destination = (
            0 if network is None or filter.ipv6 else wire_order(int(network.network_address))
            for network in (filter.source_network, filter.destination_network)
        )
        for word in self._nic.FDIRSIPV6:
            word.write(0)
        self._nic.FDIRIPSA.write(source)
        self._nic.FDIRIPDA.write(destination)
        self._nic.FDIRPORT.write(SOURCE=filter.source_port or 0, DESTINATION=filter.destination_port or 0)
        self._nic.FDIRVLAN.write(VLAN=filter.vlan or 0)
        self._nic.FDIRHASH.write(HASH=bucket, SIGNATURE_SW_INDEX=tag)
        queue = DROP_QUEUE if filter.queue is None else filter.queue
        self._command(
            CMD=ADD,
            FILTER_UPDATE=1,
            LAST=1,
            QUEUE_EN=1,
            L4TYPE=L4TYPE[filter.protocol],
            IPV6=int(filter.ipv6),
            RX_QUEUE=queue,
            DROP=int(filter.queue is None),
        )
        self._hashes[flow] = bucket, tag
        self._filters[bucket, tag] = filter

    def remove(self, filter: FlowFilter) -> None:
        """One of `filters`."""
        flow = replace(filter, queue=None)
        bucket, tag = self._hashes[flow]
        self._nic.FDIRHASH.write(HASH=bucket, SIGNATURE_SW_INDEX=tag)
        self._command(CMD=REMOVE)
        del self._hashes[flow], self._filters[bucket, tag]
        if self._mode is FlowDirector.PERFECT:
            self._unused.append(tag)

    def _hash(self, filter: FlowFilter) -> tuple[int, int]:
        stream = hash_input(filter)
        bucket = flow_hash(BUCKET_KEY, stream)
        if self._mode is FlowDirector.PERFECT:
            return bucket & PERFECT_BUCKET, self._unused.pop()
        signature = flow_hash(SIGNATURE_KEY, stream)
        if other := self._filters.get((bucket, signature)):
            raise ValueError(
                f"{filter} has the same hash and signature as {other}; perfect filters could tell them apart"
            )
        return bucket, signature

    def _agree_on_mask(self, mask: Mask) -> None:
        """The first filter decides what all compare."""
        if not self._hashes:
            mask.write(self._nic)
            return
        first = Mask.of(next(iter(self._filters.values())))
        if mask != first:
            raise ValueError(
                f"flow director compares the same fields in all its filters (82599 8.2.3.21.9): now {first}, not {mask}. "
                "Remove its filters first, or use a FiveTupleFilter"
            )

    def _command(self, **fields: int) -> None:
        """FDIRCMD is the last to be written, and done when its CMD reads 0 (8.2.3.21.22)."""
        self._nic.FDIRCMD.write(**fields)
        self._nic.FDIRCMD.wait(CMD=0, timeout=0.010)
