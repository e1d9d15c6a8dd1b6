"""`port.filters`: filters that choose the queue of a frame, before RSS does (82599 7.1.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from ixrings.hw.attributes import GuardedReads, always
from ixrings.hw.fields import ETQF
from ixrings.hw.registers import Registers

from .checks import require, require_fields
from .errors import PortError
from .flow_director import DROP_QUEUE, Director, FlowFilter, Protocol

PRIORITIES = range(1, 8)  # FTQF.PRIORITY; 0 is reserved
IP_TYPES = (0x0800, 0x86DD)
PTP_ETHER_TYPE = 0x88F7
FIRST_ETHER_TYPE = 0x0600  # below that the field is a length (802.3)
FTQF_PROTOCOL = {Protocol.TCP: 0, Protocol.UDP: 1, Protocol.SCTP: 2}


@dataclass(frozen=True)
class EtherTypeFilter:
    """Frames of this EtherType, after a VLAN tag if they have one (7.1.2.3). The NIC has eight such filters.

    user_priority: 0..7, the priority in the tag; filters with a priority are tried first. Raises ValueError.
    """

    ether_type: int
    queue: int
    user_priority: int | None = None

    def __post_init__(self) -> None:
        require_fields(self)
        if not FIRST_ETHER_TYPE <= self.ether_type <= 0xFFFF:
            raise ValueError(f"ether_type={self.ether_type:#x}: choose 0x600 to 0xffff")
        if self.ether_type in IP_TYPES:
            raise ValueError("EtherType filters do not take IP frames; use a FiveTupleFilter or a FlowFilter")
        if self.user_priority not in (None, *range(8)):
            raise ValueError(f"user_priority={self.user_priority}: 0 to 7, or None for any frame")


@dataclass(frozen=True)
class SynFilter:
    """TCP frames with SYN set (7.1.2.6).

    The NIC has one such filter. before_five_tuples: it wins over FiveTupleFilters.
    """

    queue: int
    before_five_tuples: bool = False

    def __post_init__(self) -> None:
        require_fields(self)


@dataclass(frozen=True)
class FiveTupleFilter:
    """IPv4 frames with these fields (7.1.2.5). The NIC has 128 such filters.

    A field that is None is not compared. Ports are compared only in TCP, UDP and SCTP packets that are not fragments.
    priority: 1..7. If several filters match, the highest priority wins, then the filter added first. Raises ValueError.
    """

    queue: int
    protocol: Protocol | None = None
    source: str | None = None
    destination: str | None = None
    source_port: int | None = None
    destination_port: int | None = None
    priority: int = 1

    def __post_init__(self) -> None:
        require_fields(self)
        for name in ("source", "destination"):
            address = getattr(self, name)
            object.__setattr__(self, name, None if address is None else str(IPv4Address(address)))
        for name in ("source_port", "destination_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 0xFFFF:
                raise ValueError(f"{name}={port}: 0 to 65535, or None for any")
        if self.priority not in PRIORITIES:
            raise ValueError(f"priority={self.priority}: choose 1 to 7, the highest wins (82599 7.1.2.5)")


Filter = EtherTypeFilter | SynFilter | FiveTupleFilter | FlowFilter


class Filters(GuardedReads, Collection[Filter]):
    """A port's filters, in the order in which the NIC tries them: EtherType, SYN and 5-tuple, flow director.

    RSS chooses the queue of a frame that matches none.

        port.filters.add(EtherTypeFilter(0x88F7, queue=1))
        print(*port.filters, sep="\\n")

    Filters choose only among frames that the port accepts (its address, multicast, promiscuous). A queue's counters
    include the frames that filters send to it; `stats().rx_others["QPRDC"]` counts frames that a FlowFilter drops.
    """

    __slots__ = ("_director", "_nic", "_queues")

    def __init__(self, nic: Registers, queues: int, director: Director | None) -> None:
        self._nic, self._queues, self._director = nic, queues, director

    def __iter__(self) -> Iterator[Filter]:
        """Filters that are in registers are read from the registers.

        Flow director's table cannot be read, so its filters come in the order in which they were added.
        """
        yield from self._in_registers()
        yield from self._of_director()

    def _in_registers(self) -> Iterator[EtherTypeFilter | SynFilter | FiveTupleFilter]:
        syn = self._nic.SYNQF.read()
        first = syn.QUEUE_ENABLE and syn.SYNQFP
        yield from filter(None, (read_ether_type(self._nic, index) for index in range(len(self._nic.ETQF))))
        if first:
            yield SynFilter(syn.RX_QUEUE, True)
        five_tuples = filter(None, (read_five_tuple(self._nic, index) for index in range(len(self._nic.FTQF))))
        yield from sorted(five_tuples, key=lambda each: -each.priority)
        if syn.QUEUE_ENABLE and not first:
            yield SynFilter(syn.RX_QUEUE)

    def _of_director(self) -> tuple[FlowFilter, ...]:
        return self._director.filters if self._director else ()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, filter: object) -> bool:
        return any(filter == each for each in self)

    def add(self, *filters: Filter) -> None:
        """Add filters, which take effect at once.

        If one is refused, those before it stay. Raises TypeError, ValueError, and PortError if there is no room.
        """
        for filter in filters:
            require("port.filters.add()", filter, Filter)
            self._add(filter)

    def _add(self, filter: Filter) -> None:
        if filter.queue is not None and not 0 <= filter.queue < self._queues:
            raise ValueError(
                f"there is no receive queue {filter.queue}: the port was opened with rx_queues={self._queues}"
            )
        if filter.queue is None and self._queues > DROP_QUEUE:
            raise ValueError(
                f"a filter drops frames by sending them to queue {DROP_QUEUE}, but this port receives from that queue. "
                f"Open the port with rx_queues={DROP_QUEUE} or fewer"
            )
        for each in () if isinstance(filter, FlowFilter) else self._in_registers():
            if replace(each, queue=0) == replace(filter, queue=0):
                raise ValueError(f"there is already {each}; remove it first")
        match filter:
            case EtherTypeFilter():
                write_ether_type(
                    self._nic, ether_type_entry(self._nic, filter.ether_type, filter.user_priority), filter
                )
            case SynFilter():
                free_entry("SYN", [bool(self._nic.SYNQF.read().QUEUE_ENABLE)])
                self._nic.SYNQF.write(QUEUE_ENABLE=1, RX_QUEUE=filter.queue, SYNQFP=int(filter.before_five_tuples))
            case FiveTupleFilter():
                write_five_tuple(
                    self._nic,
                    free_entry("5-tuple", [bool(each.read().QUEUE_ENABLE) for each in self._nic.FTQF]),
                    filter,
                )
            case FlowFilter():
                if self._director is None:
                    raise PortError(
                        "this port was opened without a flow director, because that takes room from the packet buffer. "
                        "Open the port with open_port(..., flow_director=FlowDirector.PERFECT), or use a "
                        "FiveTupleFilter"
                    )
                self._director.add(filter)

    def remove(self, *filters: Filter) -> None:
        """Remove filters. If one is not there, those before it are removed and ValueError is raised."""
        for filter in filters:
            require("port.filters.remove()", filter, Filter)
            if filter not in (self._of_director() if isinstance(filter, FlowFilter) else self._in_registers()):
                raise ValueError(f"there is no {filter}; print(*port.filters) lists the filters")
            match filter:
                case EtherTypeFilter():
                    index = next(i for i in range(len(self._nic.ETQF)) if read_ether_type(self._nic, i) == filter)
                    if not stamps(self._nic, index):
                        self._nic.ETQF[index].write(0)
                    self._nic.ETQS[index].write(0)
                case SynFilter():
                    self._nic.SYNQF.write(0)
                case FiveTupleFilter():
                    index = next(i for i in range(len(self._nic.FTQF)) if read_five_tuple(self._nic, i) == filter)
                    self._nic.FTQF[index].write(0)
                case FlowFilter():
                    assert self._director is not None  # the filter is in self, so there is a director
                    self._director.remove(filter)

    def clear(self) -> None:
        """Remove all filters."""
        self.remove(*self)

    @always
    def __repr__(self) -> str:
        return f"<Filters: {', '.join(map(repr, self)) or 'none'}>"


def free_entry(kind: str, used: list[bool]) -> int:
    """The index of the first unused entry. Raises PortError."""
    if all(used):
        raise PortError(
            f"the 82599 has {len(used)} {kind} filter{'s' if len(used) > 1 else ''}, and all are in use; "
            "remove one with port.filters.remove()"
        )
    return used.index(False)


def ether_type_entry(nic: Registers, ether_type: int, user_priority: int | None = None) -> int:
    """The index of the ETQF of this type; a free ETQF is set up if there is none. Raises PortError.

    The NIC uses the first entry that matches. So entries for one priority are filled from the front, and entries for
    any priority from the back. Every entry for PTP has TIMESTAMP set, because filters and the clock share entries.
    """
    wanted = ETQF(
        ETQF.compose(
            "ETQF",
            0,
            {
                "ETYPE": ether_type,
                "FILTER_EN": 1,
                "UP_EN": int(user_priority is not None),
                "UP": user_priority or 0,
                "TIMESTAMP": int(ether_type == PTP_ETHER_TYPE),
            },
        )
    )
    entries = [each.read() for each in nic.ETQF]
    if wanted in entries:
        return entries.index(wanted)
    used = [bool(each.FILTER_EN) for each in entries]
    index = free_entry("EtherType", used) if wanted.UP_EN else len(used) - 1 - free_entry("EtherType", used[::-1])
    nic.ETQF[index].write(wanted)
    return index


def stamps(nic: Registers, index: int) -> bool:
    """Whether port.clock needs this ETQF: time stamps are on, and it is the PTP entry for any priority."""
    entry = nic.ETQF[index].read()
    return bool(nic.TSYNCRXCTL.read().EN and entry.TIMESTAMP and not entry.UP_EN)


def write_ether_type(nic: Registers, index: int, filter: EtherTypeFilter) -> None:
    nic.ETQS[index].write(QUEUE_EN=1, RX_QUEUE=filter.queue)


def read_ether_type(nic: Registers, index: int) -> EtherTypeFilter | None:
    filter, select = nic.ETQF[index].read(), nic.ETQS[index].read()
    if not filter.FILTER_EN or not select.QUEUE_EN:
        return None
    return EtherTypeFilter(filter.ETYPE, select.RX_QUEUE, filter.UP if filter.UP_EN else None)


def write_five_tuple(nic: Registers, index: int, filter: FiveTupleFilter) -> None:
    """SAQF, DAQF and SDPQF hold bytes in wire order (8.2.3.7.16 to 8.2.3.7.18).

    FTQF enables the filter and is written last.
    """
    for register, address in ((nic.SAQF[index], filter.source), (nic.DAQF[index], filter.destination)):
        register.write(0 if address is None else int.from_bytes(IPv4Address(address).packed, "little"))
    nic.SDPQF[index].write(
        SOURCE_PORT=swapped(filter.source_port or 0), DESTINATION_PORT=swapped(filter.destination_port or 0)
    )
    # SIZE_BP: do not compare the frame size. Bit 19 is reserved; every driver that uses these filters for queues sets
    # it.
    nic.L34TIMIR[index].write(SIZE_BP=1, MUST_BE_ONE=1, RX_QUEUE=filter.queue)
    nic.FTQF[index].write(
        QUEUE_ENABLE=1,
        POOL_MASK=1,
        PRIORITY=filter.priority,
        PROTOCOL=FTQF_PROTOCOL[filter.protocol] if filter.protocol else 0,
        MASK_PROTOCOL=int(filter.protocol is None),
        MASK_SOURCE_ADDRESS=int(filter.source is None),
        MASK_DESTINATION_ADDRESS=int(filter.destination is None),
        MASK_SOURCE_PORT=int(filter.source_port is None),
        MASK_DESTINATION_PORT=int(filter.destination_port is None),
    )


def read_five_tuple(nic: Registers, index: int) -> FiveTupleFilter | None:
    filter = nic.FTQF[index].read()
    if not filter.QUEUE_ENABLE:
        return None
    protocols = {number: protocol for protocol, number in FTQF_PROTOCOL.items()}
    ports = nic.SDPQF[index].read()
    return FiveTupleFilter(
        nic.L34TIMIR[index].read().RX_QUEUE,
        None if filter.MASK_PROTOCOL else protocols[filter.PROTOCOL],
        None if filter.MASK_SOURCE_ADDRESS else str(IPv4Address(int(nic.SAQF[index].read()).to_bytes(4, "little"))),
        None
        if filter.MASK_DESTINATION_ADDRESS
        else str(IPv4Address(int(nic.DAQF[index].read()).to_bytes(4, "little"))),
        None if filter.MASK_SOURCE_PORT else swapped(ports.SOURCE_PORT),
        None if filter.MASK_DESTINATION_PORT else swapped(ports.DESTINATION_PORT),
        filter.PRIORITY,
    )


def swapped(number: int) -> int:
    """A 16-bit number with its bytes swapped."""
    return int.from_bytes(number.to_bytes(2, "little"), "big")
