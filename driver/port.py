"""A port: an 82599 with netmap-shaped rings."""

from __future__ import annotations

import time
import types
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from select import POLLIN, POLLOUT

import numpy as np
import numpy.typing as npt

from ixrings.hw.attributes import Guarded
from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers
from ixrings.rings import Add, Read, Region, RxRing, Span, TxRing, Write
from ixrings.rings.hotloop import Forward

from . import filters, forked
from .bringup import Session
from .checks import require
from .clock import Clock
from .config import OnePortOptions, frame_size, mac_list
from .doorbells import join
from .errors import LinkDown, PortClosed, PortError, PortTimeout
from .frames import VLAN_TAG, Frame, RingBytes, receive_frames, send_frames
from .leds import blinking
from .link import Link, read_link, wait_link
from .offload import Offload
from .options import rows_of
from .received import Received
from .rss import Rss
from .sfp import Module, read_module
from .statistics import PortStatistics
from .steering import Filters
from .vlan import Vlan
from .waiting import Side, settle, settle_receive, settle_transmit, wait_until, why_unsent

CRC = 4


class Port(Guarded):
    """An open port, returned by open_port(). A context manager.

    name: the name it was opened by.
    rx_rings, tx_rings: netmap rings (rings.RxRing, rings.TxRing), in ringid order.
    buffers: every packet buffer of the region, uint8, shape (total_buffers, buf_size), indexed by a slot's buf_idx.
    region, if_offset: the shared memory, and the offset of this port's netmap_if in it. Another process needs only
        region.fd, region.size and if_offset.
    nic: the registers; try `port.nic.LINKS` at a prompt.

    One thread may send (send, txsync, flush) while another receives (recv, rxsync), and others read link, stats() and
    registers. poll(), forward() and close() use both directions and are for a single thread; so is every call on a port
    whose fileno() is in use. Every method of a closed port raises PortClosed. If the
    device is gone, methods raise hw.errors.DeviceGone.
    """

    __slots__ = (
        "__weakref__", "_all_multicast", "_forwards",
        "_inherited", "_promiscuous", "_rx_bytes", "_session", "_tx_bytes", "_undo",
        "name",
    )  # fmt: skip

    def __init__(self, name: str, session: Session, undo: ExitStack) -> None:
        self.name = name
        self._session: Session | None = session
        self._undo = undo
        self._inherited: Session | None = None  # in a forked child: the parent's
        forked.OPEN.add(self)
        weakref.finalize(self, undo.close).atexit = False  # at exit the kernel cleans up
        self._promiscuous = session.options["promiscuous"]
        self._all_multicast = False
        self._forwards: dict[Port, Forward] = {}
        self._tx_bytes = [RingBytes(ring, session.interface.buffers) for ring in session.interface.tx_rings]
        self._rx_bytes = [RingBytes(ring, session.interface.buffers) for ring in session.interface.rx_rings]

    def _unsettable(self, name: str) -> str:
        if name in rows_of(OnePortOptions):
            return f"{name} is chosen when the port opens: open_port(..., {name}=...)"
        return super()._unsettable(name)

    # ---- parts ----

    def _open(self) -> Session:
        if self._session is None:
            if self._inherited is not None:
                raise PortError(forked.sentence(self.name))
            raise PortClosed(f"port {self.name} is closed; open it again with open_port({self.name!r})")
        return self._session

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._session is None

    @property
    def tx_rings(self) -> list[TxRing]:
        return self._open().interface.tx_rings

    @property
    def rx_rings(self) -> list[RxRing]:
        return self._open().interface.rx_rings

    @property
    def buffers(self) -> npt.NDArray[np.uint8]:
        return self._open().interface.buffers

    @property
    def region(self) -> Region:
        return (self._inherited or self._open()).region

    @property
    def if_offset(self) -> int:
        return (self._inherited or self._open()).interface.offset

    @property
    def memory(self) -> str:
        """The pages of packets and descriptors, such as "4 KiB pages" or "2 MiB hugepages and 4 KiB pages"."""
        session = self._open()
        sizes = {session.region.page_size, *(each.page_size for each in session.memory)}
        return " and ".join(
            f"{size >> 20} MiB hugepages" if size >= 1 << 20 else f"{size >> 10} KiB pages"
            for size in sorted(sizes, reverse=True)
        )

    @property
    def device(self) -> Device:
        return self._open().device

    @property
    def nic(self) -> Registers:
        return self._open().nic

    # ---- settings and state ----

    @property
    def mtu(self) -> int:
        """Bytes of payload a frame may carry. Set by open_port()."""
        return self._open().options["mtu"]

    @property
    def mac(self) -> str:
        """The address of accepted unicast frames. May be set, to a string or six bytes; raises ValueError."""
        return filters.read_mac(self.nic).hex(":")

    @mac.setter
    def mac(self, address: str | bytes) -> None:
        filters.write_mac(self.nic, address)

    @property
    def promiscuous(self) -> bool:
        """Whether every good frame is received, whatever its destination address. May be set."""
        return self._promiscuous

    @promiscuous.setter
    def promiscuous(self, on: bool) -> None:
        require("port.promiscuous", on, bool)
        filters.set_promiscuous(self.nic, everything=on, all_multicast=self._all_multicast)
        self._promiscuous = on

    def set_multicast(self, groups: Iterable[str | bytes], *, everything: bool = False) -> None:
        """Receive these groups instead of the previous ones. everything: receive all multicast.

        The filter is a hash of 12 bits, so frames of other groups may be received too (82599 8.2.3.7.7). Raises
        ValueError.
        """
        filters.write_multicast(self.nic, mac_list("set_multicast()", groups))
        if everything != self._all_multicast:
            filters.set_promiscuous(self.nic, everything=self._promiscuous, all_multicast=everything)
            self._all_multicast = everything

    @property
    def vlan(self) -> Vlan:
        """The VLANs that are received (`port.vlan.filter = {5, 7}`), and tag stripping (`port.vlan.strip = True`)."""
        session = self._open()
        return Vlan(session.nic, [ring.ringid for ring in session.interface.rx_rings])

    @property
    def rss(self) -> Rss:
        """How flows are spread over receive queues: key, table and headers. Each may be set."""
        return Rss(self.nic, self._open().options["rx_queues"])

    @property
    def filters(self) -> Filters:
        """The filters that choose a queue for a frame: a collection with add(), remove(), clear()."""
        session = self._open()
        return Filters(session.nic, session.options["rx_queues"], session.director)

    @property
    def clock(self) -> Clock:
        """The NIC's IEEE 1588 clock. The first use starts the clock and its time stamps.

        Raises PortError if all EtherType filters are in use.
        """
        session = self._open()
        if session.clock is None:
            session.clock = Clock(session.nic)
        return session.clock

    @property
    def link(self) -> Link:
        """The link now: up, speed_mbps, and the reason if it is down."""
        session = self._open()
        return read_link(session.device, session.nic)

    @property
    def sfp(self) -> Module | None:
        """The SFP+ module; None for an empty cage. Each use reads it again, at 100 kHz. Raises DeviceError."""
        return read_module(self.nic)

    def identify(self, seconds: float = 10.0) -> None:
        """Blink the port's LEDs for `seconds`, so that you find its cage (as ethtool -p). Traffic continues."""
        require("identify()", seconds, float)
        with blinking(self.nic):
            time.sleep(seconds)

    def wait_link(self, timeout: float = 10.0) -> Link:
        """Wait up to `timeout` seconds for the link. Raises LinkDown with the reason."""
        require("wait_link()", timeout, float)
        session = self._open()
        link = wait_link(session.device, session.nic, timeout)
        if not link.up:
            raise LinkDown(f"{self.name}: no link after {timeout:g} s: {link.reason}")
        return link

    def stats(self) -> PortStatistics:
        """The NIC's own counters since open_port(), which do not overflow; see PortStatistics. Raises DeviceGone."""
        session = self._open()
        session.accumulate()
        return session.statistics.totals()

    # ---- rings ----

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

    def received(self, ring: RxRing, span: Span) -> Received:
        """What the NIC reports about frames: checksums, RSS hash, stripped VLAN tag.

        span: from `ring.reserve()`. Call it before the slots are released and synced, as with their bytes. Raises
        ValueError for a ring of another port.
        """
        session = self._open()
        if any(queue.ring is ring for queue in session.rx):
            return Received(session.descriptors(ring)[span.start : span.start + len(span)])
        require("received()", ring, RxRing, "one of port.rx_rings, and a span of it")
        raise ValueError(f"{ring.name} is not a receive ring of {self.name}; take one of port.rx_rings")

    def forward(self, to: Port, limit: int = 256) -> int:
        """Move up to `limit` received frames from each RX ring to the TX rings of `to`. Returns how many moved.

        The frames' buffers are swapped, not copied. RX ring k feeds TX ring k modulo their number. Both ports must
        share a region: open them with open_ports(). Those rings are synced, too. Raises ValueError if the regions
        differ or the limit exceeds 32 bits, rings.RingError, DeviceGone, DmaRefused.
        """
        try:
            session, target = self._session or self._open(), to._session or to._open()
        except AttributeError:
            require("forward()", to, Port, "another port; open both with open_ports()")
            raise
        pairs = self._forwards.get(to)
        if pairs is None:
            # Drop closed ports: an entry would keep their memory.
            self._forwards = {port: each for port, each in self._forwards.items() if not port.closed}
            pairs = self._forwards[to] = self._join(session, target, to)
        moved = pairs(limit)
        if pairs.attention:
            session.look_after()
            target.look_after()
        settle((session,))
        if target.selectable:
            settle_transmit(target)
        return moved

    def _join(self, session: Session, target: Session, to: Port) -> Forward:
        if not session.rx or not target.tx:
            raise PortError(
                f"{self.name} has {len(session.rx)} receive rings and {to.name} {len(target.tx)} transmit rings; "
                "forwarding needs one of each. Open the ports without /T and /R"
            )
        return join(
            session.device, target.device, *((rx, target.tx[i % len(target.tx)]) for i, rx in enumerate(session.rx))
        )

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

    def _ready(self, session: Session, events: int) -> int:
        if session.tx_sync() | session.rx_sync():
            session.look_after()
        found = POLLIN if events & POLLIN and session.received() else 0
        return (
            found | POLLOUT
            if events & POLLOUT and any(each.cur != each.tail for each in session.interface.tx_rings)
            else found
        )

    def fileno(self) -> int:
        """A descriptor for select, selectors and asyncio: readable when frames arrived, or a full TX ring got room.

        The first call switches interrupts on. When the descriptor is readable, call recv(0), poll(0), forward() or
        rxsync() (and txsync() if you wait for room), and take what is in the rings. It stays readable until such a call
        finds nothing. It may become readable once more without a frame, for an interrupt that was pending. The port
        owns the descriptor: do not close it.
        """
        session = self._open()
        if not session.selectable:
            session.selectable = True
            session.rx_sync()
            settle_receive(session, session.interrupts.drain_receive() or session.received())
        return session.interrupts.fileno()

    def flush(self, timeout: float | None = 10.0) -> None:
        """Give the advanced slots to the NIC and wait until it has sent them all. timeout: seconds, None for no limit.

        Raises PortTimeout, PortStuck, rings.RingError, DeviceGone, DmaRefused.
        """
        session = self._open()

        def sent() -> int:
            if session.tx_sync():
                session.look_after()
            return not any(ring.pending for ring in session.interface.tx_rings)

        if not wait_until([session], sent, Side.TX, timeout, session.options["busy_poll"]):
            raise PortTimeout(f"{self.name}: frames are still unsent after {timeout} s: {why_unsent(session)}")

    # ---- frames as bytes ----

    def send(
        self, frames: Iterable[Frame], timeout: float | None = 10.0, ring: int = 0, offload: Offload | None = None
    ) -> int:
        """Copy `frames` to TX ring `ring` and start sending. Returns how many.

        frames: bytes without CRC, or other buffers of bytes. A frame longer than a buffer takes several slots.
        timeout: seconds of each wait for room, None for no limit.
        offload: what the NIC does to each frame, such as Offload(checksums=True), Offload(vlan=5), or
            Offload(mss=1448) to segment it.

        Raises PortTimeout, PortStuck, PortError for a ring that is not there, ValueError for a frame of the wrong size,
        TypeError for one that is not bytes. Frames before that frame are sent.
        """
        session = self._open()
        require("send(ring=...)", ring, int, "the number of a TX ring")
        require("send(offload=...)", offload, Offload | None, "an Offload, such as Offload(checksums=True)")
        if not 0 <= ring < len(self._tx_bytes):
            raise PortError(f"{self.name} has no TX ring {ring}; it has {len(self._tx_bytes)} TX rings")
        slots = self._tx_bytes[ring]
        longest = frame_size(session.options) - CRC + VLAN_TAG

        def wait_for_room(needed: int) -> None:
            if needed >= slots.ring.num_slots:
                raise ValueError(
                    f"a frame of {needed} slots does not fit a ring of {slots.ring.num_slots}; open the port with more "
                    "tx_slots"
                )

            def room() -> int:
                if session.tx_sync():
                    session.look_after()
                return slots.ring.space >= needed

            if not wait_until([session], room, Side.TX, timeout, session.options["busy_poll"]):
                raise PortTimeout(f"{self.name}: no room to send within {timeout} s: {why_unsent(session)}")

        return send_frames(slots, frames, longest, wait_for_room, self.txsync, offload)

    def recv(self, timeout: float | None = None) -> Iterator[bytes]:
        """Frames without CRC as they arrive, from all RX rings.

        Ends if no frame arrives for `timeout` seconds (None: never). Each frame leaves its ring when it is yielded, so
        the loop may stop at any time without loss. Warns once (NothingReceived) if the port has never received a frame
        although frames came: the NIC's counters say where they went.
        """
        session = self._open()

        def rings() -> Iterable[RingBytes]:
            self._open()
            return self._rx_bytes

        def received() -> int:
            if session.rx_sync():
                session.look_after()
            return session.received()

        def wait() -> int:
            self._open()  # the port may have been closed between two frames
            found = wait_until([session], received, Side.RX, timeout, session.options["busy_poll"])
            settle((session,))
            if not found and timeout:
                session.warn_of_losses(self.name)
            return found

        return receive_frames(rings, session.rx_sync, wait)

    # ---- closing ----

    def close(self) -> None:
        """Stop the NIC, then release everything. Unsent frames are lost: call flush() first. May be called again.

        A port that is dropped without close() is closed by garbage collection, as long as the program runs. In a forked
        child close() releases the child's copies of the descriptors and does not touch the device.

        If the device does not stop, it is reset and everything is released; then DeviceError is raised.
        """
        self._session = None
        self._inherited = None
        self._forwards.clear()
        self._tx_bytes, self._rx_bytes = [], []
        try:
            self._undo.close()
        except KeyboardInterrupt:
            # Ctrl-C between two steps leaves the rest on the stack. Ctrl-C inside a step does not skip the others.
            self._undo.close()
            raise

    def leave(self, sentence: str) -> None:
        """In a forked child: the port belongs to the parent. Undo nothing, and refuse each use (forked.py)."""
        session, self._session = self._session, None
        self._undo.pop_all()
        self._forwards.clear()
        if session is not None:
            self._inherited = session
            session.leave(sentence)

    def __enter__(self) -> Port:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        session = self._session
        if session is None:
            return f"<Port {self.name} ({'the parent process owns it' if self._inherited else 'closed'})>"
        try:
            link = f"link {read_link(session.device, session.nic)}"
        except DeviceError:
            link = "the NIC no longer answers"
        return f"<Port {self.name}: {len(session.tx)} TX and {len(session.rx)} RX rings, {link}>"


def poll_ports(
    ports: Sequence[Port], timeout: float | None = None, events: int = POLLIN, busy: bool | None = None
) -> list[tuple[Port, int]]:
    """Port.poll() for several ports. Returns the ports that are ready, each with its events; none after `timeout` s.

    Unlike fileno(), it needs no interrupt while frames keep arriving. Raises rings.RingError, DeviceGone, DmaRefused,
    PortStuck.
    """
    if not ports:
        raise PortError("poll_ports() needs one port or more")
    try:
        sessions = [port._open() for port in ports]
    except (TypeError, AttributeError):
        raise TypeError(f"poll_ports() takes a list of ports, such as poll_ports([port]), not {ports!r}") from None
    found: list[tuple[Port, int]] = []

    def ready() -> int:
        found[:] = [
            (port, of_port) for port, session in zip(ports, sessions) if (of_port := port._ready(session, events))
        ]
        return len(found)

    side = (Side.RX if events & POLLIN else Side.NONE) | (Side.TX if events & POLLOUT else Side.NONE)
    wait_until(
        sessions,
        ready,
        side,
        timeout,
        any(session.options["busy_poll"] for session in sessions) if busy is None else busy,
    )
    settle(sessions)
    return found
