"""The daemon has two 82599s behind a real IOMMU, and programs without root use them.

The cable of ix0 leads to a port in the test's process, that of ix1 to Linux's network stack in a namespace. The
scenarios share one guest and one daemon, until the last ones end it and give the NICs back to Linux.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.qemu.in_guest.daemon_client import answer
from tests.qemu.lab.host_end import GUEST, HostEnd, LinuxPort, warnings
from tests.qemu.lab.ours import AS_NOBODY, IN_GUEST, LEFT, RIGHT, OurGuest, our_guest, sending
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import LINUX_DOES
from tests.support.namespaces import namespace, unique
from tests.support.netmap_programs import command
from tests.support.programs import wait_for

pytestmark = pytest.mark.qemu

SOCKET = "/run/ixrings/netmap.sock"
CLIENT = f"IXRINGS_SOCKET={SOCKET} {AS_NOBODY}"
OTHER_USER = f"IXRINGS_SOCKET={SOCKET} setpriv --reuid=1 --regid=1 --clear-groups"
# QEMU passes each page of 4 KiB that the IOMMU maps to both NICs in a message, so the memory is small.
OPTIONS = "--group nogroup --host --slots 256 --memory 16"
FRAMES, BATCH = 1000, 50
TCP_BYTES = 1_000_000
START_S = 60


@dataclass
class World:
    """ours: the guest. host: the far end of ix1's cable. daemon: its process in the guest."""

    ours: OurGuest
    host: HostEnd
    daemon: int = 0

    def start(self, name: str, program: str) -> int:
        """Start a program in the guest; its output goes to NAME.out and NAME.err. Returns its process number."""
        return int(self.ours.run(f"{program} > /share/{name}.out 2> /share/{name}.err & echo $!"))

    def read(self, file: str) -> str:
        """What a program in the guest has printed so far."""
        return (self.ours.guest.share / file).read_text(errors="replace")

    def wait_for_line(self, name: str, words: str) -> None:
        wait_for(lambda: words in self.read(f"{name}.out"), f"{name} has not printed {words!r}", START_S)

    def ping(self, count: int = 10) -> None:
        """From the far end to the guest; asserts that nothing is lost as soon as one is answered.

        Frames are lost while a ring changes its owner.
        """
        one = self.host.space.command("ping", "-q", "-W", "1", "-c", "1", GUEST)
        wait_for(lambda: not subprocess.run(one, capture_output=True).returncode, "the guest does not answer", 30)
        # With -w, ping waits for the last answer longer than two round trips; it may send more until that has come.
        printed = self.host.space.run("ping", "-i", "0.05", "-w", "30", "-c", str(count), GUEST).stdout
        answered = [int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", printed)]
        assert answered == list(range(1, count + 1)), printed + self.read("daemon.err")

    def answers(self) -> int:
        """How many frames have come to the far end of ix1's cable."""
        return int(self.host.space.run("cat", f"/sys/class/net/{self.host.interface}/statistics/rx_packets").stdout)

    @contextmanager
    def bridge(self, name: str) -> Iterator[int]:
        """A netmap program in C, which user nobody runs, carries frames between ix1 and Linux's side of it."""
        pid = self.start(name, f"{CLIENT} python3 -m ixrings run /share/nm_bridge -i netmap:ix1 -i netmap:ix1^")
        try:
            self.wait_for_line(name, "{")
            yield pid
        finally:
            self.ours.run(f"kill -INT {pid} 2> /dev/null; tail --pid={pid} -f /dev/null", timeout_s=30)


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[World]:
    tap = unique("ixd")
    with namespace("ixD") as space, our_guest(lab, module_folder, right_wire=f"tap={tap}") as ours:
        shutil.copy(command("nm_bridge")[0], ours.guest.share)
        ours.run(f"modprobe tun && ixrings bind {LEFT} && ixrings bind {RIGHT}")
        world = World(ours, HostEnd(space, tap))
        world.daemon = world.start("daemon", f"python3 -m ixrings daemon ix0={LEFT} ix1={RIGHT} {OPTIONS}")
        world.wait_for_line("daemon", "ix0, ix1 at")
        ours.run(f"ip address add {GUEST}/24 dev ix1 && ip link set ix1 up")
        yield world


def exchange(world: World, name: str) -> None:
    """A client of user nobody answers the frames of the far end of ix0's cable; each byte is checked."""
    frames = [
        (bytes.fromhex("020000000001020000000099 88b5") + bytes((number + at) % 256 for at in range(1486)))[
            : 60 + number % 1440
        ]
        for number in range(FRAMES)
    ]
    with world.ours.far_end(0) as far:
        pid = world.start(name, f"{CLIENT} python3 {IN_GUEST}/daemon_client.py echo netmap:ix0 {FRAMES}")
        far.wait_link(60)
        world.wait_for_line(name, "open")
        for first in range(0, FRAMES, BATCH):
            far.send(frames[first : first + BATCH])
            received = far.recv(30)
            batch = [next(received, b"") for _ in range(BATCH)]
            assert batch == [answer(frame) for frame in frames[first : first + BATCH]], world.read(f"{name}.err")
        world.ours.run(f"tail --pid={pid} -f /dev/null", timeout_s=30)


def test_a_user_outside_the_group_is_refused(world: World) -> None:
    output = world.ours.run(
        f"{OTHER_USER} python3 -c 'from ixrings import open_port; open_port(\"netmap:ix0\")'", status=1
    )
    assert "Permission denied" in output


def test_a_python_program_without_root_exchanges_frames(world: World) -> None:
    exchange(world, "python")


def test_linux_has_the_nic_before_beside_and_after_a_c_program_without_root(world: World) -> None:
    world.ping()
    with world.bridge("bridge"):
        world.ping()
        world.host.exchange(world.ours.guest, TCP_BYTES)
    world.ping()
    world.host.exchange(world.ours.guest, TCP_BYTES)


def test_programs_that_are_killed_in_traffic_lose_no_buffer(world: World) -> None:
    with world.ours.far_end(0) as far, sending(far):
        counts = json.loads(world.ours.run(f"{CLIENT} python3 {IN_GUEST}/daemon_client.py kill ix0 7").splitlines()[-1])
    assert counts["received"] and counts["busy"]["programs"]
    assert counts["after"]["free"] + counts["after"]["daemon"] == counts["after"]["total"]
    exchange(world, "next")


def test_a_c_program_that_is_killed_in_traffic_gives_the_nic_back(world: World) -> None:
    flood = world.host.space.command("ping", "-q", "-f", "-c", "100000", GUEST)
    with world.bridge("killed") as pid, subprocess.Popen(flood, stdout=subprocess.DEVNULL) as ping:
        enough = world.answers() + 100
        wait_for(lambda: world.answers() > enough, "the guest does not answer the flood", 30)
        world.ours.run(f"kill -KILL {pid}")
        ping.terminate()
    world.ping()
    buffers = json.loads(world.ours.run("ixrings daemon --status --json"))["buffers"]
    assert not buffers["programs"] and buffers["free"] + buffers["daemon"] == buffers["total"]


def test_the_daemon_ends_and_linux_has_the_nics_again(world: World) -> None:
    assert [str(violation) for nic in world.ours.nics for violation in nic.nic.violations] == []
    world.ours.run(f"kill -TERM {world.daemon}; tail --pid={world.daemon} -f /dev/null; test ! -e {SOCKET}")
    world.ours.run(f"ixrings unbind {LEFT} && ixrings unbind {RIGHT}")
    name = world.ours.run(f"ls /sys/bus/pci/devices/{RIGHT}/net").strip()
    LinuxPort(world.ours.guest, name).up()
    world.ping()


def test_the_kernel_logged_no_warning_and_the_nics_only_rules_of_linux(world: World) -> None:
    assert warnings(world.ours.guest, ("vfio", "0000:0", "DMAR", "ix0", "ix1", "Call Trace", "WARNING", "BUG")) == []
    assert {violation.rule.name for nic in world.ours.nics for violation in nic.nic.violations} <= LINUX_DOES
