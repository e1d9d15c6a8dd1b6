"""A port: an 82599 with netmap-shaped rings."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from select import POLLIN, POLLOUT

import numpy as np
import numpy.typing as npt

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers
from ixrings.rings import Region, RxRing, Span, TxRing
from ixrings.rings.hotloop import Forward

from . import filters
from .bringup import Session
from .clock import Clock
from .config import frame_size, mac_bytes
from .doorbells import join
from .errors import LinkDown, PortClosed, PortError, PortTimeout
from .frames import VLAN_TAG, Frame, RingBytes, receive_frames, send_frames
from .leds import blinking
from .link import Link, read_link, wait_link
from .offload import Offload
from .received import Received
from .rss import Rss
from .sfp import Module, read_module
from .statistics import PortStatistics
from .steering import Filters
from .vlan import Vlan
from .waiting import Side, settle_receive, settle_transmit, wait_until

CRC = 4


class Port:
    """An open port, made by open_port(). A context manager.

    name: as it was opened. rx_rings, tx_rings: netmap rings (rings.RxRing, rings.TxRing), in ringid order. buffers: every packet
    buffer of the region, uint8, shape (total_buffers, buf_size), indexed by a slot's buf_idx. region, if_offset: the shared
    memory and where this port's netmap_if is in it: region.fd, region.size and if_offset are all that another process needs.
    nic: the registers, `port.nic.LINKS` at a prompt.

    One thread may send (send, txsync, flush) while another receives (recv, rxsync); poll(), fileno(), forward() and close() look at
    both directions and are for a single thread. Every method of a closed port raises PortClosed. A device that is gone raises
    hw.register.DeviceGone.
    """

    def __init__(self, name: str, session: Session, undo: ExitStack) -> None:
        self.name = name
        self._session: Session | None = session
        self._undo = undo
        self._promiscuous = session.options["promiscuous"]
        self._all_multicast = False
        self._forwards: dict[Port, Forward] = {}
        self._tx_bytes = [RingBytes(ring, session.interface.buffers) for ring in session.interface.tx_rings]
        self._rx_bytes = [RingBytes(ring, session.interface.buffers) for ring in session.interface.rx_rings]

    # What it is made of

    def _open(self) -> Session:
        if self._session is None:
            raise PortClosed(f"port {self.name} is closed; open it again with open_port({self.name!r})")
        return self._session

    @property
    def closed(self) -> bool:
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
        return self._open().region

    @property
    def if_offset(self) -> int:
        return self._open().interface.offset

    @property
    def memory(self) -> str:
        """What packets and descriptors lie on: "2 MiB hugepages", "4 KiB pages", or "2 MiB hugepages and 4 KiB pages"."""
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

    # What it is set to

    @property
    def mtu(self) -> int:
        """Bytes of payload a frame may carry; chosen at open_port()."""
        return self._open().options["mtu"]

    @property
    def mac(self) -> str:
        """The address that unicast frames are accepted for; may be set, to a string or six bytes."""
        return filters.read_mac(self.nic).hex(":")

    @mac.setter
    def mac(self, address: str | bytes) -> None:
        filters.write_mac(self.nic, address)

    @property
    def promiscuous(self) -> bool:
        """Whether every good frame is received, whoever it is for."""
        return self._promiscuous

    @promiscuous.setter
    def promiscuous(self, on: bool) -> None:
        filters.set_promiscuous(self.nic, everything=on, all_multicast=self._all_multicast)
        self._promiscuous = on

    def set_multicast(self, groups: Iterable[str | bytes], *, everything: bool = False) -> None:
        """Receive these groups, in place of those before; `everything`: all multicast.

        The filter is a hash of 12 bits, so other groups may come through too (82599 8.2.3.7.7). Raises ValueError.
        """
        filters.write_multicast(self.nic, [mac_bytes(group) for group in groups])
        if everything != self._all_multicast:
            filters.set_promiscuous(self.nic, everything=self._promiscuous, all_multicast=everything)
            self._all_multicast = everything

    @property
    def vlan(self) -> Vlan:
        """Which VLANs are received (`port.vlan.filter = {5, 7}`), and whether tags are taken out (`port.vlan.strip = True`)."""
        session = self._open()
        return Vlan(session.nic, [ring.ringid for ring in session.interface.rx_rings])

    @property
    def rss(self) -> Rss:
        """How flows are spread over receive queues: key, table and headers, which may be set."""
        return Rss(self.nic, self._open().options["rx_queues"])

    @property
    def filters(self) -> Filters:
        """Frames that go to a queue of their own: a collection with add(), remove(), clear()."""
        session = self._open()
        return Filters(session.nic, session.options["rx_queues"], session.director)

    @property
    def clock(self) -> Clock:
        """The NIC's IEEE 1588 clock, which the first look starts, and time stamps with it. Raises PortError when all EtherType filters are in use."""
        session = self._open()
        if session.clock is None:
            session.clock = Clock(session.nic)
        return session.clock

    @property
    def link(self) -> Link:
        """As it is now: up, speed_mbps, and when it is down the reason."""
        session = self._open()
        return read_link(session.device, session.nic)

    @property
    def sfp(self) -> Module | None:
        """The SFP+ module as it describes itself, None for an empty cage. Read anew each time, at the 100 kHz of its bus. Raises DeviceError."""
        return read_module(self.nic)

    def identify(self, seconds: float = 10.0) -> None:
        """Blink the port's LEDs for so long, to find its cable: ethtool's -p. Frames go on meanwhile."""
        with blinking(self.nic):
            time.sleep(seconds)

    def wait_link(self, timeout: float = 10.0) -> Link:
        """Wait up to `timeout` seconds for the link; raises LinkDown with the reason."""
        session = self._open()
        link = wait_link(session.device, session.nic, timeout)
        if not link.up:
            raise LinkDown(f"{self.name}: no link after {timeout:g} s: {link.reason}")
        return link

    def stats(self) -> PortStatistics:
        """The NIC's own counters since open_port(), 64 bits and more; see PortStatistics."""
        session = self._open()
        session.accumulate()
        return session.statistics.totals()

    # Rings

    def txsync(self) -> None:
        """Hand over what was advanced on every TX ring, take back what was sent. Raises rings.RingError."""
        session = self._session or self._open()
        if session.tx_sync():
            session.look_after()
        if session.selectable:
            settle_transmit(session)

    def rxsync(self) -> None:
        """Give back what was advanced on every RX ring, take in what was received. Raises rings.RingError."""
        session = self._session or self._open()
        if session.rx_sync():
            session.look_after()
        if session.selectable:
            settle_receive(session)

    def received(self, ring: RxRing, span: Span) -> Received:
        """What the NIC says of the frames in `span`, which `ring.reserve()` gave: checksums, RSS hash, the VLAN tag it took out.

        Ask before the slots are released and synced, as with their bytes. Raises ValueError for a ring that is not this port's.
        """
        session = self._open()
        if any(queue.ring is ring for queue in session.rx):
            return Received(session.descriptors(ring)[span.start : span.start + len(span)])
        raise ValueError(f"{ring.name} is not a receive ring of {self.name}; take one of port.rx_rings")

    def forward(self, to: Port, limit: int = 256) -> int:
        """Move up to `limit` received frames from each RX ring to `to`'s TX rings by swapping buffers; returns how many moved.

        RX ring k feeds TX ring k, modulo their number. Both ports must share a region: open them with open_ports(). Syncs those
        rings, too. Raises ValueError when the regions differ or for a limit beyond 32 bits, rings.RingError.
        """
        session, target = self._session or self._open(), to._session or to._open()
        pairs = self._forwards.get(to)
        if pairs is None:
            self._forwards = {
                port: each for port, each in self._forwards.items() if not port.closed
            }  # or their memory would be kept
            pairs = self._forwards[to] = self._join(session, target, to)
        moved = pairs(limit)
        if pairs.attention:
            session.look_after()
            target.look_after()
        if session.selectable:
            settle_receive(session)
        return moved

    def _join(self, session: Session, target: Session, to: Port) -> Forward:
        if not session.rx or not target.tx:
            raise PortError(
                f"{self.name} has {len(session.rx)} receive rings and {to.name} {len(target.tx)} transmit rings; "
                "forwarding needs one of each: open them without /T and /R"
            )
        return join(
            session.device, target.device, *((rx, target.tx[i % len(target.tx)]) for i, rx in enumerate(session.rx))
        )

    # Waiting

    def poll(self, timeout: float | None = None, events: int = POLLIN, busy: bool | None = None) -> int:
        """As netmap's poll: TX rings are flushed, RX rings synced, then wait until one has cur != tail.

        timeout: seconds, None for ever, 0 not at all. events: select.POLLIN (a frame to receive), POLLOUT (room to send), or
        both; returns those that are ready, 0 after `timeout`. busy: spin instead of sleeping (default: busy_poll of
        open_port()). The GIL is free meanwhile. Raises rings.RingError, DeviceGone.
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
        """A descriptor that is readable when frames have come, or a full TX ring got room: for select, selectors, asyncio.

        From the first call on interrupts are in use. When it is readable, call rxsync(), and txsync() if you wait for room, and
        look at the rings; it stays readable until a sync finds nothing. It may be readable once more than that, for an interrupt
        that was pending. It belongs to the port: do not close it.
        """
        session = self._open()
        if not session.selectable:
            session.selectable = True
            session.rx_sync()
            settle_receive(session, session.interrupts.drain_receive() or session.received())
        return session.interrupts.fileno()

    def flush(self, timeout: float | None = 10.0) -> None:
        """Hand over what was advanced and wait until the NIC has sent all of it. Raises PortTimeout, DeviceGone."""
        session = self._open()

        def sent() -> int:
            if session.tx_sync():
                session.look_after()
            return not any(ring.pending for ring in session.interface.tx_rings)

        if not wait_until([session], sent, Side.TX, timeout, session.options["busy_poll"]):
            raise PortTimeout(f"{self.name}: frames are still unsent after {timeout} s: {self._why_unsent()}")

    def _why_unsent(self) -> str:
        link, session = self.link, self._open()
        if not link.up:
            return f"the link is {link}"
        for ring in session.interface.tx_rings:
            if ring.pending and session.nic.TDH[ring.ringid].read() == session.nic.TDT[ring.ringid].read():
                return (
                    f"queue {ring.ringid} has sent them (TDH is TDT), but its head write-back does not arrive (82599 7.2.3.5.2). "
                    "Close the port and open it again"
                )
        return "the link is up, but the wire does not take them fast enough"

    # Frames as bytes

    def send(
        self, frames: Iterable[Frame], timeout: float | None = 10.0, ring: int = 0, offload: Offload | None = None
    ) -> int:
        """Copy `frames` (bytes without CRC, or anything that is a buffer of bytes) to TX ring `ring` and start sending.

        Longer frames than a buffer take several slots. Returns how many. `offload`: what the NIC does to each of them, such as
        Offload(checksums=True), Offload(vlan=5), Offload(mss=1448) to cut it into many. `timeout` seconds bound each wait for room. Raises
        PortTimeout, ValueError for a frame of the wrong size; what came before that frame is sent.
        """
        session = self._open()
        if not 0 <= ring < len(self._tx_bytes):
            raise PortError(f"{self.name} has no TX ring {ring}; it has {len(self._tx_bytes)}")
        slots = self._tx_bytes[ring]
        longest = frame_size(session.options) - CRC + VLAN_TAG

        def wait_for_room(needed: int) -> None:
            if needed >= slots.ring.num_slots:
                raise ValueError(
                    f"a frame of {needed} slots does not fit a ring of {slots.ring.num_slots}; open the port with more tx_slots"
                )

            def room() -> int:
                if session.tx_sync():
                    session.look_after()
                return slots.ring.space >= needed

            if not wait_until([session], room, Side.TX, timeout, session.options["busy_poll"]):
                raise PortTimeout(f"{self.name}: no room to send within {timeout} s: {self._why_unsent()}")

        return send_frames(slots, frames, longest, wait_for_room, self.txsync, offload)

    def recv(self, timeout: float | None = None) -> Iterator[bytes]:
        """Frames without CRC as they come, from all RX rings; ends when none came for `timeout` seconds (None: never).

        A frame leaves its ring as it is handed out, so the loop may stop at any time and nothing is lost.
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
            self._open()  # it may have been closed between two frames
            return wait_until([session], received, Side.RX, timeout, session.options["busy_poll"])

        return receive_frames(rings, wait)

    # The end

    def close(self) -> None:
        """Stop the NIC, then release everything. Frames that were not sent are lost: flush() first. Closing twice is fine.

        A device that did not stop as it should is reset, released all the same, and reported by a DeviceError.
        """
        self._session = None
        self._forwards.clear()
        self._tx_bytes, self._rx_bytes = [], []
        try:
            self._undo.close()
        except KeyboardInterrupt:
            self._undo.close()  # what is left, if Ctrl-C fell between two steps; inside of one it does not keep the others from being taken
            raise

    def __del__(self) -> None:
        """An exception between open_port() and `with` leaves nobody to close it. At the end of the program the kernel does."""
        if getattr(self, "_session", None) is not None and not sys.is_finalizing():
            self.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Port {self.name}{' (closed)' if self.closed else ''}>"


def poll_ports(
    ports: Sequence[Port], timeout: float | None = None, events: int = POLLIN, busy: bool | None = None
) -> list[tuple[Port, int]]:
    """Port.poll() for several at once: those that are ready, and for what; none after `timeout` seconds.

    Costs no interrupt while frames keep coming, unlike fileno(), which has to be true at any time. Raises rings.RingError, DeviceGone.
    """
    if not ports:
        raise PortError("poll_ports() needs a port or more to wait for")
    sessions = [port._open() for port in ports]
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
    return found
