"""The host's side of a NIC: a TAP interface of Linux with the port's name.

While no program has the NIC's rings, the daemon forwards between the NIC and the TAP, so that the NIC works as any
other. A program that opens a ring takes its frames; `ix0^` gives it the host's side.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from ixrings.hw.errors import WireError
from ixrings.hw.tap import is_deleted, is_up, name_of, open_tap, set_address_and_mtu
from ixrings.rings.soft import Host

from ..config import frame_size
from .handles import Bound
from .nic import Nic
from .rings import SharedRing

RTMGRP_LINK = 1  # linux/rtnetlink.h: changes of interfaces


class HostSide:
    """The TAP of one NIC. host: the task that the service does for it. Raises WireError when it cannot be made.

    joined: the receive queues whose frames go to the host.
    """

    def __init__(self, nic: Nic, on_change: Callable[[], None]) -> None:
        """on_change: called when Linux has switched the interface on or off."""
        self._on_change = on_change
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
        with suppress(OSError):  # without root, the interface keeps the values that root gave it
            set_address_and_mtu(nic.name, bytes.fromhex(nic.port.mac.replace(":", "")), nic.port.mtu)
        self.up = self._is_up()
        self._changed = False
        self.joined: set[int] = set()
        self.host = Host(self._fd, longest=frame_size(nic.session.options))  # a VLAN tag is as long as the CRC

    def _is_up(self) -> bool:
        try:
            return is_up(name_of(self._fd))
        except OSError:  # it is in another namespace
            return True

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
        return (self._fd, self._news.fileno())

    def arm(self) -> None:
        pass

    def drain(self) -> None:
        """Look whether Linux has switched the interface on or off."""
        try:
            while self._news.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        except OSError:  # messages were lost
            pass
        if is_deleted(self._fd):
            raise WireError(f"the interface {self.name} was deleted. To have it again, start the daemon anew")
        up = self._is_up()
        self._changed = up != self.up
        self.up = up

    def react(self) -> None:
        if self._changed:
            self._changed = False
            self._on_change()

    def look_after(self) -> None:
        pass

    def close(self) -> None:
        """The interface goes, unless it was made to stay (`ip tuntap add`)."""
        self._news.close()
        os.close(self._fd)
