"""Our driver as the PF (`port.vfs`), and Linux's unmodified ixgbevf in a guest on one of its VFs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from ixrings import Port, open_port
from ixrings.hw.emulator import Emulated82599
from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import HOST, SEND_FRAMES, HostEnd, LinuxPort, warnings
from tests.qemu.lab.linux_vfs import QUIET
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import IXGBEVF_DOES, Serving, write_findings
from tests.support.namespaces import namespace, unique
from tests.support.programs import wait_for

pytestmark = pytest.mark.qemu

MAC, OTHER = "02:82:59:90:01:00", "02:82:59:90:01:99"
TCP_BYTES = 5_000_000
MANY = 20
TYPE = b"\x88\xb5"
PATIENCE_S = 30.0


@dataclass
class Hosted:
    """`port` is the PF's; `linux` is the guest's interface on VF 0."""

    nic: Emulated82599
    port: Port
    guest: Guest
    linux: LinuxPort
    host: HostEnd

    def open(self) -> None:
        self.port = open_port(self.nic)
        self.port.vfs.threaded = True


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[Hosted]:
    tap = unique("ixq")
    with ExitStack() as stack:
        space = stack.enter_context(namespace("ixH"))
        nic = stack.enter_context(Emulated82599(f"tap={tap}", vfs=2))
        stack.callback(write_findings, module_folder / "nic.findings", nic)
        port = stack.enter_context(open_port(nic))
        port.vfs.threaded = True
        port.vfs[0].mac = MAC
        serving = Serving(module_folder, "nic-vf0", nic.vf(0))
        stack.callback(serving.close)
        host = HostEnd(space, tap)
        guest = stack.enter_context(Guest(lab, module_folder, nics=[serving.socket], iommu=False))
        guest.run(f"{QUIET} modprobe ixgbevf")
        linux = LinuxPort(guest)
        linux.up()
        (guest.share / "send.py").write_text(SEND_FRAMES)
        yield Hosted(nic, port, guest, linux, host)


@pytest.fixture(autouse=True)
def nobody_breaks_a_rule_and_linux_does_not_warn(world: Hosted) -> Iterator[None]:
    yield
    assert {violation.rule.name for violation in world.nic.violations} <= IXGBEVF_DOES
    assert warnings(world.guest) == []


def frame(source: str, to: str) -> bytes:
    return (bytes.fromhex((to + source).replace(":", "")) + TYPE).ljust(60, b"\0")


def received(port: Port, wanted: int) -> list[bytes]:
    """Frames of the test's type; at most `wanted`."""
    ours = (each for each in port.recv(timeout=PATIENCE_S) if each[12:14] == TYPE)
    return list(islice(ours, wanted))


def test_ixgbevf_agrees_with_our_pf_and_has_the_address_that_it_gave(world: Hosted) -> None:
    vf = world.port.vfs[0]
    assert vf.served and vf.version == "1.4" and vf.mac == MAC
    assert f"ixgbevf 0000:01:00.0: {MAC}" in world.guest.run("dmesg").output


def test_the_guest_reaches_the_wire(world: Hosted) -> None:
    before = world.port.vfs[0].stats()
    world.linux.ping("-c 20", "-i 0.05")
    world.host.exchange(world.guest, TCP_BYTES)
    after = world.port.vfs[0].stats()
    assert min(after[name] - before[name] for name in ("VFGPRC", "VFGPTC")) > TCP_BYTES / 1448


def test_the_port_and_the_guest_exchange_frames_inside_the_nic(world: Hosted) -> None:
    port, mac = world.port, world.port.mac
    on_the_wire = world.host.received()
    world.guest.run(f"python3 /share/send.py eth0 {frame(MAC, mac).hex()} {MANY}")
    assert received(port, MANY) == [frame(MAC, mac)] * MANY
    before = world.linux.settled_counters()["rx_packets"]
    port.send([frame(mac, MAC)] * MANY)
    port.flush()
    wait_for(lambda: world.linux.counters()["rx_packets"] >= before + MANY, "the guest did not receive the frames")
    assert world.host.received() - on_the_wire < MANY


def test_a_spoofed_frame_is_stopped_and_counted(world: Hosted) -> None:
    counted = world.port.stats()["SSVPC"]
    world.guest.run(f"python3 /share/send.py eth0 {frame(OTHER, 'ff:ff:ff:ff:ff:ff').hex()} {MANY}")
    wait_for(lambda: world.port.stats()["SSVPC"] == counted + MANY, "SSVPC does not count the frames")


def test_the_guest_cannot_change_its_address_until_it_is_trusted(world: Hosted) -> None:
    vf = world.port.vfs[0]
    assert world.guest.run(f"ip link set eth0 address {OTHER}", check=False).status and vf.refused
    world.guest.run("dmesg --clear")
    resets = vf.resets
    vf.trust = True
    wait_for(lambda: vf.resets > resets and vf.served, "ixgbevf did not reset itself", PATIENCE_S)
    world.linux.wait_for_carrier(True)
    world.guest.run(f"ip link set eth0 address {OTHER}")
    assert vf.mac == OTHER
    world.linux.ping("-c 3", "-i 0.05")


def test_a_port_that_is_closed_and_opened_again_is_awaited(world: Hosted) -> None:
    settings = world.port.vfs[0].settings
    world.port.close()
    world.linux.wait_for_carrier(False)
    world.open()
    world.port.vfs[0].settings = settings
    world.linux.wait_for_carrier(True)
    world.linux.ping("-c 3", "-i 0.05")
    assert world.port.vfs[0].mac == OTHER and "100% packet loss" not in world.guest.run(f"ping -q -c 1 {HOST}").output
    world.port.close()
