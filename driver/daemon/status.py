"""What the daemon tells about itself."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ixrings.hw.errors import DeviceError
from ixrings.rings import RingError, TxRing

from .nic import Nic
from .policy import user_name
from .protocol import MAX_STATUS
from .rings import SharedRing
from .world import World

LISTS = ("handles", "pipes", "persistent")  # as long as programs make them


def status_text(world: World) -> bytes:
    """The status as JSON. Handles that make it longer than a message are counted in `further_handles`, and so on."""
    facts = status(world)
    lists = dict.fromkeys(LISTS, facts) | dict.fromkeys(facts["switches"], facts["switches"])
    while len(text := json.dumps(facts).encode()) > MAX_STATUS:
        name = max(lists, key=lambda name: len(json.dumps(lists[name][name])))
        named = lists[name][name]
        kept = len(named) // 2
        facts[f"further_{name}"] = facts.get(f"further_{name}", 0) + len(named) - kept
        del named[kept:]
    return text


def status(world: World) -> dict[str, Any]:
    """seconds: since the start; counters are since then, too. Call it in the loop's thread."""
    region = world.pool.region
    return {
        "pid": os.getpid(),
        "seconds": time.monotonic() - world.started,
        "ports": [of_nic(nic, nic.name in world.hosts) for nic in world.nics.values()],
        "pipes": world.pipes.names,
        "switches": {name: [place.name for place in bridge.places] for name, bridge in world.switches.bridges.items()},
        "persistent": list(world.switches.persistent),
        "handles": [{**bound.facts, "user": user_name(bound.uid).removeprefix("user ")} for bound in world.handles],
        "buffers": world.pool.counts(),
        "memory": {"bytes": region.size, "page_size": region.page_size, "buf_size": region.buf_size},
    }


def of_nic(nic: Nic, host: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "name": nic.name,
        "device": nic.port.name,
        "host": host,
        "tx_rings": [of_ring(ring) for ring in nic.tx],
        "rx_rings": [of_ring(ring) for ring in nic.rx],
    }
    if nic.gone:
        return {**facts, "gone": nic.gone}
    try:
        return {**facts, "mac": nic.port.mac, "link": str(nic.session.function.link())}
    except DeviceError as error:  # it has gone just now
        return {**facts, "gone": str(error)}


def filled(ring: SharedRing) -> int | None:
    """Frames that wait for the program (RX), or to be sent (TX). None if a program left wrong indices in the ring."""
    try:
        space = ring.ring.space
    except RingError:
        return None
    return ring.ring.num_slots - 1 - space if isinstance(ring.ring, TxRing) else space


def of_ring(ring: SharedRing) -> dict[str, object]:
    queue = ring.kring.queue
    return {
        "slots": ring.ring.num_slots,
        "filled": filled(ring),
        "users": ring.users,
        "exclusive": ring.exclusive,
        "packets": queue.packets,
        "bytes": queue.bytes,
        "violations": queue.violations,
        "drops": ring.kring.drops,
    }
