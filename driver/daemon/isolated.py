"""A NIC whose frames the service copies: its rings are in memory that no program has.

The first open of the port makes rings in a private region, or in one that the program names. Each pair of rings is
joined with the NIC's by a switch that learns no address, as by a cable. Programs of the same user share that region,
and others are refused meanwhile.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from .abi import Register
from .errors import Refused
from .memories import Memories
from .nic import NicPort
from .policy import user_name
from .pool import Pool
from .switches import CABLE_S, Bridge, Place, SoftPort, Switches


class Isolated(Switches):
    """What stands for the port `nic` while programs have it. It also ends the port (SoftPort).

    end: called after that, for a NIC that is only lent to programs with memory of their own. lent: whether it is lent.
    """

    def __init__(self, nic: NicPort, memories: Memories, end: Callable[[], None] | None = None) -> None:
        self.nic, self._memories, self._end = nic, memories, end
        self.lent = end is not None
        self.bridges = {}
        self.persistent = {}
        self.port: SoftPort | None = None

    def open(self, body: Register) -> SoftPort:
        """The port for the acting user, in the region that the registration names, or in a new one. Raises Refused."""
        if self.port is not None:
            if self.port.pool.user != self._memories.acting:
                who = user_name(self.port.pool.user or 0)
                how = "in memory of its own" if self.lent else "isolated"
                raise Refused(errno.EBUSY, f"{self.nic.name} is {how}, and {who} has it now")
            return self.port
        if self.nic.attached or self.nic.in_use:
            raise Refused(errno.EBUSY, f"{self.nic.name} is attached to a switch")
        nic = self.nic
        tx, rx = ([ring.ring.num_slots for ring in rings] for rings in (nic.tx, nic.rx))
        with self._memory(body, tx, rx) as pool:
            self.port = SoftPort(nic.name, pool, pool.register(nic.name, tx, rx), self, persistent=False)
        for number in range(max(len(tx), len(rx))):
            bridge = self.bridges[str(number)] = Bridge(nic.name, number, CABLE_S)
            bridge.places = [Place(bridge, nic.name, port, only=number) for port in (self.port, nic)]
        self.port.place = self.bridges["0"].places[0]
        nic.attached = True
        return self.port

    @property
    def waits(self) -> bool:
        """Whether frames of programs wait for room in a TX ring of the NIC."""
        return any(bridge.places[0].inside.state.waiting for bridge in self.bridges.values())

    def _memory(self, body: Register, tx: Sequence[int], rx: Sequence[int]) -> AbstractContextManager[Pool]:
        nic, memories = self.nic, self._memories
        named = memories.find(body.nr_mem_id)
        if named is not memories.common:
            return memories.held(named)
        return memories.private(nic.name, tx, rx, nic.region.buf_size, body.nr_extra_bufs)

    def remove(self, place: Place) -> None:
        """The port has no handle any more: the NIC is the host's again."""
        for bridge in self.bridges.values():
            for each in bridge.places:
                bridge.switch.remove(each.inside)
            bridge.places = []  # else both would keep each other, and the memory
        if self.port is not None:
            self.port.place = None  # released() may be called again
        self.bridges, self.port = {}, None
        self.nic.attached = False
        if self._end is not None:
            self._end()
