"""Rings without a NIC, from Python: pipes, monitors, a host's rings, switches.

Python joins krings here, and C moves their frames in the service's thread (pipes.c, monitors.c, host.c, switch.c). As
with handles, only that thread may join or change something, between two calls of Service.run(). A kring keeps in
memory what C finds through it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

from .library import another_version
from .service import Addresses, Kind, Kring, TaskState, service_library

SWITCH_PORTS = 254
LINE = 64  # bytes of a cache line


class MonitorState(ctypes.Structure):
    """struct monitor in soft.h."""

    _fields_ = [
        ("next", ctypes.c_uint64),
        ("ring", ctypes.c_uint64),
        ("zero_copy", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("frames", ctypes.c_uint64),
    ]
    next: int
    frames: int
    kept: object  # what C finds through it


class HostState(ctypes.Structure):
    """struct host in soft.h."""

    _fields_ = [
        ("tx", ctypes.c_uint64),
        ("rx", ctypes.c_uint64),
        ("nic_rx", ctypes.c_uint64),
        ("nic_tx", ctypes.c_uint64),
        ("down", ctypes.c_uint64),
        ("tx_count", ctypes.c_uint32),
        ("rx_count", ctypes.c_uint32),
        ("nic_rx_count", ctypes.c_uint32),
        ("nic_tx_count", ctypes.c_uint32),
        ("down_count", ctypes.c_uint32),
        ("fd", ctypes.c_int),
        ("longest", ctypes.c_uint32),
        ("empty", ctypes.c_uint32),
        ("looked_ns", ctypes.c_uint64),
        ("room_ns", ctypes.c_uint64),
        ("to_host", ctypes.c_uint64),
        ("to_host_bytes", ctypes.c_uint64),
        ("from_host", ctypes.c_uint64),
        ("from_host_bytes", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("drops", ctypes.c_uint64),
    ]
    kept: object
    fd: int
    longest: int
    to_host: int
    to_host_bytes: int
    from_host: int
    from_host_bytes: int
    refused: int
    drops: int


class PortState(ctypes.Structure):
    """struct switch_port in soft.h."""

    _fields_ = [
        ("fabric", ctypes.c_uint64),
        ("into", ctypes.c_uint64),
        ("from_", ctypes.c_uint64),
        ("into_count", ctypes.c_uint32),
        ("from_count", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("header", ctypes.c_uint32),
        ("source", ctypes.c_uint64),
        ("noted_ns", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
        ("sent_bytes", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("waiting", ctypes.c_uint64),
    ]
    kept: object
    switch: object
    index: int
    header: int
    sent: int
    sent_bytes: int
    refused: int
    waiting: int


def put_behind(ring: Kring, behind: ctypes.Structure | None) -> None:
    """What C finds at ring.behind; None: nothing."""
    ring.behind = ctypes.addressof(behind) if behind is not None else 0
    ring.behind_it = behind


class Pipe:
    """Two ends, a and b: what one end sends, the other receives, in order. Ring i of one end is joined to ring i of the
    other. Zero-copy: all rings are in one region.

    Raises ValueError when rings do not fit together. restart() empties it.
    """

    def __init__(
        self, a_tx: Sequence[Kring], a_rx: Sequence[Kring], b_tx: Sequence[Kring], b_rx: Sequence[Kring]
    ) -> None:
        if len(a_tx) != len(b_rx) or len(b_tx) != len(a_rx):
            raise ValueError("each TX ring of a pipe needs one RX ring of its other end")
        self._pairs = (*zip(a_tx, b_rx), *zip(b_tx, a_rx))
        for tx, rx in self._pairs:
            check_pair(tx, rx)
        for tx, rx in self._pairs:
            tx.kind = rx.kind = Kind.PIPE
            put_behind(tx, rx)
            put_behind(rx, tx)

    def restart(self) -> None:
        """Empty it, and put all rings back to their initial indices: both ends were closed."""
        for pair in self._pairs:
            for ring in pair:
                ring.queue.restart()
                ring.filled, ring.synced_head = ring.queue.hwtail, ring.queue.hwcur

    def close(self) -> None:
        """Part the rings: nothing moves between them any more."""
        for pair in self._pairs:
            for ring in pair:
                put_behind(ring, None)


def check_pair(tx: Kring, rx: Kring) -> None:
    if not tx.tx or rx.tx:
        raise ValueError("a pipe joins TX rings to RX rings")
    if tx.queue.num_slots != rx.queue.num_slots:
        raise ValueError(
            f"{tx.queue.ring.name} has {tx.queue.num_slots} slots, and {rx.queue.ring.name} {rx.queue.num_slots}; "
            "a pipe needs equally many"
        )
    check_shared(tx, rx)


def check_shared(one: Kring, other: Kring) -> None:
    if not one.queue.shares_buffers(other.queue):
        raise ValueError(
            f"{one.queue.ring.name} and {other.queue.ring.name} cannot exchange buffers: they are in different regions"
        )


class Monitor:
    """Shows in `ring`, an RX ring, what other rings send or receive: watch() as many as wanted, from any region.

    zero_copy: take buffers and give the ring's own for them; the rings are in one region. frames: shown so far. Those
    that found no room are in ring.drops.
    """

    def __init__(self, ring: Kring, *, zero_copy: bool = False) -> None:
        if ring.tx:
            raise ValueError("a monitor shows frames in an RX ring")
        ring.kind = Kind.MONITOR
        self.ring = ring
        self.zero_copy = zero_copy
        self._watched: list[tuple[Kring, MonitorState]] = []

    def watch(self, kring: Kring) -> None:
        """Show what this ring sends (with NS_TXMON) or receives. Raises ValueError."""
        if kring.kind == Kind.MONITOR:
            raise ValueError("a monitor's ring cannot be watched")
        if self.zero_copy:
            check_shared(self.ring, kring)
        state = MonitorState(next=kring.monitors, ring=ctypes.addressof(self.ring), zero_copy=self.zero_copy)
        state.kept = self.ring
        kring.monitors = ctypes.addressof(state)
        kring.watchers.append(state)
        self._watched.append((kring, state))

    @property
    def frames(self) -> int:
        return sum(state.frames for _, state in self._watched)

    def leave(self, kring: Kring) -> None:
        """Watch it no more, for example because it is about to go. The frames that were shown stay."""
        kept = []
        for ring, state in self._watched:
            if ring is kring:
                unlink(ring, state)
            else:
                kept.append((ring, state))
        self._watched = kept

    def end(self) -> None:
        """Nothing comes any more: after the frames that it still has, poll() reports POLLERR."""
        self.close()
        self.ring.kind = Kind.ENDED

    def close(self) -> None:
        for ring, _ in tuple(self._watched):
            self.leave(ring)


def unlink(kring: Kring, state: MonitorState) -> None:
    """Take a monitor out of the list of those that watch a ring."""
    address = ctypes.addressof(state)
    kring.watchers = [kept for kept in kring.watchers if kept is not state]
    if kring.monitors == address:
        kring.monitors = state.next
        return
    place = kring.monitors
    while place:
        other = MonitorState.from_address(place)
        if other.next == address:
            other.next = state.next
            return
        place = other.next


class Host:
    """A TAP behind rings: what goes to Linux's network stack and comes from it. It is also the task that forwards.

    fd: the TAP's descriptor, non-blocking, with IFF_NO_PI and without IFF_VNET_HDR; the caller closes it. longest:
    bytes of the longest frame that Linux sends. state: counters (struct host in soft.h).
    """

    def __init__(self, fd: int, *, longest: int = 1518) -> None:
        soft_library()
        self.state = HostState(fd=fd, longest=longest)
        work = ctypes.cast(service_library().host_work, ctypes.c_void_p).value
        self.task = TaskState(work=work, of=ctypes.addressof(self.state))
        self._joined: dict[str, tuple[Addresses, tuple[Kring, ...]]] = {}
        self.join()

    def join(
        self,
        *,
        tx: Sequence[Kring] = (),
        rx: Sequence[Kring] = (),
        nic_tx: Sequence[Kring] = (),
        nic_rx: Sequence[Kring] = (),
        down: Sequence[Kring] = (),
        up: Sequence[Kring] = (),
    ) -> None:
        """The rings whose frames are moved from now on; those not named are left.

        tx, rx: host rings that a program has open. nic_tx, nic_rx: the NIC's rings that no program has: their frames
        come from Linux, and go to it. down: the NIC's TX rings for frames with NS_FORWARD of a host RX ring. up: the
        NIC's RX rings whose frames with NS_FORWARD go to Linux. Raises ValueError.
        """
        for ring in (*tx, *nic_tx, *down):
            if not ring.tx:
                raise ValueError("tx, nic_tx and down are TX rings")
        for ring in (*rx, *nic_rx, *up):
            if ring.tx:
                raise ValueError("rx, nic_rx and up are RX rings")
        for ring in (one for _, rings in self._joined.values() for one in rings):
            put_behind(ring, None)
        for ring in (*tx, *rx):
            ring.kind = Kind.HOST
        for ring in (*tx, *rx, *up):
            put_behind(ring, self.state)
        if (rx or nic_tx) and not (self.state.rx_count or self.state.nic_tx_count):  # nobody took frames so far
            soft_library().host_discard(ctypes.byref(self.state))
        joined = {"tx": tx, "rx": rx, "nic_tx": nic_tx, "nic_rx": nic_rx, "down": down, "up": up}
        self._joined = {name: (Addresses(rings), tuple(rings)) for name, rings in joined.items()}
        for name in ("tx", "rx", "nic_tx", "nic_rx", "down"):
            addresses = self._joined[name][0]
            setattr(self.state, name, addresses.address)
            setattr(self.state, f"{name}_count", addresses.count)
        self.state.kept = self._joined


class SwitchPort:
    """A port of a switch. index: its number, 0..253. state: counters. drops: frames for it that found no room.

    header: bytes of the virtio header before each of its frames (0, 10 or 12).
    """

    def __init__(self) -> None:
        self.state = PortState()
        self._rings: tuple[Kring, ...] = ()
        self._into: tuple[Kring, ...] = ()

    @property
    def index(self) -> int:
        return self.state.index

    @property
    def drops(self) -> int:
        return sum(ring.drops for ring in self._into)

    @property
    def header(self) -> int:
        return self.state.header

    @header.setter
    def header(self, size: int) -> None:
        if size not in (0, 10, 12):
            raise ValueError(f"a virtio header has 0, 10 or 12 bytes, not {size}")
        self.state.header = size

    def open(self, tx: Sequence[Kring], rx: Sequence[Kring]) -> None:
        """A program has these rings of the port from now on; without any, frames for the port vanish."""
        self._close_rings()
        for ring in (*tx, *rx):
            ring.kind = Kind.SWITCH
        for ring in tx:
            put_behind(ring, self.state)
        self._join(into=rx, taken=(), rings=(*tx, *rx))

    def attach(self, tx: Sequence[Kring], rx: Sequence[Kring]) -> None:
        """The port is a NIC, or a TAP's host rings: frames for it go to the TX rings, and Switch.task takes those that
        the RX rings receive. No program has these rings."""
        self._close_rings()
        self._join(into=tx, taken=rx, rings=())

    def close(self) -> None:
        """No ring is open any more."""
        self._close_rings()
        self._join((), (), ())

    def _join(self, into: Sequence[Kring], taken: Sequence[Kring], rings: Sequence[Kring]) -> None:
        self._rings, self._into = tuple(rings), tuple(into)
        copied, received = Addresses(into), Addresses(taken)
        self.state.into, self.state.into_count = copied.address, copied.count
        self.state.from_, self.state.from_count = received.address, received.count
        self.state.kept = copied, received
        self.state.waiting = 0

    def _close_rings(self) -> None:
        for ring in self._rings:
            put_behind(ring, None)


class Switch:
    """A learning switch of up to 254 ports. It is also the task that takes frames from attached NICs.

    age_s: an address that has not sent for so long is forgotten; 0: never; 1e-9: none is learned, and
    every frame goes to all other ports. Such a switch of two ports is a cable: a program's frames wait until the other
    end has room, and the ring's tail shows that. Other switches drop them then.
    """

    def __init__(self, age_s: float = 300) -> None:
        loaded = soft_library()
        size = ctypes.c_uint32.in_dll(loaded, "switch_size").value
        self._memory = ctypes.create_string_buffer(size + LINE)
        self._fabric = ctypes.c_void_p(-(-ctypes.addressof(self._memory) // LINE) * LINE)
        loaded.switch_init(self._fabric, ctypes.c_uint64(int(age_s * 1e9)))
        work = ctypes.cast(loaded.switch_work, ctypes.c_void_p).value
        self.task = TaskState(work=work, of=self._fabric.value)
        self.ports: dict[int, SwitchPort] = {}

    def add(self) -> SwitchPort:
        """A new port; open() or attach() gives it rings. Raises ValueError when the switch is full."""
        port = SwitchPort()
        index = soft_library().switch_add(self._fabric, ctypes.byref(port.state))
        if index < 0:
            raise ValueError(f"the switch has {SWITCH_PORTS} ports already")
        self.ports[index] = port
        port.state.switch = self
        return port

    def remove(self, port: SwitchPort) -> None:
        """Close its rings and forget the addresses seen there."""
        port.close()
        soft_library().switch_remove(self._fabric, ctypes.byref(port.state))
        del self.ports[port.index]


@lru_cache(maxsize=1)
def soft_library() -> ctypes.PyDLL:
    """The C library, after a check of the layout of the structures here. Raises LibraryError."""
    loaded = service_library()
    count = ctypes.c_uint32.in_dll(loaded, "soft_layout_count").value
    if tuple((ctypes.c_uint32 * count).in_dll(loaded, "soft_layout")) != LAYOUT:
        raise another_version()
    return loaded


# The same list as soft_layout in soft.c.
LAYOUT = (
    ctypes.sizeof(MonitorState),
    ctypes.sizeof(HostState),
    ctypes.sizeof(PortState),
    ctypes.sizeof(TaskState),
    int(MonitorState.frames.offset),  # type: ignore[attr-defined]
    int(HostState.fd.offset),  # type: ignore[attr-defined]
    int(HostState.drops.offset),  # type: ignore[attr-defined]
    int(PortState.index.offset),  # type: ignore[attr-defined]
    int(PortState.refused.offset),  # type: ignore[attr-defined]
    SWITCH_PORTS,
)
