"""A NIC of the daemon: its rings, what of it can end the daemon's sleep, and its port with host rings."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from ixrings.rings import Interface
from ixrings.rings.service import Kind

from ..errors import PortError
from ..port import Port
from .abi import Mode, PortInfo, Register
from .errors import Refused
from .null import make_rings
from .pool import DAEMON, Indices, Pool
from .ports import NetmapPort
from .rings import NicRing, SharedRing, SoftRing


class Nic:
    """A port by the name that programs use. tx, rx: its rings, by number.

    wanted: returns the numbers of the receive and of the transmit queues that somebody waits for. Raises PortError for
    a transport that the service cannot serve.
    """

    def __init__(self, name: str, port: Port, pool: Pool, wanted: Callable[[Nic], tuple[set[int], set[int]]]) -> None:
        self.name, self.port = name, port
        self.session = port._owned()
        if self.session.device.doorbells_need_ringing:
            why = (
                "A virtual function at a socket has no doorbell region; open the whole NIC, or one of vfio-pci"
                if self.session.device.virtual
                else "Serve it with a doorbell region (without --trap-all)"
            )
            raise PortError(
                f"{name}: {self.session.device.name} needs a message after each sync, and the daemon's service thread "
                f"sends none. {why}"
            )
        for queue in (*self.session.tx, *self.session.rx):
            queue.ring.name = f"{name} {queue.ring.direction.name} ring {queue.ring.ringid}"
        tx = [NicRing(pool, self.session, queue) for queue in self.session.tx]
        rx = [NicRing(pool, self.session, queue) for queue in self.session.rx]
        self.tx: list[SharedRing] = [*tx]
        self.rx: list[SharedRing] = [*rx]
        if self.session.device.virtual:
            self.session.vf.restarted = lambda queue: next(
                each for each in (*tx, *rx) if each.ring is queue.ring
            ).restart()
        self._wanted = wanted
        self._armed: tuple[set[int], set[int]] = (set(), set())
        self.gone = ""

    # ---- what ends a sleep (loop.Sleeper) ----

    def descriptors(self) -> Iterable[int]:
        interrupts = self.session.interrupts
        return (interrupts.rx.fileno(), interrupts.tx.fileno())

    def arm(self) -> None:
        rx, tx = wanted = self._wanted(self)
        interrupts = self.session.interrupts
        if wanted != self._armed:
            interrupts.use(rx, tx)
            self._armed = wanted
        if rx:
            interrupts.rx.arm()
        if tx:
            interrupts.tx.arm()
        self.session.device.work_ends()

    def drain(self) -> None:
        self.session.interrupts.drain_receive()
        self.session.interrupts.tx.drain()

    def react(self) -> None:
        pass

    def look_after(self) -> None:
        for ring in (*self.tx, *self.rx):
            ring.kring.attention = 0
        self.session.look_after()


class NicPort(NetmapPort):
    """The port of a NIC, with host rings if the NIC has a TAP.

    As netmap, it has one host ring each way, or as many as the first handle asks for.
    """

    def __init__(self, nic: Nic, pool: Pool) -> None:
        super().__init__(nic.name, pool, nic.tx, nic.rx, scattered=nic.session.device.scattered)
        self._nic = nic
        self._made: Interface | None = None
        self._of_switch: dict[SoftRing, Indices] = {}  # host rings that a switch has, with their buffers
        self._promiscuous = False  # before it was attached
        self.has_host = self.attached = False

    def check_open(self, body: Register) -> None:
        if self.attached:
            raise Refused(errno.EBUSY, f"{self.name} is attached to a switch")
        if body.nr_mode in (Mode.SW, Mode.NIC_SW, Mode.ONE_SW) and self.host_tx and not self.has_host:
            raise Refused(errno.EINVAL, f"{self.name} has no host rings any more: its interface was deleted")

    # ---- a switch has the NIC ----

    @property
    def virtual(self) -> bool:
        """Whether it is a virtual function, which receives nothing for others."""
        return self._nic.session.device.virtual

    def set_attached(self, on: bool) -> None:
        """A switch has the NIC's rings, or not any more. It receives what is for others, too."""
        self.attached = on
        port = self._nic.port
        if on:
            self._promiscuous = port.promiscuous
        port.promiscuous = on or self._promiscuous

    def give_host_to_switch(self) -> None:
        """The host rings get buffers of the daemon, and are the switch's. Raises Refused(ENOMEM)."""
        for ring in (*self.host_tx, *self.host_rx):
            assert isinstance(ring, SoftRing)
            buffers = self.pool.take(ring.ring.num_slots, DAEMON, ring.ring.name)
            self._of_switch[ring] = buffers
            ring.rebuild(buffers)
            ring.users = 1

    def take_host_back(self) -> None:
        """Undo give_host_to_switch(). May be called again."""
        for ring, buffers in self._of_switch.items():
            ring.users = 0
            ring.rest()
            self.pool.give(buffers, DAEMON)
        self._of_switch = {}

    # ---- host rings ----

    def prepare(self, body: Register | PortInfo) -> None:
        if self.has_host and not self.in_use:
            tx, rx = body.nr_host_tx_rings or 1, body.nr_host_rx_rings or 1
            if (tx, rx) != (len(self.host_tx), len(self.host_rx)):
                self._make_host_rings(tx, rx)

    def released(self) -> None:
        if self.has_host and not self.in_use and (len(self.host_tx), len(self.host_rx)) != (1, 1):
            with self.pool.work_of_daemon():
                self._make_host_rings(1, 1)

    def add_host(self) -> None:
        """The NIC has a TAP. Raises Refused(ENOMEM)."""
        self.has_host = True
        self._make_host_rings(1, 1)

    def lose_host(self) -> None:
        """The TAP is gone. poll() of a program that has host rings reports POLLERR from now on."""
        self.has_host = False
        for ring in (*self.host_tx, *self.host_rx):
            ring.kring.kind = Kind.ENDED

    def _make_host_rings(self, tx: int, rx: int) -> None:
        if self._made is not None:
            self._made.close()
        self.host_tx, self.host_rx, self._made = (), (), None
        options = self._nic.session.options
        self._made = make_rings(f"{self.name}^", self.pool, tx, rx, options["tx_slots"], options["rx_slots"])
        for sent in self._made.tx_rings:
            sent.ringid += len(self.tx)
        for received in self._made.rx_rings:
            received.ringid += len(self.rx)
        self.host_tx = [SoftRing(self.pool, ring) for ring in self._made.tx_rings]
        self.host_rx = [SoftRing(self.pool, ring) for ring in self._made.rx_rings]
