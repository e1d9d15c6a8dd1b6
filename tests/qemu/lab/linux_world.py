"""A guest whose Linux drives our NIC with ixgbe; the far end of the cable is a TAP of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.namespaces import namespace, unique

from .guest import Guest
from .host_end import HOST, HostEnd, LinuxPort
from .prepared import Lab
from .served import ServedNic


@dataclass
class World:
    guest: Guest
    port: LinuxPort
    host: HostEnd
    served: ServedNic

    def ping(self, *options: str, to: str = HOST) -> None:
        """Ping from the guest, and assert that no packet is lost.

        Linux forgets the neighbour first. A frame that waited for an answer while the cable was out leaves an entry
        that fails up to 3 s later, and takes the pings that wait in it along.
        """
        self.guest.run(f"ip neigh flush to {to}")
        answer = self.guest.run(f"ping -q {' '.join(options)} {to}", timeout_s=300).output
        assert ", 0% packet loss" in answer, answer


@contextmanager
def linux_world(lab: Lab, folder: Path) -> Iterator[World]:
    tap = unique("ixq")
    with namespace("ixH") as space, ServedNic(folder, f"tap={tap}") as served:
        host = HostEnd(space, tap)
        with Guest(lab, folder, nics=[served.socket]) as guest:
            guest.run("modprobe ixgbe")
            port = LinuxPort(guest)
            port.up()
            yield World(guest, port, host, served)
