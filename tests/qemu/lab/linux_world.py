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
        self.port.ping(*options, to=to)


@contextmanager
def linux_world(lab: Lab, folder: Path, *, iommu: bool = True) -> Iterator[World]:
    tap = unique("ixq")
    with namespace("ixH") as space, ServedNic(folder, f"tap={tap}") as served:
        host = HostEnd(space, tap)
        with Guest(lab, folder, nics=[served.socket], iommu=iommu) as guest:
            guest.run("modprobe ixgbe")
            port = LinuxPort(guest)
            port.up()
            yield World(guest, port, host, served)
