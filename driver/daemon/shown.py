"""The status of a daemon in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def lines(status: dict[str, Any], earlier: dict[str, Any]) -> Iterator[str]:
    """For a terminal. Rates are those since `earlier`."""
    buffers, memory, seconds = status["buffers"], status["memory"], status["seconds"]
    past_s = seconds - earlier["seconds"]
    yield (
        f"process {status['pid']}, {seconds:.0f} s; memory {memory['bytes'] / 2**20:.0f} MB, buffers: "
        f"{buffers['free']} of {buffers['total']} free, {buffers['daemon']} held for the NICs, "
        f"{buffers['programs']} held by programs"
    )
    for port, before in zip(status["ports"], earlier["ports"]):
        host = ", and an interface of Linux" * port["host"]
        yield f"{port['name']} ({port['device']}): {port.get('gone') or 'link ' + port['link']}{host}"
        for kind in ("rx_rings", "tx_rings"):
            rings = port[kind]
            packets, past = (sum(ring["packets"] for ring in each[kind]) for each in (port, before))
            used = sum(1 for ring in rings if ring["users"])
            yield (
                f"    {kind[:2]}: {used} of {len(rings)} rings in use, {packets:,} packets, "
                f"{(packets - past) / past_s:,.0f} a second"
            )
    for name, ports in status["switches"].items():
        yield f"{name}: {', '.join(ports)}"
    for kind in ("pipes", "persistent"):
        if status[kind]:
            yield f"{kind}: {', '.join(status[kind])}"
    for handle in status["handles"]:
        alone = ", exclusively" * handle["exclusive"]
        rings = handle["rings"]
        dropped = f", {handle['drops']:,} frames dropped" if handle["drops"] else ""
        uses = rings[0] if len(rings) == 1 else f"{len(rings)} rings of {handle['port']}"
        yield (
            f"{handle['program'] or 'a program'} ({handle['pid']}, {handle['user']}) uses {uses}{alone}: "
            f"{handle['syncs']:,} syncs{dropped}"
        )
    for kind, further in status.items():
        if kind.startswith("further_"):
            yield f"and {further} further {kind.removeprefix('further_')}"
