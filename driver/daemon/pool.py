"""Who owns each buffer of the daemon's region: zones.

A zone is one process with its handles, or several that bind the same rings. What a zone owns is freed when its last
handle closes, whatever its slots say. So a program that is killed, or writes nonsense into its rings, loses no buffer.
Buffers that the NIC's rings rest with, while no program has them, belong to the daemon for good.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ixrings.rings import Interface, Region, RegionError, RxRing, TxRing
from ixrings.rings.layout import RESERVED_BUFFERS
from ixrings.rings.view import View

from .errors import Refused
from .policy import Process, owner, user_name

FREE, DAEMON = 0, 1
FIRST_ZONE, LAST_ZONE = 2, 0xFFFF
Indices = npt.NDArray[np.uint32]
Placed = TypeVar("Placed", Interface, View)


class Owned(Protocol):
    """A ring, as zones know it."""

    @property
    def buffers_now(self) -> Indices:
        """The indices in its slots, as the program left them."""

    @property
    def uncharged(self) -> int:
        """How many of its buffers do not count in its user's share."""

    def belong_to(self, zone: Zone) -> None:
        """From now on the ring's buffers are those of `zone`."""


class Surroundings(Protocol):
    """What a pool needs of the memory around it: memories.Memories is one.

    acting: the user whose request is carried out now, or None for the daemon's own work.
    """

    acting: int | None

    def most(self, total: int) -> int:
        """How much of something limited the acting user may have."""

    def forget(self, pool: Pool) -> None:
        """Nobody has the pool any more: its region is closed."""


class Zone:
    """One owner of buffers. processes: its own; a pipe has a zone without one. handles: how many it has open.
    rings: those that it has bound. users: whose share its buffers count in."""

    def __init__(self, number: int, user: int | None) -> None:
        self.number = number
        self.users = {user}
        self.processes: set[Process] = set()
        self.handles = 0
        self.rings: list[Owned] = []


class Pool:
    """The buffers of one region. zone_of: for each buffer 0 (free), 1 (the daemon), or the number of its zone.

    number: nr_mem_id. user: who has made it. external: programs map it over memory of their own. larger: the end of a
    sentence, which says how to get more.
    """

    def __init__(self, region: Region, around: Surroundings, number: int, larger: str) -> None:
        self.region, self.number, self.larger = region, number, larger
        self._around, self.user = around, around.acting
        self.external = False
        self._holders = 0
        self._users: dict[int, int | None] = {}  # of metadata in use, by offset
        self.zone_of: npt.NDArray[np.uint16] = np.full(region.total_buffers, DAEMON, np.uint16)
        self.zone_of[region.take_buffers(region.free_buffers)] = FREE
        self._zones: dict[int, Zone] = {}  # by number
        self._of: dict[Process, Zone] = {}

    @property
    def acting(self) -> int | None:
        """The user whose request is carried out now, or None."""
        return self._around.acting

    @contextmanager
    def work_of_daemon(self) -> Iterator[None]:
        """What is taken inside counts in no user's share."""
        user, self._around.acting = self._around.acting, None
        try:
            yield
        finally:
            self._around.acting = user

    # ---- buffers ----

    @property
    def free(self) -> int:
        return int(np.count_nonzero(self.zone_of == FREE))

    @property
    def room(self) -> int:
        """How many free buffers the acting user may have."""
        return max(0, min(self.free, self._most_buffers() - self._owned()))

    def _most_buffers(self) -> int:
        return self._around.most(len(self.zone_of) - int(np.count_nonzero(self.zone_of == DAEMON)))

    def _owned(self) -> int:
        """How many buffers the acting user has in its share."""
        zones = [zone for zone in self._zones.values() if self._around.acting in zone.users]
        owned = np.count_nonzero(np.isin(self.zone_of, [zone.number for zone in zones]))
        return int(owned) - sum(ring.uncharged for zone in zones for ring in zone.rings)

    def check_share(self, count: int, name: str) -> None:
        """Raises Refused(ENOMEM) if `count` further buffers are more than the acting user's share."""
        user = self._around.acting
        if user is None or owner(user) or count <= (left := self._most_buffers() - self._owned()):
            return
        raise Refused(
            errno.ENOMEM,
            f"{name} needs {count} buffers, and {max(0, left)} are left of the share of {user_name(user)}. It is set "
            "by --user-share",
        )

    def take(self, count: int, zone: int, name: str, *, charged: bool = True) -> Indices:
        """`count` free buffers, which are the zone's from now on. charged: they count in the acting user's share.

        Raises Refused(ENOMEM).
        """
        if charged and zone != DAEMON:
            self.check_share(count, name)
        free = np.flatnonzero(self.zone_of == FREE)
        if len(free) < count:
            raise Refused(
                errno.ENOMEM,
                f"{name} needs {count} buffers, and {len(free)} of {self.region.total_buffers} are free. {self.larger}",
            )
        taken = free[:count]
        self.zone_of[taken] = zone
        return taken.astype(np.uint32)

    def give(self, indices: Indices, zone: int) -> None:
        """Free those of `indices` that are the zone's. A program may have written any number into its slots."""
        valid = indices[(indices >= RESERVED_BUFFERS) & (indices < len(self.zone_of))]
        own = valid[self.zone_of[valid] == zone]
        self.zone_of[own] = FREE

    def hand_over(self, indices: Indices, zone: int, to: int) -> npt.NDArray[np.bool_]:
        """Give those of `indices` that are the zone's to another one. Returns a mask of them: each buffer once."""
        valid = (indices >= RESERVED_BUFFERS) & (indices < len(self.zone_of))
        own: npt.NDArray[np.bool_] = valid.copy()
        own[valid] = self.zone_of[indices[valid]] == zone
        first = np.zeros(len(indices), bool)
        first[np.unique(indices, return_index=True)[1]] = True
        own &= first
        self.zone_of[indices[own]] = to
        return own

    def counts(self) -> dict[str, object]:
        """For the status: free, the daemon's and the programs' buffers add up to total."""
        counts = np.bincount(self.zone_of[RESERVED_BUFFERS:])
        of = {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
        zones = {zone.number: sorted(process.pid for process in zone.processes) for zone in self._zones.values()}
        return {
            "total": len(self.zone_of) - RESERVED_BUFFERS,
            "free": of.pop(FREE, 0),
            "daemon": of.pop(DAEMON, 0),
            "programs": sum(of.values()),
            "zones": [{"pids": zones.get(number, []), "buffers": count} for number, count in of.items()],
        }

    # ---- the region ----

    def hold(self) -> None:
        """One more port has the region."""
        self._holders += 1

    def release(self) -> None:
        """Undo hold(): without a holder, the region goes."""
        self._holders -= 1
        if not self._holders:
            self._around.forget(self)

    def register(self, name: str, tx_slots: Sequence[int], rx_slots: Sequence[int]) -> Interface:
        """Rings without buffers. Raises Refused(ENOMEM)."""
        return self._place(
            name, lambda: self.region.register(name, tx_slots=tx_slots, rx_slots=rx_slots, buffers=False)
        )

    def view(
        self, name: str, tx: Sequence[TxRing | None], rx: Sequence[RxRing | None], host_tx: int, host_rx: int
    ) -> View:
        """A netmap_if (Region.view). Raises Refused(ENOMEM)."""
        return self._place(name, lambda: self.region.view(name, tx=tx, rx=rx, host_tx=host_tx, host_rx=host_rx))

    def _place(self, name: str, make: Callable[[], Placed]) -> Placed:
        """Make what needs metadata of the region, in the acting user's share."""
        user, room = self._around.acting, self.region.buffers_offset
        try:
            made = make()
        except RegionError:
            used = sum(self.region.blocks.values())
            raise Refused(
                errno.ENOMEM,
                f"{name}: the memory has no room for its rings ({used} of {room} bytes are in use). {self.larger}",
            ) from None
        self._users[made.offset] = user
        if user is not None and not owner(user) and self._metadata_of(user) > self._around.most(room):
            self.region.drop(made)
            raise Refused(
                errno.ENOMEM,
                f"{name}: its rings need more than the share of {user_name(user)}, {self._around.most(room)} bytes. It "
                "is set by --user-share",
            )
        return made

    def _metadata_of(self, user: int) -> int:
        return sum(size for offset, size in self.region.blocks.items() if self._users.get(offset) == user)

    # ---- zones ----

    def new_zone(self) -> Zone:
        """A zone without a process. Raises Refused(ENOMEM)."""
        number = next((each for each in range(FIRST_ZONE, LAST_ZONE) if each not in self._zones), 0)
        if not number:
            raise Refused(errno.ENOMEM, "too many processes have handles")
        zone = self._zones[number] = Zone(number, self._around.acting)
        return zone

    def end(self, zone: Zone) -> None:
        """Free everything that the zone owns, and forget it."""
        self.zone_of[self.zone_of == zone.number] = FREE
        del self._zones[zone.number]
        for process in zone.processes:
            del self._of[process]

    def enter(self, process: Process) -> Zone:
        """The zone of a process, which opens one more handle. Raises Refused(ENOMEM)."""
        zone = self._of.get(process)
        if zone is None:
            zone = self._of[process] = self.new_zone()
            zone.processes.add(process)
        zone.handles += 1
        zone.users.add(self._around.acting)
        return zone

    def join(self, zone: Zone, other: Zone) -> None:
        """Make one zone of two, because they bind the same ring."""
        if zone is other:
            return
        self.zone_of[self.zone_of == other.number] = zone.number
        for ring in other.rings:
            ring.belong_to(zone)
        zone.rings += other.rings
        zone.processes |= other.processes
        zone.users |= other.users
        zone.handles += other.handles
        for process in other.processes:
            self._of[process] = zone
        del self._zones[other.number]

    def of(self, process: Process) -> Zone:
        """The zone of a process that has handles."""
        return self._of[process]

    def leave(self, process: Process, closed: Sequence[Owned], extra: Callable[[], Sequence[int]]) -> None:
        """A handle of a process closes. Free what it had; with the last handle of its zone, all that the zone has.

        closed: rings that nobody has any more; the NIC has stopped them. extra: reads its list of extra buffers.
        """
        zone = self._of[process]
        zone.handles -= 1
        zone.rings = [ring for ring in zone.rings if not any(ring is each for each in closed)]
        if not zone.handles:
            self.end(zone)
            return
        gone = np.concatenate([np.array(extra(), np.uint32), *(ring.buffers_now for ring in closed)])
        if zone.rings:
            gone = np.setdiff1d(gone, np.concatenate([ring.buffers_now for ring in zone.rings]))
        self.give(gone, zone.number)
