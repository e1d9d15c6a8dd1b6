"""Guests whose Linux drives VFs of our NIC with ixgbevf; the far end of the cable is a TAP of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ixrings.hw.capture.pcap import read_capture
from ixrings.hw.registers import Registers
from tests.support.namespaces import namespace, tcpdump, unique

from .guest import Guest
from .host_end import SEND_FRAMES, HostEnd, LinuxPort
from .prepared import Lab
from .served import ServedVfs

# Linux announces no IPv6 address, so every frame is one of the test.
QUIET = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; "


ARP = b"\x08\x06"


@dataclass
class VfWorld:
    """Guest n has its VF as eth0, with the address 10.9.0.(2 + n). `guest` and `port` are those of guest 0."""

    guests: list[Guest]
    ports: list[LinuxPort]
    host: HostEnd
    served: ServedVfs

    @property
    def guest(self) -> Guest:
        return self.guests[0]

    @property
    def port(self) -> LinuxPort:
        return self.ports[0]

    def send(self, frame: bytes, count: int, interface: str = "eth0") -> None:
        """The guest sends the frame unchanged."""
        (self.guest.share / "send.py").write_text(SEND_FRAMES)
        self.guest.run(f"python3 /share/send.py {interface} {frame.hex()} {count}")

    @contextmanager
    def on_the_wire(self) -> Iterator[list[bytes]]:
        """The frames that leave the NIC meanwhile, without untagged ARP; the list is filled at the end."""
        file, frames = self.guest.folder / "wire.pcap", list[bytes]()
        with tcpdump(self.host.space, self.host.interface, file, "-Q", "in"):
            before = self.host.received()
            yield frames
            sent = self.host.received() - before
        captured = read_capture(file)
        assert len(captured) >= sent
        frames += [frame for frame in captured if frame[12:14] != ARP]

    @property
    def regs(self) -> Registers:
        """The registers of the PF."""
        return Registers(self.served.nic)


@contextmanager
def linux_vfs(
    lab: Lab, folder: Path, *numbers: int, macs: Sequence[bytes] = (), kind: str = "linux", iommu: bool = True
) -> Iterator[VfWorld]:
    """A guest for each of the VFs; macs: the addresses by the administrator; kind: of the PF's agent."""
    tap = unique("ixq")
    with ExitStack() as stack:
        space = stack.enter_context(namespace("ixH"))
        served = stack.enter_context(ServedVfs(folder, f"tap={tap}", max(numbers) + 1, kind, numbers=numbers))
        for number, mac in zip(numbers, macs):
            served.agent.set_vf(number, mac=mac)
        world = VfWorld([], [], HostEnd(space, tap), served)
        for place in range(len(numbers)):
            start(stack, lab, world, place, folder / f"guest{place}", iommu)
        yield world


def start(stack: ExitStack, lab: Lab, world: VfWorld, place: int, folder: Path, iommu: bool) -> None:
    """Start a guest at the socket number `place`, and open its VF."""
    guest = stack.enter_context(Guest(lab, folder, nics=[world.served.sockets[place]], iommu=iommu))
    port = LinuxPort(guest, address=f"10.9.0.{2 + place}")
    guest.run(f"{QUIET} modprobe ixgbevf")
    port.up()
    world.guests.append(guest)
    world.ports.append(port)
