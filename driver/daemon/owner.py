"""What only the owner of a NIC can do, for Python clients: OWNER messages."""

from __future__ import annotations

import dataclasses
import errno
import json

from ..statistics import PortStatistics
from .errors import Refused
from .opener import Opener

READ = ("stats", "link", "mac", "mtu", "promiscuous")
WRITE = ("set_mac", "set_promiscuous")


def counts(stats: PortStatistics) -> dict[str, object]:
    return {
        "port": dict(stats.port),
        "rx": [dict(queue) for queue in stats.rx],
        "tx": [dict(queue) for queue in stats.tx],
        "rx_others": dict(stats.rx_others),
        "tx_others": dict(stats.tx_others),
    }


def carry_out(opener: Opener, payload: bytes) -> object:
    """The result of {"port": ..., "call": ..., "arguments": [...]} as JSON can carry it. Raises Refused, ValueError."""
    try:
        asked = json.loads(payload)
        name, call, arguments = asked["port"], asked["call"], asked.get("arguments", [])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Refused(errno.EINVAL, 'an OWNER message is JSON {"port": ..., "call": ..., "arguments": [...]}') from None
    nic = opener.world.nics.get(name) if isinstance(name, str) else None
    if nic is None:
        raise Refused(errno.ENXIO, f"{name!r} is not a NIC of this daemon")
    port = nic.port
    match call, arguments:
        case "stats", []:
            return counts(port.stats())
        case "link", []:
            return dataclasses.asdict(port.link)
        case "mac", []:
            return port.mac
        case "mtu", []:
            return port.mtu
        case "promiscuous", []:
            return port.promiscuous
        case "set_mac", [str(address)]:
            opener.check_owner(nic)
            port.mac = address
            return None
        case "set_promiscuous", [bool(on)]:
            opener.check_owner(nic)
            port.promiscuous = on
            return None
    raise Refused(
        errno.EOPNOTSUPP,
        f"the daemon does not do {call!r} for programs; it does {', '.join((*READ, *WRITE))}. Filters, clock and "
        "queues belong to the process that opens the NIC itself",
    )
