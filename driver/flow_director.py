"""Flow director: thousands of filters in a part of the packet buffer, looked up by a hash (82599 7.1.2.7, 8.2.3.21)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network

from ixrings.hw.registers import Registers

from .checks import require_fields
from .errors import PortError

BUFFER_KB = 64  # of the packet buffer: PBALLOC 1, the smallest table
PBALLOC = 1
DROP_QUEUE = 127  # dropped frames go to a queue that is not enabled: a port with 128 queues cannot drop
FLEX_OFFSET = 6  # in words: the EtherType. It is not compared, but the field needs a value
MAX_LENGTH = 10  # the longest list of a bucket before a warning
FULL_THRESH = 4

ADD, REMOVE = 1, 2  # FDIRCMD.CMD

# The keys that the datasheet recommends for bucket and signature (7.1.2.7.4).
BUCKET_KEY = 0x3DAD14E2
SIGNATURE_KEY = 0x174D3614
PERFECT_BUCKET = 0x1FFF  # hash bits that choose the bucket in perfect mode

ALL_IPV4 = 0xFFFF_FFFF


class Protocol(Enum):
    """The protocol after the IP header."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


L4TYPE = {None: 0, Protocol.UDP: 1, Protocol.TCP: 2, Protocol.SCTP: 3}  # FDIRCMD


class FlowDirector(Enum):
    """The kind of filters.

    PERFECT: 2046 filters that compare all fields, IPv4 only. SIGNATURE: 8190 filters that compare two hashes of 15
    bits, so another flow may match by chance; IPv4 and IPv6.
    """

    PERFECT = "perfect"
    SIGNATURE = "signature"


CAPACITY = {FlowDirector.PERFECT: 2046, FlowDirector.SIGNATURE: 8190}  # in BUFFER_KB (7.1.2.7.2)


@dataclass(frozen=True)
class FlowFilter:
    """Frames with these fields go to `queue`; None drops them. A field that is None is not compared.

    source, destination: an address, "10.0.0.1", or a network, "10.0.0.0/8". vlan: 0..4095, 0 for frames without a tag.
    The filter is for IPv4 unless an address is IPv6. A fragment has no ports, so it does not match a filter with a
    protocol. Raises ValueError.
    """

    queue: int | None
    protocol: Protocol | None = None
    source: str | None = None
    destination: str | None = None
    source_port: int | None = None
    destination_port: int | None = None
    vlan: int | None = None

    def __post_init__(self) -> None:
        require_fields(self)
        for name, most in (("source_port", 0xFFFF), ("destination_port", 0xFFFF), ("vlan", 0xFFF)):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= most:
                raise ValueError(f"{name}={number}: 0 to {most}, or None for any")
        ports = [port for port in (self.source_port, self.destination_port) if port is not None]
        if ports and self.protocol is None:
            raise ValueError("ports are compared only together with a protocol; add protocol=Protocol.TCP or UDP")
        if self.protocol is Protocol.SCTP and len(ports) < 2:
            raise ValueError(
                "for SCTP, flow director always compares both ports (82599 8.2.3.21.7); give source_port and "
                "destination_port, or use a FiveTupleFilter"
            )
        object.__setattr__(self, "source", None if self.source is None else str(ip_network(self.source)))
        object.__setattr__(self, "destination", None if self.destination is None else str(ip_network(self.destination)))
        networks = [each for each in (self.source_network, self.destination_network) if each]
        if len({each.version for each in networks}) > 1:
            raise ValueError(f"{self.source} and {self.destination} are of different IP versions")
        if self.ipv6 and any(each.prefixlen != each.max_prefixlen for each in networks):
            raise ValueError(
                "for IPv6, flow director compares whole addresses (82599 8.2.3.21.8); give them without a prefix length"
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
    """The fields that are compared. There is one set of mask registers for all filters (8.2.3.21.4 to 8.2.3.21.9)."""

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
        """Write the mask registers, where a 1 means "do not compare".

        The masks for ports and IPv6 addresses have a reversed bit order. It does not matter here, because ports and
        IPv6 addresses are compared whole or not at all.
        """
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
    """The netmask as Mask has it: 0 for None, all ones for an IPv6 address."""
    return 0 if network is None else int(network.netmask) if network.version == 4 else ALL_IPV4


def wire_order(address: int) -> int:
    """An IPv4 address as in FDIRIPSA and similar registers: its first byte in bits 7:0."""
    return int.from_bytes(address.to_bytes(4, "big"), "little")


def flow_type(filter: FlowFilter) -> int:
    """FDIRCMD's L4TYPE, and IPV6 in the bit above it."""
    return L4TYPE[filter.protocol] | filter.ipv6 << 2


def hash_input(filter: FlowFilter) -> int:
    """336 bits (7.1.2.7.4): tag, source, destination, ports, flexible bytes and pool (not compared: 0), flow type.

    An IPv4 address fills the first word of its 128 bits; its place makes no difference to the hash.
    """

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
    """The 15-bit hash (7.1.2.7.4).

    The key is repeated along the input. For each 1 in the key, the 15 input bits at that place are added without carry;
    the input wraps around its ends.
    """
    around = (stream & 0x7FFF) << 351 | stream << 15 | stream >> 321
    total = 0
    for place in range(351):
        if key >> (place + 1) % 32 & 1:
            total ^= around >> place & 0x7FFF
    return total


def init_flow_director(nic: Registers, mode: FlowDirector) -> None:
    """Set up the table. Before reception starts, because the packet buffer shrinks (4.6.7, 8.2.3.8.9)."""
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
    """A port's flow director. Its table cannot be read, so its content is recorded here."""

    def __init__(self, nic: Registers, mode: FlowDirector) -> None:
        self._nic, self._mode = nic, mode
        self._hashes: dict[FlowFilter, tuple[int, int]] = {}  # for each flow: bucket, and signature or software index
        self._filters: dict[tuple[int, int], FlowFilter] = {}
        self._unused = list(reversed(range(CAPACITY[mode])))  # software indices of perfect filters
        init_flow_director(nic, mode)

    @property
    def filters(self) -> tuple[FlowFilter, ...]:
        return tuple(self._filters.values())

    def add(self, filter: FlowFilter) -> None:
        """Add a filter, which takes effect at once. Raises ValueError, PortError."""
        flow = replace(filter, queue=None)
        if flow in self._hashes:
            raise ValueError(f"there is already {self._filters[self._hashes[flow]]}; remove it first")
        if len(self._hashes) == CAPACITY[self._mode]:
            raise PortError(
                f"flow director's table is full: {len(self._hashes)} filters. Remove some with port.filters.remove(), "
                "or all with clear()"
            )
        if filter.ipv6 and self._mode is FlowDirector.PERFECT:
            raise ValueError(
                "perfect filters support only IPv4; open the port with flow_director=FlowDirector.SIGNATURE"
            )
        self._agree_on_mask(Mask.of(filter))
        bucket, tag = self._hash(filter)
        # Perfect filters have no IPv6 addresses, and signature filters have no addresses at all.
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
        """Remove one of `filters`. Raises KeyError for another filter."""
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
                f"{filter} has the same hash and signature as {other}; use perfect filters to distinguish them"
            )
        return bucket, signature

    def _agree_on_mask(self, mask: Mask) -> None:
        """The first filter decides the fields that all filters compare."""
        if not self._hashes:
            mask.write(self._nic)
            return
        first = Mask.of(next(iter(self._filters.values())))
        if mask != first:
            raise ValueError(
                f"flow director compares the same fields in all its filters (82599 8.2.3.21.9): now {first}, not "
                f"{mask}. Remove its filters first, or use a FiveTupleFilter"
            )

    def _command(self, **fields: int) -> None:
        """Write FDIRCMD, the last register of a command. The command is done when CMD reads 0 (8.2.3.21.22)."""
        self._nic.FDIRCMD.write(**fields)
        self._nic.FDIRCMD.wait(CMD=0, timeout=0.010)
