"""A port: an 82599 with netmap-shaped rings."""

from __future__ import annotations

import time
import types
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ixrings.hw.attributes import always, or_nothing
from ixrings.hw.device import Device
from ixrings.hw.registers import Registers
from ixrings.rings import Region, RxRing, Span, TxRing

from . import forked
from .checks import require
from .clock import Clock
from .config import OnePortOptions, mac_list
from .errors import ERRORS, LinkDown, PortError, PortTimeout
from .event_loop import arriving
from .frames import Frame, RingBytes, receive_frames, send_frames
from .hosted import HostedVfs
from .leds import blinking
from .link import Link, wait_link
from .offload import Offload
from .options import rows_of
from .queue import Queue, Syncing
from .queue_set import PortSet
from .received import Received
from .rss import Rss
from .session import Session
from .sfp import Module, read_module
from .share import Share, Shares
from .statistics import PortStatistics
from .steering import Filters
from .vf import Vf
from .vlan import Vlan
from .waiting import Side, settle, wait_until


class Port(Syncing):
    """An open port, returned by open_port(). A context manager.

    name: the name it was opened by.
    rx_rings, tx_rings: netmap rings (rings.RxRing, rings.TxRing), in ringid order.
    buffers: every packet buffer of the region, uint8, shape (total_buffers, buf_size), indexed by a slot's buf_idx.
    region, if_offset: the shared memory, and the offset of this port's netmap_if in it. Another process needs only
        region.fd, region.size and if_offset.
    nic: the registers; try `port.nic.LINKS` at a prompt. A port on a virtual function has `port.vf.nic.VFLINKS`.

    One thread may send (send, txsync, flush) while another receives (recv, rxsync), and others read link, stats() and
    registers. poll() and forward() use both directions and are for a single thread; so is every call on a port whose
    fileno() is in use. For more threads see queue(). close() may be called by any thread. Every method of a closed
    port raises PortClosed. If the device is gone, methods raise hw.errors.DeviceGone.
    """

    __slots__ = (
        "_queues", "_rx_bytes", "_shares", "_tx_bytes", "_undo",
    )  # fmt: skip
    _session: PortSet | None
    _inherited: PortSet | None

    def __init__(self, name: str, session: PortSet, undo: ExitStack) -> None:
        super().__init__(name, session)
        self._undo = undo
        self._shares = Shares()
        undo.callback(self._shares.revoke)
        undo.callback(session.close_gate)  # the first step of close(): from then on nobody shares or reclaims a queue
        forked.OPEN.add(self)
        weakref.finalize(self, undo.close).atexit = False  # at exit the kernel cleans up
        self._queues: WeakValueDictionary[int, Queue] = WeakValueDictionary()  # a queue keeps its port
        self._tx_bytes = [RingBytes(ring, session.interface.buffers) for ring in session.interface.tx_rings]
        self._rx_bytes = [RingBytes(ring, session.interface.buffers) for ring in session.interface.rx_rings]

    def _unsettable(self, name: str) -> str:
        if name in rows_of(OnePortOptions):
            return f"{name} is chosen when the port opens: open_port(..., {name}=...)"
        return super()._unsettable(name)

    # ---- parts ----

    if TYPE_CHECKING:

        def _open(self) -> PortSet: ...

    def _owned(self) -> Session:
        """What only the program that opened the NIC has. Raises PortError in a program that has a handle of it."""
        session = self._open()
        assert isinstance(session, Session)
        return session

    @property
    def tx_rings(self) -> list[TxRing]:
        return self._open().interface.tx_rings

    @property
    def rx_rings(self) -> list[RxRing]:
        return self._open().interface.rx_rings

    @property
    def region(self) -> Region:
        return (self._inherited or self._open()).region

    @property
    def if_offset(self) -> int:
        return (self._inherited or self._open()).interface.offset

    @property
    def extra_bufs(self) -> list[int]:
        """Indices of the buffers besides those in rings, as the list at ni_bufs_head has them. Raises RegionError."""
        return self._open().interface.extra_buffers()

    @property
    def memory(self) -> str:
        """The pages of packets and descriptors, such as "4 KiB pages" or "2 MiB hugepages and 4 KiB pages"."""
        session = self._owned()
        sizes = {session.region.page_size, *(each.page_size for each in session.memory)}
        return " and ".join(
            f"{size >> 20} MiB hugepages" if size >= 1 << 20 else f"{size >> 10} KiB pages"
            for size in sorted(sizes, reverse=True)
        )

    @property
    def device(self) -> Device:
        return self._owned().device

    @property
    def nic(self) -> Registers:
        return self._owned().nic

    @property
    def vf(self) -> Vf:
        """What only a port on a virtual function has: its registers, what the PF grants, further addresses.

        Raises PortError for a port on a physical function.
        """
        return Vf(self._owned().vf)

    @property
    def vfs(self) -> HostedVfs:
        """The virtual functions of this port's NIC, which the port serves: `port.vfs[0].vlan = 5`.

        Raises PortError if the NIC had none when the port was opened.
        """
        return HostedVfs(self._owned().hosting)

    # ---- settings and state ----

    @property
    def mtu(self) -> int:
        """Bytes of payload a frame may carry. Set by open_port()."""
        return self._owned().options["mtu"]

    @property
    def mac(self) -> str:
        """The address of accepted unicast frames. May be set, to a string or six bytes; raises ValueError."""
        return self._owned().function.mac().hex(":")

    @mac.setter
    def mac(self, address: str | bytes) -> None:
        self._owned().function.set_mac(address)

    @property
    def promiscuous(self) -> bool:
        """Whether every good frame is received, whatever its destination address. May be set."""
        return self._owned().function.promiscuous

    @promiscuous.setter
    def promiscuous(self, on: bool) -> None:
        require("port.promiscuous", on, bool)
        self._owned().function.set_promiscuous(on)

    def set_multicast(self, groups: Iterable[str | bytes], *, everything: bool = False) -> None:
        """Receive these groups instead of the previous ones. everything: receive all multicast.

        The filter is a hash of 12 bits, so frames of other groups may be received too (82599 8.2.3.7.7). Raises
        ValueError.
        """
        self._owned().function.set_multicast(mac_list("set_multicast()", groups), everything=everything)

    @property
    def vlan(self) -> Vlan:
        """The VLANs that are received (`port.vlan.filter = {5, 7}`), and tag stripping (`port.vlan.strip = True`)."""
        session = self._owned()
        return session.function.vlan([ring.ringid for ring in session.interface.rx_rings])

    @property
    def rss(self) -> Rss:
        """How flows are spread over receive queues: key, table and headers. Each may be set."""
        session = self._owned()
        return Rss(session.pf("rss").nic, session.options["rx_queues"])

    @property
    def filters(self) -> Filters:
        """The filters that choose a queue for a frame: a collection with add(), remove(), clear()."""
        session = self._owned()
        pf = session.pf("filters")
        return Filters(pf.nic, session.options["rx_queues"], pf.director)

    @property
    def clock(self) -> Clock:
        """The NIC's IEEE 1588 clock. The first use starts the clock and its time stamps.

        Raises PortError if all EtherType filters are in use.
        """
        return self._owned().pf("clock").clock

    @property
    def link(self) -> Link:
        """The link now: up, speed_mbps, and the reason if it is down."""
        return self._owned().function.link()

    @property
    def sfp(self) -> Module | None:
        """The SFP+ module; None for an empty cage. Each use reads it again, at 100 kHz. Raises DeviceError."""
        return read_module(self._owned().pf("sfp").nic)

    def identify(self, seconds: float = 10.0) -> None:
        """Blink the port's LEDs for `seconds`, so that you find its cage (as ethtool -p). Traffic continues."""
        require("identify()", seconds, float)
        with blinking(self._owned().pf("identify()").nic):
            time.sleep(seconds)

    def wait_link(self, timeout: float = 10.0) -> Link:
        """Wait up to `timeout` seconds for the link. Raises LinkDown with the reason."""
        require("wait_link()", timeout, float)
        link = wait_link(self._owned().function.link, timeout)
        if not link.up:
            raise LinkDown(f"{self.name}: no link after {timeout:g} s: {link.reason}")
        return link

    def stats(self) -> PortStatistics:
        """The NIC's own counters since open_port(), which do not overflow; see PortStatistics. Raises DeviceGone."""
        session = self._owned()
        session.accumulate()
        return session.statistics.totals()

    # ---- queues ----

    def queue(self, index: int) -> Queue:
        """Queue `index`: its TX ring and its RX ring, for a thread of its own. The same object each time.

        One thread at a time may use a queue; other queues may be used by other threads at the same time. While they
        are, call no method of the port that syncs or waits (README.md, "Threads and asyncio"). The queue keeps its port
        open. Raises PortError for a queue that is not there.
        """
        session = self._open()
        require("queue()", index, int, "the number of a queue: 0, 1 and so on")
        if index not in session.numbers():
            raise PortError(self._no_queue(session, index))
        self._shares.check(index)
        with session.gate, session.making:
            queue = self._queues.get(index)
            if queue is None:
                queue = self._queues[index] = Queue(session.queue(index), self)
            return queue

    def share(self, index: int) -> Share:
        """A handle of queue `index` for another process of the same user, which syncs the queue itself.

        Pass it to multiprocessing.Process (spawn or forkserver), or send it through a Unix socket; there,
        `with handle.open() as queue` gives what port.queue(index) gives. Meanwhile the port leaves the queue alone.
        `handle.reclaim()` gets it back, also from a worker that was killed. Wait for workers with `handle.wait()`, or
        call the port every 20 seconds: the NIC's counters are read here. Raises PortError for a queue that is not there
        or is shared already, DeviceError if the way to the NIC cannot be shared.
        """
        session = self._owned()
        require("share()", index, int, "the number of a queue: 0, 1 and so on")
        if index not in session.numbers():
            raise PortError(self._no_queue(session, index))
        with session.gate, session.making:
            share = self._shares.share(session, index)
            self._queues.pop(index, None)
            return share

    def _no_queue(self, session: PortSet, index: int) -> str:
        there = ", ".join(map(str, sorted(session.numbers()))) or "none"
        return f"{self.name} has no queue {index}; it has {there}{session.more_queues(index)}"

    def received(self, ring: RxRing, span: Span) -> Received:
        """What the NIC reports about frames: checksums, RSS hash, stripped VLAN tag.

        span: from `ring.reserve()`. Call it before the slots are released and synced, as with their bytes. Raises
        ValueError for a ring of another port.
        """
        session = self._open()
        if any(each is ring for each in session.rx_rings):
            return Received(session.descriptors(ring)[span.start : span.start + len(span)])
        require("received()", ring, RxRing, "one of port.rx_rings, and a span of it")
        raise ValueError(f"{ring.name} is not a receive ring of {self.name}; take one of port.rx_rings")

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

            if not wait_until([session], room, Side.TX, timeout, session.busy_poll):
                raise PortTimeout(f"{self.name}: no room to send within {timeout} s: {session.why_unsent()}")

        return send_frames(slots, frames, session.longest, wait_for_room, self.txsync, offload)

    def recv(self, timeout: float | None = None) -> Iterator[bytes]:
        """Frames without CRC as they arrive, from all RX rings.

        Ends if no frame arrives for `timeout` seconds (None: never). Each frame leaves its ring when it is yielded, so
        the loop may stop at any time without loss. Warns once (NothingReceived) if the port has never received a frame
        although frames came: the NIC's counters say where they went.
        """
        session = self._open()

        def rings() -> Iterable[RingBytes]:
            shared = self._open().shared
            return [each for each in self._rx_bytes if each.ring.ringid not in shared] if shared else self._rx_bytes

        def received() -> int:
            if session.rx_sync():
                session.look_after()
            return session.received()

        def wait() -> int:
            self._open()  # the port may have been closed between two frames
            found = wait_until([session], received, Side.RX, timeout, session.busy_poll)
            settle((session,))
            if not found and timeout:
                session.warn_of_losses(self.name)
            return found

        return receive_frames(rings, session.rx_sync, wait)

    def frames(self) -> AsyncIterator[bytes]:
        """Frames as recv() gives them, for asyncio: `async for frame in port.frames()`.

        Other tasks run while none comes, and after every 64 frames. fileno() belongs to this loop meanwhile. Raises
        what recv() raises, and PortClosed within a second after another task has closed the port.
        """
        return arriving(self._open, self.fileno(), lambda: self.recv(timeout=0))

    # ---- closing ----

    def close(self) -> None:
        """Stop the NIC, then release everything. Unsent frames are lost: call flush() first. May be called again.

        A port that is dropped without close() is closed by garbage collection, as long as the program runs. In a forked
        child close() releases the child's copies of the descriptors and does not touch the device.

        If the device does not stop, it is reset and everything is released; then DeviceError is raised.
        """
        self._end()
        for queue in list(self._queues.values()):
            queue._end()
        self._tx_bytes, self._rx_bytes = [], []
        try:
            self._undo.close()
        except KeyboardInterrupt:
            # Ctrl-C between two steps leaves the rest on the stack. Ctrl-C inside a step does not skip the others.
            self._undo.close()
            raise

    def leave(self, sentence: str) -> None:
        """In a forked child: the port belongs to the parent. Undo nothing, and refuse each use (forked.py)."""
        session = self._session
        self._undo.pop_all()
        self._end(inherited=True)
        for queue in list(self._queues.values()):
            queue._end(inherited=True)
        if session is not None:
            self._shares.leave()
            session.leave(sentence)

    def __enter__(self) -> Port:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    @always
    def __repr__(self) -> str:
        session = self._session
        if session is None:
            return f"<Port {self.name}, {'of the parent process' if self._inherited else 'closed'}>"
        tx, rx = len(session.interface.tx_rings), len(session.interface.rx_rings)
        rings = f"{tx} TX {rx} RX ring{'s' * (max(tx, rx) > 1)}"
        try:
            with session.gate:
                link = session.function.glance() if isinstance(session, Session) else self.link
                state = f"up {link.speed_mbps / 1000:g} Gbit/s" if link.up else "down"
                why = f": {link.reason}" if link.reason else ""
                return f"<Port {self.name}, {state}, {self.mac}, {rings}{why}>"
        except ERRORS as error:
            return f"<Port {self.name}, {rings}: {error}>"

    @or_nothing
    def _repr_html_(self) -> str:
        from .notebook import port_html

        session = self._open()
        with session.gate:
            return port_html(repr(self)[1:-1], session)
