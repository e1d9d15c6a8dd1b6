"""The daemon: its NICs, memory, sessions, and the order in which they start and end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import cast

from ixrings.hw.device import Device
from ixrings.hw.errors import WireError
from ixrings.rings import Region

from ..bringup import region_memory
from ..config import BUFFER, PAGED_BUFFER, OnePortOptions, PortOptions
from ..opening import hugepages, open_port, scattered, wait_for_partner
from ..options import complete
from . import memory
from .host import HostSide
from .isolated import Isolated
from .nic import Nic, NicPort
from .policy import Peer, Policy
from .session import Session
from .world import World


@dataclass(frozen=True)
class Settings:
    """ports: for each name that programs use, the port name that opens it, or a Device. memory_mb: of the region; 0: as
    needed. host: whether each NIC has a TAP; None: if it is allowed. isolated: names of ports whose frames are copied.
    vlans: those that each NIC receives; None: all, and of a virtual function none.
    """

    ports: Mapping[str, str | Device]
    options: PortOptions = field(default_factory=lambda: PortOptions())
    policy: Policy = field(default_factory=Policy)
    memory_mb: int = 0
    spin_ns: int = 1000
    host: bool | None = None
    isolated: frozenset[str] = frozenset()
    vlans: frozenset[int] | None = None


class Daemon(World):
    """Use it in a `with` block. Raises the errors of open_port() while it opens the NICs."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.policy, settings.spin_ns)
        self._undo = ExitStack()
        try:
            self._undo.callback(self.service.close)
            self._undo.callback(self.spare.close)
            self._open_nics(settings)
            self._undo.callback(self.loop.close)
            self.loop.start()
        except BaseException:
            self.close()
            raise

    def _open_nics(self, settings: Settings) -> None:
        names = list(settings.ports.values())
        options = complete(PortOptions, settings.options, "ixrings daemon")
        size = options["buf_size"] or (PAGED_BUFFER if any(map(scattered, names)) else BUFFER)
        needs = memory.needs(len(names) - len(settings.isolated), options, settings.memory_mb, size)
        # Another user could punch a hole of 2 MiB: so hugepages only among ourselves, or where others may not open it.
        among_ourselves = not self.policy.others or any(map(scattered, names))
        special = region_memory(hugepages(names) if among_ourselves else False)
        region = self._undo.enter_context(
            Region(buffers=needs.buffers, metadata=needs.metadata, buf_size=size, memory=special)
        )
        opened = []
        for name, target in settings.ports.items():
            place = self._own_region(target, options, size) if name in settings.isolated else region
            port = open_port(target, **cast(OnePortOptions, {**options, "region": place, "link_timeout": 0.0}))
            self._undo.callback(port.close)
            opened.append((name, port))
        for _, port in opened:  # only now: the ports may be link partners of each other
            wait_for_partner(port._owned(), options["link_timeout"])
            if settings.vlans is not None:
                port.vlan.filter = settings.vlans
        self.memories.add_common(region)
        for name, port in opened:
            pool = self.pool if name not in settings.isolated else self.memories.apart(port._owned().region)
            nic = Nic(name, port, pool, self.wanted)
            self.nics[name] = nic
            self.ports[name] = port_of = NicPort(nic, pool)
            if name in settings.isolated:
                self.isolated[name] = Isolated(port_of, self.memories)
            self.loop.watch(nic)
            if settings.host is not False:
                self._add_host(nic, port_of, needed=bool(settings.host))
        self.serve()

    def _own_region(self, target: str | Device, options: PortOptions, size: int) -> Region:
        """Memory for one NIC that no program has. So nobody can punch holes into it."""
        needs = memory.alone(options)
        special = region_memory(hugepages([target]))
        return self._undo.enter_context(
            Region(buffers=needs.buffers, metadata=needs.metadata, buf_size=size, memory=special)
        )

    def _add_host(self, nic: Nic, port: NicPort, *, needed: bool) -> None:
        """Give the NIC a TAP. Raises WireError if it is needed."""
        try:
            host = HostSide(nic, self.serve, self.log)
        except WireError as error:
            if needed:
                raise
            if os.geteuid() == 0:  # without root nobody expects a TAP
                self.log(f"{nic.name} has no host rings, and the host has no interface of this name: {error}")
            return
        self._undo.callback(host.close)
        self.hosts[nic.name] = host
        port.add_host()
        self.loop.watch(host)

    def admit(self, peer: Peer) -> Session:
        """A session for a new connection. Raises Refused(EACCES)."""
        self.policy.check_connection(peer)
        return Session(self, peer)

    def check(self) -> None:
        """Once a second: tell about lines that the log left out, and look whether the NICs are still there, also while
        programs keep the service busy."""
        self.log.tick()
        self.loop.call(self.loop.look_after)
        self.spare.close()

    def close(self) -> None:
        """End all handles, stop the service, stop the NICs. May be called again."""
        self._undo.close()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
