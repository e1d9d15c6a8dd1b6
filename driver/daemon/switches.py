"""VALE switches: `vale0:a` is a port of the switch vale0, which is there as long as it has ports.

An ephemeral port is made by the program that opens it, and goes with its last handle. A persistent one (NEWIF) stays
until DELIF, attached to a switch or not. A NIC that is attached is the switch's alone. A port has memory of its own, so
the switch copies, and a program sees no other packets than its own.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from ixrings.rings import Interface
from ixrings.rings.soft import Switch, SwitchPort

from .abi import Flag, Mode, Register, ValeNewif
from .errors import Refused
from .memories import Memories
from .memory import MOST_EXTRA
from .nic import NicPort
from .null import make_rings
from .policy import user_name
from .pool import Pool, Zone
from .ports import NetmapPort
from .rings import SoftRing

NAME = re.compile(r"(?P<switch>vale[A-Za-z0-9_]*):(?P<port>.+)")
MOST_NAME = 15
MOST_SWITCHES, MOST_PORTS = 8, 254
MOST_RINGS, SLOTS, MOST_SLOTS = 16, 1024, 4096
BUFFER = 2048
AGE_S, CABLE_S = 300.0, 1e-9  # when a switch forgets an address; a cable learns none
NO_PORT = 255  # nr_port_idx of a port that is not there


class SoftPort(NetmapPort):
    """A port for programs, ephemeral or persistent. place: on a switch, or None.

    second: of a persistent port, on another switch. The port then joins both switches, and no program can open it.
    """

    def __init__(self, name: str, pool: Pool, made: Interface, switches: Switches, *, persistent: bool) -> None:
        tx = [SoftRing(pool, ring) for ring in made.tx_rings]
        rx = [SoftRing(pool, ring) for ring in made.rx_rings]
        super().__init__(name, pool, tx, rx)
        self._made, self._switches = made, switches
        self.keep_memory()
        self.user = pool.acting
        self.persistent = persistent
        self.place: Place | None = None
        self.second: Place | None = None
        self._zone: Zone | None = None  # of its rings while it joins two switches
        self.header = 0

    def released(self) -> None:
        if not self.persistent and not self.in_use and self.place is not None:
            self._switches.remove(self.place)
            self.destroy()

    def join_switches(self) -> None:
        """Two switches have the rings from now on. Raises Refused(ENOMEM)."""
        self._zone = zone = self.pool.new_zone()
        try:
            for ring in (*self.tx, *self.rx):
                assert isinstance(ring, SoftRing)
                ring.begin(zone)
                ring.belong_to(zone)
                ring.users = 1
        except Refused:
            self.part_switches()
            raise

    def part_switches(self) -> None:
        """Undo join_switches(), also one that was not finished."""
        if self._zone is None:
            return
        for ring in (*self.tx, *self.rx):
            ring.users = 0
            ring.rest()
        self.pool.end(self._zone)
        self._zone = None

    def check_open(self, body: Register) -> None:
        if self.second is not None:
            raise Refused(errno.EBUSY, f"{self.name} joins {self.place_name} and {self.second.name}")
        if self.header and not body.nr_flags & Flag.ACCEPT_VNET_HDR:
            raise Refused(errno.EIO, f"{self.name} has virtio-net headers, and the program does not know them")

    @property
    def place_name(self) -> str:
        return self.place.name if self.place is not None else ""

    def destroy(self) -> None:
        """Give the memory back."""
        self._made.close()
        self.release_memory()


class Place:
    """A port on a switch: of programs, or a NIC, or a NIC's host side. only: one ring each way; None: all of them."""

    def __init__(
        self, switch: Bridge, name: str, port: SoftPort | NicPort, *, host: bool = False, only: int | None = None
    ) -> None:
        self.switch, self.name, self.port, self.host = switch, name, port, host
        self._rings = slice(None) if only is None else slice(only, only + 1)
        self.inside: SwitchPort = switch.switch.add()
        self.polling = False
        self._joined: tuple[object, ...] = ()

    def join(self) -> None:
        """After a change of handles: which rings the switch moves frames of."""
        port = self.port
        programs = isinstance(port, SoftPort) and port.second is not self
        if programs:
            tx, rx = ([ring for ring in rings[self._rings] if ring.users] for rings in (port.tx, port.rx))
        else:
            tx, rx = (
                (list(port.host_tx), list(port.host_rx))
                if self.host
                else (list(port.tx[self._rings]), list(port.rx[self._rings]))
            )
        if self._joined != (tx, rx):
            self._joined = (tx, rx)
            move = self.inside.open if programs else self.inside.attach
            move([ring.kring for ring in tx], [ring.kring for ring in rx])


class Surroundings:
    """What Switches needs of the world: World is one."""

    memories: Memories
    ports: dict[str, NicPort]


class Bridge:
    """A switch. number: nr_bridge_idx. age_s: as in Switch. user: whose request has made it."""

    def __init__(self, name: str, number: int, age_s: float = AGE_S, user: int | None = None) -> None:
        self.name, self.number, self.user = name, number, user
        self.switch = Switch(age_s)
        self.places: list[Place] = []


class Switches:
    """Every switch, and the ports of NEWIF."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self.bridges: dict[str, Bridge] = {}
        self.persistent: dict[str, SoftPort] = {}

    def all_places(self) -> Iterator[Place]:
        for bridge in self.bridges.values():
            yield from bridge.places

    def place(self, name: str) -> Place | None:
        """The place of a full name, such as vale0:a."""
        return next((place for place in self.all_places() if place.name == name), None)

    def join(self) -> None:
        for place in self.all_places():
            place.join()

    # ---- ports for programs ----

    def find(self, name: str, body: Register) -> SoftPort:
        """The port of `vale0:a`, which is made if it is not there. Raises Refused."""
        switch, short = split(name)
        place = self.place(name)
        if place is not None and isinstance(place.port, SoftPort):
            return place.port
        if place is not None:
            raise Refused(errno.EBUSY, f"{name} is a NIC that the switch has")
        if short in self._world.ports or short in self.persistent:
            raise Refused(errno.EINVAL, f"{short} is a port that is not attached to {switch}")
        port = self.make(name, body, persistent=False)
        try:
            self.add(switch, name, port)
        except Refused:
            port.destroy()
            raise
        return port

    def make(self, name: str, body: Register | ValeNewif, *, persistent: bool) -> SoftPort:
        """A port with the rings that are asked for. Raises Refused."""
        tx, rx = (min(max(count, 1), MOST_RINGS) for count in (body.nr_tx_rings, body.nr_rx_rings))
        tx_slots, rx_slots = (min(max(slots or SLOTS, 2), MOST_SLOTS) for slots in (body.nr_tx_slots, body.nr_rx_slots))
        if body.nr_mem_id:
            pool = self._world.memories.find(body.nr_mem_id)
            made = make_rings(name, pool, tx, rx, tx_slots, rx_slots)
            pool.hold()
            return SoftPort(name, pool, made, self, persistent=persistent)
        extra = min(body.nr_extra_bufs, MOST_EXTRA) if isinstance(body, Register) else 0
        with self._world.memories.private(name, [tx_slots] * tx, [rx_slots] * rx, BUFFER, extra) as pool:
            made = make_rings(name, pool, tx, rx, tx_slots, rx_slots)
            return SoftPort(name, pool, made, self, persistent=persistent)

    # ---- places ----

    def add(self, switch: str, name: str, port: SoftPort | NicPort, *, host: bool = False) -> Place:
        """Put a port on a switch, which is made if it is not there. Raises Refused(ENOMEM)."""
        bridge = self.bridges.get(switch)
        if bridge is None:
            bridge = self._make_bridge(switch)
        if len(bridge.places) >= MOST_PORTS:
            raise Refused(errno.ENOMEM, f"{switch} has {MOST_PORTS} ports already")
        place = Place(bridge, name, port, host=host)
        bridge.places.append(place)
        self.bridges[switch] = bridge
        if isinstance(port, SoftPort):
            if port.place is None:
                port.place = place
            else:
                port.second = place
            place.inside.header = port.header
        return place

    def _make_bridge(self, name: str) -> Bridge:
        """A switch in the acting user's share of them. Raises Refused(ENOMEM)."""
        numbers = {each.number for each in self.bridges.values()}
        if len(numbers) >= MOST_SWITCHES:
            raise Refused(errno.ENOMEM, f"there are {MOST_SWITCHES} switches already")
        memories = self._world.memories
        user, most = memories.acting, max(1, memories.most(MOST_SWITCHES))
        if user is not None and sum(each.user == user for each in self.bridges.values()) >= most:
            raise Refused(
                errno.ENOMEM, f"{user_name(user)} has made {most} switches, its share, which --user-share sets"
            )
        return Bridge(name, min(set(range(MOST_SWITCHES)) - numbers), user=user)

    def remove(self, place: Place) -> None:
        """Take a port off its switch, which goes with its last port."""
        bridge = place.switch
        bridge.switch.remove(place.inside)
        bridge.places.remove(place)
        if isinstance(place.port, SoftPort):
            if place.port.second is place:
                place.port.second = None
                place.port.part_switches()
            else:
                place.port.place = None
        if not bridge.places:
            del self.bridges[bridge.name]


def split(name: str) -> tuple[str, str]:
    """The switch and the port of a full name. Raises Refused(ENXIO)."""
    found = NAME.fullmatch(name)
    if not found or len(found["switch"]) > MOST_NAME or len(found["port"]) > MOST_NAME:
        raise Refused(errno.ENXIO, f"{name!r} is not a port of a switch; write it as vale0:a")
    return found["switch"], found["port"]


def check_attachable(name: str, port: NicPort, body: Register, switches: Switches) -> None:
    """Raises Refused unless a NIC may be attached."""
    if port.in_use or port.attached:
        raise Refused(errno.EBUSY, f"{name}: {port.name} is in use")
    if body.nr_mode not in (Mode.ALL_NIC, Mode.NIC_SW) or body.nr_ringid:
        raise Refused(errno.EINVAL, f"{name}: a NIC is attached with all its rings, and those of the host or not")
    if body.nr_mode == Mode.NIC_SW and not port.host_tx:
        raise Refused(errno.EINVAL, f"{port.name} has no host rings")
