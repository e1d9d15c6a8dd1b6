"""Pipes: `NAME{ID` is one end, `NAME}ID` the other. What one end sends, the other receives; no byte is copied.

The first open of either end makes both. What is sent while nobody has the other end waits there. The pipe goes with its
last handle.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence

from ixrings.rings import Interface
from ixrings.rings.soft import Pipe

from .abi import Mode, Register
from .errors import Refused
from .memory import PIPE_SLOTS
from .null import MOST_RINGS, make_rings
from .pool import Pool
from .ports import NetmapPort
from .rings import PipeRing
from .switches import split

MOST_SLOTS = 4096
MOST_PIPES = 64  # of one name
MOST_NAME = 15


class PipeEnd(NetmapPort):
    """One end. parent: the name before the brace. made: where its rings are."""

    def __init__(
        self, name: str, parent: str, pool: Pool, tx: Sequence[PipeRing], rx: Sequence[PipeRing], scattered: bool
    ) -> None:
        super().__init__(name, pool, tx, rx, scattered=scattered)
        self._parent = parent
        self.dissolve_if_unused: Callable[[], None] = nothing

    @property
    def owner_name(self) -> str:
        return self._parent

    def released(self) -> None:
        self.dissolve_if_unused()


class Pipes:
    """The pipes that are open, by parent and id. pool: the region of a pipe with this parent and registration."""

    def __init__(self, pool: Callable[[str, Register], Pool]) -> None:
        self._pool = pool
        self._pipes: dict[tuple[str, str], tuple[PipeEnd, PipeEnd]] = {}

    def find(self, name: str, body: Register, ports: Mapping[str, NetmapPort]) -> PipeEnd:
        """The end of a name; the pipe is made if it is not there. Raises Refused."""
        brace = "{" if "{" in name else "}"
        parent, _, key = name.rpartition(brace)
        if not parent or not key:
            raise Refused(errno.EINVAL, f"{name!r} is not a pipe's name; write it as ix0{{1 or ix0}}1")
        if body.nr_mode not in (Mode.ALL_NIC, Mode.ONE_NIC):
            raise Refused(errno.EINVAL, f"{name}: a pipe has no rings of mode {body.nr_mode}")
        if parent in ports:
            ports[parent].check_open(body)
        elif parent.startswith("vale"):
            split(parent)
        elif len(parent) > MOST_NAME:
            raise Refused(errno.ENXIO, f"{name}: there is no port {parent!r}")
        ends = self._pipes.get((parent, key)) or self._make(parent, key, body, ports.get(parent))
        return ends[0] if brace == "{" else ends[1]

    @property
    def names(self) -> list[str]:
        return [f"{parent}{{{key}" for parent, key in self._pipes]

    def existing(self, name: str) -> PipeEnd:
        """The end of a name, if it is there. Raises Refused(ENODEV)."""
        brace = "{" if "{" in name else "}"
        parent, _, key = name.rpartition(brace)
        ends = self._pipes.get((parent, key))
        if ends is None:
            raise Refused(errno.ENODEV, f"there is no pipe {name}")
        return ends[0] if brace == "{" else ends[1]

    def _make(self, parent: str, key: str, body: Register, port: NetmapPort | None) -> tuple[PipeEnd, PipeEnd]:
        if sum(1 for other, _ in self._pipes if other == parent) >= MOST_PIPES:
            raise Refused(errno.EINVAL, f"{parent} has {MOST_PIPES} pipes already, the most of one name")
        pool = self._pool(parent, body)
        slots = port.tx[0].ring.num_slots if port is not None and port.tx else PIPE_SLOTS
        tx = min(max(body.nr_tx_rings, 1), MOST_RINGS)
        rx = min(max(body.nr_rx_rings, 1), MOST_RINGS)
        tx_slots = min(max(body.nr_tx_slots or slots, 2), MOST_SLOTS)
        rx_slots = min(max(body.nr_rx_slots or slots, 2), MOST_SLOTS)
        made: list[Interface] = []
        zone = pool.new_zone()
        try:
            made.append(make_rings(f"{parent}{{{key}", pool, tx, rx, tx_slots, rx_slots))
            made.append(make_rings(f"{parent}}}{key}", pool, rx, tx, rx_slots, tx_slots))
            scattered = port is not None and port.scattered
            ends = [
                PipeEnd(
                    each.name,
                    parent,
                    pool,
                    [PipeRing(pool, ring, zone) for ring in each.tx_rings],
                    [PipeRing(pool, ring, zone) for ring in each.rx_rings],
                    scattered,
                )
                for each in made
            ]
        except BaseException:
            pool.end(zone)
            for each in made:
                each.close()
            raise
        a, b = ends
        joined = Pipe(*([ring.kring for ring in rings] for rings in (a.tx, a.rx, b.tx, b.rx)))

        def dissolve_if_unused() -> None:
            if not a.in_use and not b.in_use and (parent, key) in self._pipes:
                del self._pipes[parent, key]
                joined.close()
                pool.end(zone)
                for each in made:
                    each.close()
                pool.release()
                a.dissolve_if_unused = b.dissolve_if_unused = nothing  # else the ends would keep each other

        a.dissolve_if_unused = b.dissolve_if_unused = dissolve_if_unused
        self._pipes[parent, key] = a, b
        pool.hold()
        return a, b


def nothing() -> None:
    """The pipe is gone."""
