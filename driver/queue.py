"""What a port and each of its queues do with their rings: sync, wait, forward. And Queue, one queue of a port."""

from __future__ import annotations

from collections.abc import Sequence
from select import POLLIN, POLLOUT
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ixrings.hw.attributes import Guarded, always
from ixrings.rings import Add, Read, RegionError, RxRing, Span, TxRing, Write

from . import forked
from .checks import require
from .errors import PortClosed, PortError, PortTimeout
from .gate import closed
from .queue_set import Moving, QueueSet
from .received import Received
from .waiting import Side, settle, settle_receive, settle_transmit, wait_until

AnySyncing = TypeVar("AnySyncing", bound="Syncing")


class Syncing(Guarded):
    """The calls that sync and wait. A Port syncs all its queues, a Queue itself.

    name: in errors. One thread at a time may call them, but one may send (txsync, flush) while another receives
    (rxsync).
    """

    __slots__ = ("__weakref__", "_forwards", "_inherited", "_port", "_session", "name")

    def __init__(self, name: str, queues: QueueSet) -> None:
        self.name, self._port = name, queues.port
        self._session: QueueSet | None = queues
        self._inherited: QueueSet | None = None  # in a forked child: the parent's
        self._forwards: dict[Syncing, Moving] = {}

    def _open(self) -> QueueSet:
        if self._session is None:
            if self._inherited is not None:
                raise PortError(forked.sentence(self._inherited.port))
            raise PortClosed(closed(self._port))
        return self._session

    def _end(self, *, inherited: bool = False) -> None:
        """Refuse every further call. inherited: this is a forked child, and the port belongs to its parent."""
        self._inherited = self._session if inherited else None
        self._session = None
        self._forwards.clear()

    @property
    def closed(self) -> bool:
        """Whether close() of the port was called."""
        return self._session is None

    @property
    def buffers(self) -> npt.NDArray[np.uint8]:
        return self._open().interface.buffers

    # ---- bytes of a batch ----

    @property
    def read(self) -> Read:
        """Copy bytes of a span's frames into an array, such as `port.read(span, 60)`: see `help(port.read)`."""
        return (self._session or self._open()).interface.read

    @property
    def write(self) -> Write:
        """Copy rows of an array into a span's frames, such as `port.write(span, rows)`: see `help(port.write)`."""
        return (self._session or self._open()).interface.write

    @property
    def add(self) -> Add:
        """Add to a number in each of a span's frames, such as `port.add(span, -1, offset=22)`: see `help(port.add)`."""
        return (self._session or self._open()).interface.add

    # ---- rings ----

    def txsync(self) -> None:
        """Give the advanced slots of every TX ring to the NIC, and take back the slots that it has sent.

        Raises rings.RingError, DeviceGone, DmaRefused.
        """
        session = self._session or self._open()
        if session.tx_sync():
            session.look_after()
        if session.selectable:
            settle_transmit(session)

    def rxsync(self) -> None:
        """Give the released slots of every RX ring to the NIC, and take the slots that it has filled.

        Raises rings.RingError, DeviceGone, DmaRefused.
        """
        session = self._session or self._open()
        if session.rx_sync():
            session.look_after()
        if session.selectable:
            settle_receive(session)

    def forward(self, to: Syncing, limit: int = 256) -> int:
        """Move up to `limit` received frames from each RX ring to the TX rings of `to`, a port or a queue.

        Returns how many moved. The frames' buffers are swapped, not copied. RX ring k feeds TX ring k modulo their
        number. Both must share a region: open their ports with open_ports(). Those rings are synced, too. Raises
        ValueError if the regions differ or the limit exceeds 32 bits, rings.RingError, DeviceGone, DmaRefused.
        """
        try:
            session, target = self._session or self._open(), to._session or to._open()
        except AttributeError:
            require("forward()", to, Syncing, "another port or queue; open both ports with open_ports()")
            raise
        pairs = self._forwards.get(to)
        if pairs is None:
            pairs = self._joined(session, target, to)
        try:
            moved = pairs(limit)
        except RegionError:  # a queue of one of them was shared since, or came back
            pairs = self._joined(session, target, to)
            moved = pairs(limit)
        if pairs.attention:
            session.look_after()
            target.look_after()
        settle((session,))
        if target.selectable:
            settle_transmit(target)
        return moved

    def _joined(self, session: QueueSet, target: QueueSet, to: Syncing) -> Moving:
        with session.gate, target.gate:
            # Drop closed ports: an entry would keep their memory.
            self._forwards = {other: each for other, each in self._forwards.items() if not other.closed}
            pairs = self._forwards[to] = self._join(session, target, to)
            return pairs

    def _join(self, session: QueueSet, target: QueueSet, to: Syncing) -> Moving:
        if not session.rx_rings or not target.tx_rings:
            raise PortError(
                f"{self.name} has {len(session.rx_rings)} receive rings and {to.name} {len(target.tx_rings)} transmit "
                "rings; forwarding needs one of each. Open the ports without /T and /R"
            )
        return session.forward_to(target)

    # ---- waiting ----

    def poll(self, timeout: float | None = None, events: int = POLLIN, busy: bool | None = None) -> int:
        """As netmap's poll: sync TX and RX rings, then wait until a ring has cur != tail.

        timeout: seconds; None waits without limit, 0 does not wait. events: select.POLLIN (a frame to receive), POLLOUT
        (room to send), or both. Returns those that are ready, 0 after `timeout`. busy: spin instead of sleeping
        (default: busy_poll of open_port()). The GIL is released meanwhile. Raises rings.RingError, DeviceGone,
        DmaRefused, PortStuck.
        """
        ready = poll_ports([self], timeout, events, busy)
        return ready[0][1] if ready else 0

    def fileno(self) -> int:
        """A descriptor for select, selectors and asyncio: readable when frames arrived, or a full TX ring got room.

        The first call switches interrupts on. When the descriptor is readable, call recv(0), poll(0), forward() or
        rxsync() (and txsync() if you wait for room), and take what is in the rings. It stays readable until such a call
        finds nothing. It may become readable once more without a frame, for an interrupt that was pending. The port
        owns the descriptor: do not close it. Either the port or its queues may have one in use. Raises PortError if
        the other has, or if the NIC has too few interrupt vectors for each queue to have its own.
        """
        session = self._open()
        with session.gate:
            if not session.selectable:
                session.check_selectable()
                interrupts = session.interrupts
                session.selectable = True
                session.rx_sync()
                settle_receive(session, interrupts.drain_receive() or session.received())
            return session.interrupts.fileno()

    def flush(self, timeout: float | None = 10.0) -> None:
        """Give the advanced slots to the NIC and wait until it has sent them all. timeout: seconds, None for no limit.

        Raises PortTimeout, PortStuck, rings.RingError, DeviceGone, DmaRefused.
        """
        session = self._open()

        def sent() -> int:
            if session.tx_sync():
                session.look_after()
            return not session.pending()

        if not wait_until([session], sent, Side.TX, timeout, session.busy_poll):
            raise PortTimeout(f"{self.name}: frames are still unsent after {timeout} s: {session.why_unsent()}")


class Queue(Syncing):
    """One queue of a port, returned by Port.queue(). A thread may use it while other threads use other queues.

    name: `queue 2 of ...`. tx_ring, rx_ring: its netmap rings; None if the port has no such ring. buffers: every packet
    buffer of the region, uint8, shape (total_buffers, buf_size), indexed by a slot's buf_idx.

    Its methods do what those of Port do, for this queue alone. Only the port sends and receives frames as bytes, closes
    and has settings, link and stats().
    """

    __slots__ = ("_keeper", "rx_ring", "tx_ring")

    def __init__(self, queues: QueueSet, keeper: object = None) -> None:
        """queues: of one ring a direction, at most. keeper: stays in memory as long as this object."""
        super().__init__(queues.name, queues)
        self._keeper = keeper
        self.tx_ring: TxRing | None = next(iter(queues.tx_rings), None)
        self.rx_ring: RxRing | None = next(iter(queues.rx_rings), None)

    def received(self, span: Span) -> Received:
        """What the NIC reports about frames: checksums, RSS hash, stripped VLAN tag.

        span: from `queue.rx_ring.reserve()`. Call it before the slots are released and synced, as with their bytes.
        Raises PortError for a queue without an RX ring.
        """
        session = self._open()
        if self.rx_ring is None:
            raise PortError(f"{self.name} has no RX ring")
        return Received(session.descriptors(self.rx_ring)[span.start : span.start + len(span)])

    @always
    def __repr__(self) -> str:
        rings = [ring for ring in (self.tx_ring, self.rx_ring) if ring is not None]
        return f"<Queue {self.name}: {', '.join(map(repr, rings))}>"


def poll_ports(
    ports: Sequence[AnySyncing], timeout: float | None = None, events: int = POLLIN, busy: bool | None = None
) -> list[tuple[AnySyncing, int]]:
    """Port.poll() for several ports or queues. Returns those that are ready, each with its events; none after
    `timeout` s.

    Unlike fileno(), it needs no interrupt while frames keep arriving. Raises rings.RingError, DeviceGone, DmaRefused,
    PortStuck.
    """
    if not ports:
        raise PortError("poll_ports() needs one port or more")
    try:
        sets = [port._open() for port in ports]
    except (TypeError, AttributeError):
        raise TypeError(f"poll_ports() takes a list of ports, such as poll_ports([port]), not {ports!r}") from None
    found: list[tuple[AnySyncing, int]] = []

    def ready() -> int:
        found[:] = [(port, of_port) for port, queues in zip(ports, sets) if (of_port := sync_both(queues, events))]
        return len(found)

    side = (Side.RX if events & POLLIN else Side.NONE) | (Side.TX if events & POLLOUT else Side.NONE)
    wait_until(sets, ready, side, timeout, any(queues.busy_poll for queues in sets) if busy is None else busy)
    settle(sets)
    return found


def sync_both(queues: QueueSet, events: int) -> int:
    """Sync TX and RX. Returns which of the events are there then."""
    if queues.tx_sync() | queues.rx_sync():
        queues.look_after()
    found = POLLIN if events & POLLIN and queues.received() else 0
    return found | POLLOUT if events & POLLOUT and queues.has_some_room() else found
