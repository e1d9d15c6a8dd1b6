"""The host's side of a NIC: a TAP interface of Linux with the port's name.

While no program has the NIC's rings, the daemon forwards between the NIC and the TAP, so that the NIC works as any
other. A program that opens a ring takes its frames; `ix0^` gives it the host's side.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from ixrings.hw.errors import WireError
from ixrings.hw.tap import is_deleted, is_up, mtu_of, name_of, open_tap, set_address_and_mtu
from ixrings.rings.soft import Host

from ..config import frame_size
from .handles import Bound
from .nic import Nic
from .rings import SharedRing

MOST_NEWS = 64  # messages in one look
RTMGRP_LINK = 1  # linux/rtnetlink.h: changes of interfaces


class HostSide:
    """The TAP of one NIC. host: the task that the service does for it. Raises WireError when it cannot be made.

    joined: the receive queues whose frames go to the host.
    """

    def __init__(self, nic: Nic, on_change: Callable[[], None], log: Callable[[str], None]) -> None:
        """on_change: called when Linux has switched the interface on or off. log: takes a sentence."""
        self._on_change, self._log = on_change, log
        self.nic, self.name = nic, nic.name
        self._fd = open_tap(nic.name)
        try:
            self._news = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
            )
            self._news.bind((0, RTMGRP_LINK))
        except OSError:
            os.close(self._fd)
            raise
        self._frames = select.epoll()
        self._prepare_interface()
        self.up = True
        self._changed = False
        self._mtu = nic.port.mtu
        self.joined: set[int] = set()
        self.host = Host(self._fd, longest=frame_size(nic.session.options))  # a VLAN tag is as long as the CRC
        self._look_at_interface()

    def _prepare_interface(self) -> None:
        self._frames.register(self._fd, select.EPOLLIN | select.EPOLLET)  # frames that nobody has room for wake once
        with suppress(OSError):  # without root, the interface keeps the values that root gave it
            set_address_and_mtu(self.name, bytes.fromhex(self.nic.port.mac.replace(":", "")), self.nic.port.mtu)

    def _make_again(self) -> None:
        """Somebody has deleted the interface. Raises WireError."""
        try:
            made = open_tap(self.name)
        except WireError as error:
            raise WireError(
                f"the interface {self.name} was deleted, so {self.name}^ has ended. It cannot be made again: {error}"
            ) from None
        os.close(self._fd)
        self._fd = self.host.state.fd = made
        self._prepare_interface()
        self._log(
            f"the interface {self.name} was deleted, and the daemon has made it again. It is down and has no address. "
            f"Run: ip link set {self.name} up"
        )

    def _look_at_interface(self) -> None:
        """See what has become of it. Raises WireError if it was deleted and cannot be made again."""
        if is_deleted(self._fd):
            self._make_again()
        try:
            name = name_of(self._fd)
            up, mtu = is_up(name), mtu_of(name)
        except OSError:  # it is in another namespace
            up, mtu = True, self._mtu
        self._changed, self.up = self._changed or up != self.up, up
        longest = self.nic.port.mtu
        if mtu != self._mtu and mtu > longest:
            self._log(
                f"the interface {name} has an MTU of {mtu} now, and {self.name} sends packets of at most {longest} "
                f"bytes: longer ones are dropped. Run: ip link set {name} mtu {longest}"
            )
        self._mtu = mtu

    def join(
        self, tx: Sequence[SharedRing], rx: Sequence[SharedRing], handles: Iterable[Bound], *, attached: bool
    ) -> None:
        """Join rings anew after a change, between two runs of the service.

        tx, rx: the host's rings of the port. attached: a switch has the NIC's rings.
        """
        nic, forwarded = self.nic, self.up and not attached
        resting_rx = [ring for ring in nic.rx if forwarded and not ring.users]
        resting_tx = [ring for ring in nic.tx if forwarded and not ring.users]
        self.joined = {ring.ring.ringid for ring in resting_rx}
        down: list[SharedRing] = []
        for bound in handles:
            if any(ring in bound.rings for ring in rx) and all(ring in bound.rings for ring in nic.tx):
                down = list(nic.tx)
        self.host.join(
            tx=[ring.kring for ring in tx if ring.users],
            rx=[ring.kring for ring in rx if ring.users],
            nic_tx=[ring.kring for ring in resting_tx],
            nic_rx=[ring.kring for ring in resting_rx],
            down=[ring.kring for ring in down],
            up=[ring.kring for ring in nic.rx if ring.users],
        )

    def leave(self) -> None:
        """Join no ring any more."""
        self.host.join()
        self.joined = set()

    # ---- what ends a sleep (loop.Sleeper) ----

    def descriptors(self) -> Iterable[int]:
        return (self._frames.fileno(), self._news.fileno())

    def arm(self) -> None:
        pass

    def drain(self) -> None:
        """Look whether somebody has changed the interface."""
        self._frames.poll(0)
        try:
            for _ in range(MOST_NEWS):  # what is left ends the next sleep at once
                self._news.recv(1 << 16)
        except BlockingIOError:
            pass
        except OSError:  # messages were lost
            pass
        self._look_at_interface()

    def react(self) -> None:
        if self._changed:
            self._changed = False
            self._on_change()

    def look_after(self) -> None:
        """Also while programs keep the service awake, so that it drains nothing."""
        self.drain()
        self.react()

    def close(self) -> None:
        """The interface goes, unless it was made to stay (`ip tuntap add`)."""
        self._news.close()
        self._frames.close()
        os.close(self._fd)
