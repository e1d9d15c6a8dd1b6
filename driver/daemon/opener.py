"""One open of /dev/netmap: who has opened it, and what it has bound."""

from __future__ import annotations

import errno

from .abi import Register
from .errors import Refused
from .handles import Bound
from .nic import Nic
from .offsets import OffsetsOption
from .policy import Peer
from .ports import NetmapPort
from .world import World


class Opener:
    """bound: what a registration has bound, or None."""

    def __init__(self, world: World, peer: Peer) -> None:
        self.world, self.peer = world, peer
        self.bound: Bound | None = None

    def check_port(self, port: NetmapPort) -> None:
        """Raises Refused(EPERM) if this user may not open the port, or change one that a program has made."""
        world = self.world
        beside = port.pool is world.pool and any(nic.session.device.scattered for nic in world.nics.values())
        world.policy.check_port(self.peer, port.owner_name, port.user, scattered=port.scattered or beside)

    def check_owner(self, nic: Nic) -> None:
        """Raises Refused(EPERM) if this user may not change the NIC's settings."""
        if not self.world.policy.owns(self.peer, nic.name):
            raise Refused(errno.EPERM, f"{self.peer} may not change {nic.name}. To allow it: --allow {nic.name}=USER")

    def bind(self, port: NetmapPort, body: Register, offsets: OffsetsOption | None = None) -> None:
        """Bind rings to this handle. offsets: the option of that name. Raises Refused."""
        self.bound = Bound(port, body, self.peer.process, offsets)
        self.world.add(self.bound)

    def leave(self) -> None:
        """Before unbind(): the handle's requests are not answered any more."""
        if self.bound is not None:
            self.world.leave(self.bound)

    def has_unsent(self) -> bool:
        """Whether unbind() would now lose frames that the NIC has not sent yet."""
        return self.bound is not None and self.bound.unsent

    def unbind(self) -> None:
        """Undo bind(). May be called again."""
        bound, self.bound = self.bound, None
        if bound is not None:
            self.world.remove(bound)
