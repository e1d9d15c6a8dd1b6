"""The far end of a guest's cable: a TAP in a network namespace of this machine, used by Linux's network stack."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.namespaces import Namespace, ip
from tests.support.programs import wait_for

from .guest import Guest, Result

HOST, GUEST = "10.9.0.1", "10.9.0.2"
PORT = 5001
TRAFFIC = Path(__file__).resolve().parent.parent / "in_guest/traffic.py"
SEND_FRAMES = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind((sys.argv[1], 0))
    for _ in range(int(sys.argv[3])):
        raw.send(bytes.fromhex(sys.argv[2]))
"""


class HostEnd:
    """The interface `interface`, moved into the namespace `space`, with the address HOST."""

    def __init__(self, space: Namespace, interface: str) -> None:
        self.space, self.interface = space, interface
        space.take(interface, f"{HOST}/24")

    def send(self, frame: bytes, count: int = 1) -> None:
        """Send the frame unchanged, with any tags that it has."""
        sent = self.space.run(sys.executable, "-c", SEND_FRAMES, self.interface, frame.hex(), str(count))
        assert not sent.returncode, sent.stderr

    def send_frames(self, destination: str, count: int) -> None:
        """Send frames of 60 bytes of a type that the guest ignores."""
        self.send(
            (bytes.fromhex(destination.replace(":", "")) + bytes.fromhex("02000000000188b5")).ljust(60, b"\0"), count
        )

    def received(self) -> int:
        """The number of frames that came from the guest."""
        shown = self.space.run("cat", f"/sys/class/net/{self.interface}/statistics/rx_packets")
        return int(shown.stdout)

    def set_mtu(self, mtu: int) -> None:
        ip("-n", self.space.name, "link", "set", self.interface, "mtu", str(mtu))

    def exchange(self, guest: Guest, total: int, timeout_s: float = 240) -> Result:
        """Transfer `total` bytes over TCP from the guest, then as many to it. Both ends check every byte."""
        command = self.space.command(sys.executable, str(TRAFFIC), "listen", str(PORT), str(total))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as listener:
            assert listener.stdout
            assert listener.stdout.readline() == "listening\n"
            try:
                result = guest.run(
                    f"python3 /project/tests/qemu/in_guest/traffic.py connect {HOST} {PORT} {total}",
                    timeout_s=timeout_s,
                )
                output, _ = listener.communicate(timeout=30)
            finally:
                listener.kill()
        assert listener.returncode == 0, output
        return result


class LinuxPort:
    """An interface in the guest, driven by Linux."""

    def __init__(self, guest: Guest, name: str = "eth0", address: str = GUEST) -> None:
        self.guest, self.name, self.address = guest, name, address

    def up(self, mtu: int = 1500) -> None:
        """Set the interface up with its address, and wait for its carrier."""
        self.guest.run(f"ip link set {self.name} up mtu {mtu}; ip address replace {self.address}/24 dev {self.name}")
        self.wait_for_carrier(True)

    def carrier(self) -> bool:
        return self.guest.run(f"cat /sys/class/net/{self.name}/carrier || true").output.strip() == "1"

    def wait_for_carrier(self, wanted: bool, seconds: float = 60) -> None:
        wait_for(
            lambda: self.carrier() == wanted, f"{self.name} did not {'get' if wanted else 'lose'} its carrier", seconds
        )

    def ping(self, *options: str, to: str = HOST) -> None:
        """Ping from the guest, and assert that no packet is lost.

        Linux forgets the neighbour first. A frame that waited for an answer while the cable was out leaves an entry
        that fails up to 3 s later, and takes the pings that wait in it along.
        """
        self.guest.run(f"ip neigh flush to {to}")
        answer = self.guest.run(f"ping -q {' '.join(options)} {to}", timeout_s=300).output
        assert ", 0% packet loss" in answer, answer

    def counters(self) -> dict[str, int]:
        """The counters of ethtool -S."""
        lines = self.guest.run(f"ethtool -S {self.name}").output.splitlines()
        return {
            name.strip(): int(value)
            for name, _, value in (line.rpartition(":") for line in lines)
            if value.strip().isdecimal()
        }

    def settled_counters(self) -> dict[str, int]:
        """The counters after two equal readings of rx_packets, so frames on their way have been counted."""
        before = self.counters()
        for _ in range(10):
            time.sleep(0.3)
            now = self.counters()
            if now["rx_packets"] == before["rx_packets"]:
                return now
            before = now
        return before


# Linux's messages when a cable is pulled while it sends.
LINK_LOSS = ("initiating reset to clear Tx work after link loss", "Reset adapter")
# What kernels say of QEMU's machine while they start, and of every function-level reset.
OF_THE_MACHINE = (
    "DMAR: VT-d Scalable Mode not enabled",  # Linux 6.1
    "vfio-pci 0000:01:00.0: resetting",  # Linux 7.3
    "vfio-pci 0000:01:00.0: reset done",
)


def warnings(
    guest: Guest, about: Sequence[str] = ("ixgbe", "0000:01:00", "DMAR", "Call Trace", "WARNING", "BUG")
) -> list[str]:
    """Lines of the kernel's log with level warning or worse that contain one of these words, except OF_THE_MACHINE."""
    lines = guest.run("dmesg --level=emerg,alert,crit,err,warn").output.splitlines()
    found = [line for line in lines if any(word in line for word in about)]
    return [line for line in found if not any(words in line for words in OF_THE_MACHINE)]
