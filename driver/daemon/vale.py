"""The requests about VALE switches: ATTACH, DETACH, LIST, NEWIF, DELIF, polling, and the length of a header."""

from __future__ import annotations

import errno
import os

from .abi import (
    Call,
    Mode,
    PortHeader,
    Request,
    ValeAttach,
    ValeDetach,
    ValeList,
    ValeNewif,
    ValePolling,
)
from .errors import Refused
from .nic import NicPort
from .opener import Opener
from .switches import MOST_NAME, NO_PORT, Place, SoftPort, Switches, check_attachable, split

HEADERS = (0, 10, 12)
SINGLE, MULTI = 1, 2  # NETMAP_POLLING_MODE_
HOST = "^"


def attach(opener: Opener, call: Call) -> None:
    """Put a NIC or a persistent port on a switch."""
    body = call.body
    assert isinstance(body, ValeAttach)
    world, switches = opener.world, opener.world.switches
    if not call.name.startswith("vale"):
        raise Refused(errno.EINVAL, f"{call.name!r} is not a port of a switch; write it as vale0:ix0")
    world.memories.find(body.reg.nr_mem_id)
    switch, short = split(call.name)
    if switches.place(call.name) is not None:
        raise Refused(errno.EBUSY, f"{call.name} is attached already")
    port = switches.persistent.get(short) or world.ports.get(short)
    if isinstance(port, SoftPort):
        opener.check_port(port)
        body.port_index = attach_soft(switches, switch, call.name, port).inside.index
        world.serve()
        return
    if not isinstance(port, NicPort):
        raise Refused(errno.EINVAL, f"there is no port {short!r}")
    opener.check_owner(world.nics[short])
    if port.virtual:
        raise Refused(
            errno.EOPNOTSUPP,
            f"{short} is a virtual function: it receives only frames for its own address, and its PF drops frames that "
            "it sends for others",
        )
    check_attachable(call.name, port, body.reg, switches)
    place = switches.add(switch, call.name, port)
    if body.reg.nr_mode == Mode.NIC_SW:
        try:
            port.give_host_to_switch()
            switches.add(switch, f"{call.name}{HOST}", port, host=True)
        except Refused:
            port.take_host_back()
            switches.remove(place)
            raise
    port.set_attached(True)
    body.port_index = place.inside.index
    world.serve()


def attach_soft(switches: Switches, switch: str, name: str, port: SoftPort) -> Place:
    """Put a persistent port on a switch. One that is on a switch already joins the two, as in netmap."""
    if port.in_use:
        raise Refused(errno.EBUSY, f"{port.name} is in use")
    if port.second is not None:
        raise Refused(errno.EBUSY, f"{port.name} is on two switches already: {port.place_name} and {port.second.name}")
    if port.place is None:
        return switches.add(switch, name, port)
    port.join_switches()
    try:
        return switches.add(switch, name, port)
    except Refused:
        port.part_switches()
        raise


def detach(opener: Opener, call: Call) -> None:
    """Take a NIC or a persistent port off its switch."""
    body = call.body
    assert isinstance(body, ValeDetach)
    if not call.name.startswith("vale"):
        raise Refused(errno.EINVAL, f"{call.name!r} is not a port of a switch; write it as vale0:ix0")
    switches = opener.world.switches
    place = switches.place(call.name)
    if place is None:
        raise Refused(errno.ENXIO, f"{call.name} is not attached")
    if place.polling:
        raise Refused(errno.EBUSY, f"{call.name} is polled; end that first")
    body.port_index = place.inside.index
    port = place.port
    if isinstance(port, NicPort):
        opener.check_owner(opener.world.nics[port.name])
        host = switches.place(f"{call.name}{HOST}")
        if host is not None:
            switches.remove(host)
        switches.remove(place)
        opener.world.serve()
        port.take_host_back()
        port.set_attached(False)
    elif port.persistent:
        opener.check_port(port)
        if port.second not in (None, place):
            raise Refused(errno.EBUSY, f"{call.name} is joined with another switch; detach that first")
        switches.remove(place)
    opener.world.serve()


def list_ports(opener: Opener, call: Call) -> None:
    """The place of a port; or, without a name, the first port at or after an index."""
    body = call.body
    assert isinstance(body, ValeList)
    bridges = opener.world.switches.bridges
    if call.name:
        if not call.name.startswith("vale"):
            raise Refused(errno.EINVAL, f"{call.name!r} is not a port of a switch")
        bridge = bridges.get(call.name.partition(":")[0])
        if bridge is None:
            raise Refused(errno.ENOENT, f"there is no switch {call.name.partition(':')[0]}")
        found = [place for place in bridge.places if place.name == call.name]
        body.nr_bridge_idx = bridge.number
        body.nr_port_idx = found[0].inside.index if found else NO_PORT
        return
    start = (body.nr_bridge_idx, body.nr_port_idx)
    places = {(place.switch.number, place.inside.index): place for place in opener.world.switches.all_places()}
    later = sorted(key for key in places if key >= start)
    if not later:
        raise Refused(errno.ENOENT, "there is no further port of a switch")
    body.nr_bridge_idx, body.nr_port_idx = later[0]
    call.header.nr_name = places[later[0]].name.encode()


def newif(opener: Opener, call: Call) -> None:
    """Make a persistent port."""
    body = call.body
    assert isinstance(body, ValeNewif)
    world = opener.world
    if call.name.startswith("vale") or not 0 < len(call.name) <= MOST_NAME:
        raise Refused(
            errno.EINVAL, f"{call.name!r} cannot be a persistent port: 1 to {MOST_NAME} characters, not vale..."
        )
    if call.name in world.ports or call.name in world.switches.persistent:
        raise Refused(errno.EEXIST, f"{call.name} is there already")
    world.memories.find(body.nr_mem_id)
    port = world.switches.make(call.name, body, persistent=True)
    world.switches.persistent[call.name] = port
    body.nr_tx_slots, body.nr_rx_slots = port.tx[0].ring.num_slots, port.rx[0].ring.num_slots
    body.nr_tx_rings, body.nr_rx_rings, body.nr_mem_id = len(port.tx), len(port.rx), port.mem_id


def delif(opener: Opener, call: Call) -> None:
    """Remove a persistent port."""
    world = opener.world
    port = world.switches.persistent.get(call.name)
    if port is None:
        if call.name in world.ports:
            raise Refused(errno.EINVAL, f"{call.name} is a NIC")
        raise Refused(errno.ENXIO, f"there is no persistent port {call.name!r}")
    opener.check_port(port)
    if port.in_use or port.place is not None:
        raise Refused(errno.EBUSY, f"{call.name} is in use")
    del world.switches.persistent[call.name]
    port.destroy()


def polling(opener: Opener, call: Call) -> None:
    """Start or end polling of an attached NIC. The service polls it anyway, so only the state changes."""
    body = call.body
    assert isinstance(body, ValePolling)
    place = attached_nic(opener, call.name)
    on = call.kind == Request.VALE_POLLING_ENABLE
    if on:
        cpus = os.cpu_count() or 1
        if not 0 < body.nr_num_polling_cpus < cpus or body.nr_mode not in (SINGLE, MULTI):
            raise Refused(errno.EINVAL, f"{call.name}: polling by {body.nr_num_polling_cpus} of {cpus} processors")
        if body.nr_mode == SINGLE and body.nr_num_polling_cpus != 1:
            raise Refused(errno.EINVAL, f"{call.name}: polling by a single processor has nr_num_polling_cpus 1")
        if body.nr_mode == MULTI and body.nr_first_cpu_id + body.nr_num_polling_cpus > len(place.port.rx):
            raise Refused(errno.EINVAL, f"{call.name} has {len(place.port.rx)} RX rings to poll")
    if place.polling == on:
        raise Refused(errno.EFAULT, f"{call.name} is {'polled already' if on else 'not polled'}")
    place.polling = on


def attached_nic(opener: Opener, name: str) -> Place:
    """Raises Refused unless the name is an attached NIC's."""
    if not name.startswith("vale"):
        raise Refused(errno.EINVAL, f"{name!r} is not a port of a switch")
    place = opener.world.switches.place(name)
    if place is None:
        raise Refused(errno.ENXIO, f"{name} is not attached")
    if not isinstance(place.port, NicPort) or place.host:
        raise Refused(errno.EOPNOTSUPP, f"{name} is not a NIC")
    opener.check_owner(opener.world.nics[place.port.name])
    return place


def port_hdr(opener: Opener, call: Call) -> None:
    """PORT_HDR_GET and _SET: bytes of the virtio-net header before each frame. Only switch ports may have one."""
    body = call.body
    assert isinstance(body, PortHeader)
    port = opener.world.existing(call.name)
    if call.kind == Request.PORT_HDR_GET:
        body.nr_hdr_len = port.header if isinstance(port, SoftPort) else 0
        return
    if body.nr_hdr_len not in HEADERS:
        raise Refused(errno.EINVAL, f"a virtio-net header has 0, 10 or 12 bytes, not {body.nr_hdr_len}")
    if not isinstance(port, SoftPort):
        raise Refused(errno.ENXIO, f"{call.name} is not a port of a switch")
    opener.check_port(port)
    port.header = body.nr_hdr_len
    if port.place is not None:
        port.place.inside.header = port.header
