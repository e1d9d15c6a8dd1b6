"""The null port: sent frames vanish, and none is received. For tests and measurements, as in netmap."""

from __future__ import annotations

import errno

from ixrings.rings import Interface

from .abi import Register
from .errors import Refused
from .pool import Pool
from .ports import NetmapPort
from .rings import SoftRing

MOST_RINGS = 256


class NullPort(NetmapPort):
    """A port of one handle."""

    def __init__(self, name: str, pool: Pool, made: Interface) -> None:
        tx = [SoftRing(pool, ring) for ring in made.tx_rings]
        rx = [SoftRing(pool, ring) for ring in made.rx_rings]
        super().__init__(name, pool, tx, rx)
        self._made = made
        pool.hold()
        self.keep_memory()

    def released(self) -> None:
        if not self.in_use:
            self._made.close()
            self.release_memory()


def null_port(name: str, pool: Pool, body: Register) -> NetmapPort:
    """A null port with the rings and slots that the registration asks for. Raises Refused."""
    if not body.nr_mem_id:
        raise Refused(errno.EINVAL, "a null port needs the nr_mem_id of the memory that its rings are in")
    return NullPort(
        name, pool, make_rings(name, pool, body.nr_tx_rings, body.nr_rx_rings, body.nr_tx_slots, body.nr_rx_slots)
    )


def make_rings(name: str, pool: Pool, tx: int, rx: int, tx_slots: int, rx_slots: int) -> Interface:
    """Rings without buffers. Raises Refused: ENOMEM if the region is full, EINVAL for a wrong number."""
    if max(tx, rx) > MOST_RINGS:
        raise Refused(errno.EINVAL, f"{name} has at most {MOST_RINGS} rings each way, not {max(tx, rx)}")
    return pool.register(name, [tx_slots] * tx, [rx_slots] * rx)
