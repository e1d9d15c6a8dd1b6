"""How large the daemon's regions are."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from ixrings.rings import Region, RegionError
from ixrings.rings.layout import RESERVED_BUFFERS, if_size, ring_size
from ixrings.rings.memory import mb

from ..config import PortOptions
from ..errors import PortError
from .errors import Refused

HANDLES = 64
PIPES = 16
EXTRA_BUFFERS = 16384
PIPE_SLOTS = 1024  # of a pipe's ring, if neither a NIC nor the program says how many
PIPE_RINGS = 4  # two ends, each with a TX and an RX ring
HOST_RINGS = 2
HANDLES_OF_ONE = 8  # of a port with a region of its own
MONITORS = 2  # zero-copy ones of such a port, each with a TX ring and as many RX rings
MOST_EXTRA = 1 << 19


@dataclass(frozen=True)
class Needs:
    """buffers: their number, with the reserved ones. metadata: bytes for interfaces and rings."""

    buffers: int
    metadata: int


def needs(ports: int, options: PortOptions, megabytes: int, buf_size: int) -> Needs:
    """What `ports` NICs with these options need, and room for programs; or `megabytes` MB in all.

    A ring of a NIC has its buffers twice: it rests with one set, and programs get another. Raises PortError if the NICs
    do not fit.
    """
    tx, rx = options["tx_queues"], options["rx_queues"]
    slots = tx * options["tx_slots"] + rx * options["rx_slots"]
    largest = max(options["tx_slots"], options["rx_slots"])
    one_if = if_size(tx + rx + 2)
    rings = tx * ring_size(options["tx_slots"]) + rx * ring_size(options["rx_slots"]) + HOST_RINGS * ring_size(largest)
    of_pipe = max(largest, PIPE_SLOTS)
    soft = PIPES * PIPE_RINGS * of_pipe
    metadata = ports * (one_if + rings) + (HANDLES + PIPES) * one_if + PIPES * PIPE_RINGS * ring_size(of_pipe)
    least = RESERVED_BUFFERS + ports * slots * 2
    buffers = least + ports * HOST_RINGS * largest + soft + EXTRA_BUFFERS
    if not megabytes:
        return Needs(buffers, metadata)
    buffers = (megabytes * (1 << 20) - metadata) // buf_size
    if buffers < least:
        need = mb(metadata + least * buf_size)
        raise PortError(
            f"--memory {megabytes} is too little: the NICs' rings alone need {need}. Give more, or fewer rings"
        )
    return Needs(buffers, metadata)


def alone(options: PortOptions) -> Needs:
    """What a NIC needs whose memory no program has."""
    slots = options["tx_queues"] * options["tx_slots"] + options["rx_queues"] * options["rx_slots"]
    both = HOST_RINGS * max(options["tx_slots"], options["rx_slots"])
    rings = options["tx_queues"] + options["rx_queues"] + HOST_RINGS
    most = ring_size(max(options["tx_slots"], options["rx_slots"]))
    return Needs(RESERVED_BUFFERS + 2 * slots + both, 4 * if_size(rings) + rings * most)


def private_needs(tx: Sequence[int], rx: Sequence[int], extra: int, *, monitors: bool) -> Needs:
    """What a port with rings of these slots needs for itself: with `extra` further buffers, and zero-copy monitors."""
    rings = [*tx, *rx]
    if monitors and rings:
        rings += ([max(rings)] * (1 + max(len(tx), len(rx)))) * MONITORS
    interfaces = (HANDLES_OF_ONE + 1) * if_size(len(tx) + len(rx) + 2) + monitors * MONITORS * if_size(len(rings) + 2)
    buffers = RESERVED_BUFFERS + 1 + sum(rings) + min(extra, MOST_EXTRA)
    return Needs(buffers, interfaces + sum(ring_size(slots) for slots in rings))


def private_region(name: str, needs: Needs, buf_size: int) -> Region:
    """A region for one port. Raises Refused(ENOMEM)."""
    try:
        return Region(buffers=needs.buffers, metadata=needs.metadata, buf_size=buf_size)
    except RegionError as error:
        raise Refused(errno.ENOMEM, f"{name}: {error}") from None
