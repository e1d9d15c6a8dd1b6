"""A port as programs see it: a name, rings, and what a registration tells about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ixrings.rings import Region

from .abi import PortInfo, Register
from .pool import Pool
from .rings import SharedRing

GLOBAL_MEMORY = 1  # nr_mem_id of the region that all ports but the switch's have


class Watching(Protocol):
    """A monitor of a port."""

    def end(self) -> None:
        """The port has no handle any more."""


class NetmapPort:
    """tx, rx: rings of the NIC, or of what stands for it. host_tx, host_rx: rings to and from the host.

    scattered: a NIC without an IOMMU is behind it. monitors: that watch the port. user: who has made it; None: it is
    the daemon's, or for everybody who shares its memory.
    """

    user: int | None = None

    def __init__(
        self,
        name: str,
        pool: Pool,
        tx: Sequence[SharedRing],
        rx: Sequence[SharedRing],
        host_tx: Sequence[SharedRing] = (),
        host_rx: Sequence[SharedRing] = (),
        scattered: bool = False,
    ) -> None:
        self.name, self.pool, self.scattered = name, pool, scattered
        self.tx, self.rx, self.host_tx, self.host_rx = tx, rx, host_tx, host_rx
        self.handles = 0
        self.monitors: list[Watching] = []
        self._holds = False

    has_offsets = True  # whether programs may open it with the option OFFSETS

    def check_open(self, body: Register) -> None:
        """Raises Refused if no program may open the port now."""

    def prepare(self, body: Register | PortInfo) -> None:
        """Before a registration or a question: follow its numbers, such as those of host rings. Raises Refused."""

    def released(self) -> None:
        """After a handle has closed, or was refused: a port that was made for it goes, if nobody uses it any more."""

    def left(self) -> None:
        """A handle has closed."""
        self.handles -= 1
        if not self.handles:
            for monitor in self.monitors:
                monitor.end()
            self.monitors = []

    def keep_memory(self) -> None:
        """The port is one of those that hold the pool: the caller has called hold(), or private() has."""
        self._holds = True

    def release_memory(self) -> None:
        """The port is gone, and holds the pool no more. May be called again."""
        if self._holds:
            self._holds = False
            self.pool.release()

    @property
    def owner_name(self) -> str:
        """The port that the policy's lists name."""
        return self.name

    @property
    def region(self) -> Region:
        return self.pool.region

    @property
    def mem_id(self) -> int:
        """nr_mem_id of its memory."""
        return self.pool.number

    def describe(self, body: Register | PortInfo) -> None:
        """Write the port's real numbers to an answer."""
        body.nr_memsize = self.region.size
        body.nr_mem_id = self.mem_id
        body.nr_tx_slots = self.tx[0].ring.num_slots if self.tx else 0
        body.nr_rx_slots = self.rx[0].ring.num_slots if self.rx else 0
        body.nr_tx_rings, body.nr_rx_rings = len(self.tx), len(self.rx)
        body.nr_host_tx_rings, body.nr_host_rx_rings = len(self.host_tx), len(self.host_rx)

    @property
    def in_use(self) -> bool:
        """Whether a handle is open; it may have no ring. Or whether a switch has the rings."""
        return bool(self.handles) or any(ring.users for ring in (*self.tx, *self.rx, *self.host_tx, *self.host_rx))
