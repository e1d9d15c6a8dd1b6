"""A NIC whose frames the service copies: its rings are in memory that no program has.

The first open of the port makes rings in a private region. Each pair of rings is joined with the NIC's by a switch that
learns no address, as by a cable. Programs of the same user share that region, and others are refused meanwhile.
"""

from __future__ import annotations

import errno

from .errors import Refused
from .memories import Memories
from .nic import NicPort
from .policy import user_name
from .switches import CABLE_S, Bridge, Place, SoftPort, Switches


class Isolated(Switches):
    """What stands for the port `nic` while programs have it. It is the one who ends the port (SoftPort)."""

    def __init__(self, nic: NicPort, memories: Memories) -> None:
        self.nic, self._memories = nic, memories
        self.bridges = {}
        self.persistent = {}
        self.port: SoftPort | None = None

    def open(self, extra: int) -> SoftPort:
        """The port for the acting user. extra: how many extra buffers its memory should have. Raises Refused."""
        if self.port is not None:
            if self.port.pool.user != self._memories.acting:
                who = user_name(self.port.pool.user or 0)
                raise Refused(errno.EBUSY, f"{self.nic.name} is isolated, and {who} has it now")
            return self.port
        if self.nic.attached or self.nic.in_use:
            raise Refused(errno.EBUSY, f"{self.nic.name} is attached to a switch")
        nic = self.nic
        tx, rx = ([ring.ring.num_slots for ring in rings] for rings in (nic.tx, nic.rx))
        with self._memories.private(nic.name, tx, rx, nic.region.buf_size, extra) as pool:
            self.port = SoftPort(nic.name, pool, pool.register(nic.name, tx, rx), self, persistent=False)
        for number in range(max(len(tx), len(rx))):
            bridge = self.bridges[str(number)] = Bridge(nic.name, number, CABLE_S)
            bridge.places = [Place(bridge, nic.name, port, only=number) for port in (self.port, nic)]
        self.port.place = self.bridges["0"].places[0]
        nic.attached = True
        return self.port

    def remove(self, place: Place) -> None:
        """The port has no handle any more: the NIC is the host's again."""
        for bridge in self.bridges.values():
            for each in bridge.places:
                bridge.switch.remove(each.inside)
        self.bridges, self.port = {}, None
        self.nic.attached = False
