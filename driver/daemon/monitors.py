"""Monitors: what the rings of another port send and receive, shown to one more program.

Each open of a monitor is a port of its own. A copying monitor has its own memory, so its program sees no other packet
and can change none. A zero-copy monitor shares the memory of the port that it watches.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ixrings.rings import Interface, RxRing
from ixrings.rings.service import Kind
from ixrings.rings.soft import Monitor

from .abi import Flag, Register
from .errors import NothingToWatch
from .memories import Memories
from .null import make_rings
from .pool import Pool, Zone
from .ports import NetmapPort
from .rings import SharedRing, SoftRing

MOST_SLOTS = 4096


class MonitorRing(SoftRing):
    """Shows the frames of `watched` while a program has it."""

    def __init__(self, pool: Pool, ring: RxRing, watched: Sequence[SharedRing], zero_copy: bool) -> None:
        super().__init__(pool, ring)
        self._watched, self._zero_copy = watched, zero_copy
        self._monitor: Monitor | None = None

    def begin(self, zone: Zone) -> None:
        if self._zero_copy:  # buffers come with their offsets
            self.offsets = next((ring.offsets for ring in self._watched if ring.users and ring.offsets), None)
        super().begin(zone)
        self.kring.zone = zone.number
        self._monitor = Monitor(self.kring, zero_copy=self._zero_copy)
        for ring in self._watched:
            if ring.users:
                self._monitor.watch(ring.kring)
                ring.watchers.append(self)

    def lose(self, ring: SharedRing) -> None:
        if self._monitor is not None:
            self._monitor.leave(ring.kring)

    def end(self) -> None:
        """The port has no program any more: poll() of the monitor's program reports POLLERR from now on."""
        if self._monitor is not None:
            self._monitor.end()

    def stop(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
        self._monitor = None
        for ring in self._watched:
            if self in ring.watchers:
                ring.watchers.remove(self)


class MonitorPort(NetmapPort):
    """A port of one handle, which watches `parent`."""

    has_offsets = False

    def __init__(self, name: str, parent: NetmapPort, pool: Pool, body: Register, made: Interface) -> None:
        zero_copy, tx = bool(body.nr_flags & Flag.ZCOPY_MON), bool(body.nr_flags & Flag.MONITOR_TX)
        rx = bool(body.nr_flags & Flag.MONITOR_RX)
        rings = max(len(parent.tx), len(parent.rx))

        def watched(number: int, sent: Sequence[SharedRing], received: Sequence[SharedRing]) -> list[SharedRing]:
            return [*(sent[number : number + 1] if tx else ()), *(received[number : number + 1] if rx else ())]

        senders = [SoftRing(pool, ring) for ring in made.tx_rings]
        for sender in senders:
            sender.kring.kind = Kind.ENDED  # as in netmap, a monitor sends nothing
        shown = [
            MonitorRing(pool, ring, watched(number, parent.tx, parent.rx), zero_copy)
            for number, ring in enumerate(made.rx_rings[:rings])
        ]
        hosts = [
            MonitorRing(pool, ring, watched(number, parent.host_tx, parent.host_rx), zero_copy)
            for number, ring in enumerate(made.rx_rings[rings:])
        ]
        super().__init__(name, pool, senders[:1], shown, senders[1:], hosts, scattered=parent.scattered)
        self._parent, self._made = parent, made
        self.user = parent.user
        parent.monitors.append(self)
        self.keep_memory()

    @property
    def owner_name(self) -> str:
        return self._parent.owner_name

    def end(self) -> None:
        for ring in (*self.rx, *self.host_rx):
            if isinstance(ring, MonitorRing):
                ring.end()

    def released(self) -> None:
        if not self.in_use:
            if self in self._parent.monitors:
                self._parent.monitors.remove(self)
            self._made.close()
            self.release_memory()


def monitor_port(parent: NetmapPort, body: Register, name: str, memories: Memories) -> MonitorPort:
    """A monitor of a port that a program has. Raises Refused."""
    if not parent.in_use:
        raise NothingToWatch(errno.EINVAL, f"no program uses {parent.name}, so there is nothing to watch")
    if body.nr_flags & Flag.ZCOPY_MON:
        body.nr_flags |= Flag.MONITOR_TX | Flag.MONITOR_RX
    slots = min(body.nr_rx_slots or max(ring.ring.num_slots for ring in (*parent.tx, *parent.rx)), MOST_SLOTS)
    tx_slots = min(body.nr_tx_slots or slots, MOST_SLOTS)
    hosts = max(len(parent.host_tx), len(parent.host_rx))
    tx, rx = 1 + bool(hosts), max(len(parent.tx), len(parent.rx)) + hosts
    if body.nr_flags & Flag.ZCOPY_MON:
        made = make_rings(name, parent.pool, tx, rx, tx_slots, slots)
        parent.pool.hold()
        return MonitorPort(name, parent, parent.pool, body, made)
    size, extra = parent.region.buf_size, body.nr_extra_bufs
    with memories.private(name, [tx_slots] * tx, [slots] * rx, size, extra, monitors=False) as pool:
        made = make_rings(name, pool, tx, rx, tx_slots, slots)
        return MonitorPort(name, parent, pool, body, made)
