"""Two guests with Linux's ixgbevf on two VFs of one software 82599: the NIC carries frames between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.qemu.lab.host_end import HOST, warnings
from tests.qemu.lab.linux_vfs import VfWorld, linux_vfs, start
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import IXGBEVF_DOES

pytestmark = pytest.mark.qemu

MACS = [bytes([2, 0, 0, 0, 1, number]) for number in range(2)]
BROADCAST, TYPE = b"\xff" * 6, b"\x88\xb5"
TCP_BYTES = 10_000_000
MANY = 20
TRAFFIC = "python3 /project/tests/qemu/in_guest/traffic.py"
LISTEN = f"""
cd /tmp; rm -f heard; {TRAFFIC} listen 5001 {TCP_BYTES} > heard 2>&1 & echo $! > listener
for try in $(seq 300); do grep -q listening heard && exit; sleep 0.1; done; cat heard; exit 1
"""
HEARD = "cd /tmp; while kill -0 $(cat listener) 2>/dev/null; do sleep 0.1; done; cat heard"


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[VfWorld]:
    with linux_vfs(lab, module_folder, 0, 1, macs=MACS, iommu=False) as world:
        yield world


@pytest.fixture(autouse=True)
def ixgbevf_breaks_no_rule_and_linux_does_not_warn(world: VfWorld) -> Iterator[None]:
    yield
    assert {violation.rule.name for violation in world.served.nic.violations} <= IXGBEVF_DOES
    assert [line for guest in world.guests for line in warnings(guest)] == []


def reload(world: VfWorld) -> None:
    for guest, port in zip(world.guests, world.ports):
        guest.run("modprobe -r ixgbevf; modprobe ixgbevf")
        port.up()


def exchange(world: VfWorld, to: str) -> None:
    """TCP from guest 0 to guest 1 and back."""
    world.guests[1].run(LISTEN)
    world.guests[0].run(f"{TRAFFIC} connect {to} 5001 {TCP_BYTES}", timeout_s=200)
    heard = world.guests[1].run(HEARD).output
    assert f"sent {TCP_BYTES} bytes" in heard and f"received {TCP_BYTES} bytes" in heard, heard


def broadcast(source: bytes) -> bytes:
    return (BROADCAST + source + TYPE).ljust(60, b"\0")


def received(world: VfWorld) -> list[int]:
    return [port.settled_counters()["rx_packets"] for port in world.ports]


def about(count: int) -> range:
    """`count`, and a few frames of ARP."""
    return range(count, count + MANY // 2)


def test_ping_and_tcp_between_the_guests_do_not_reach_the_wire(world: VfWorld) -> None:
    regs = world.regs
    before = [regs.PVFGPRC[vf].read() for vf in range(2)], [port.counters()["tx_packets"] for port in world.ports]
    regs.QPRDC[0].read()
    with world.on_the_wire() as frames:
        world.port.ping("-c 20", "-i 0.05", to="10.9.0.3")
        exchange(world, "10.9.0.3")
        sent = [port.settled_counters()["tx_packets"] for port in world.ports]
    assert frames == []
    arrived = [regs.PVFGPRC[vf].read() - before[0][vf] for vf in range(2)]
    left = [now - then for now, then in zip(sent, before[1])]
    lost = regs.QPRDC[0].read()  # the receiving guest had no descriptor for them; TCP sends them again
    assert abs(sum(arrived) + lost - sum(left)) < MANY < TCP_BYTES / 1448 < min(left)


def test_both_guests_reach_the_wire(world: VfWorld) -> None:
    for port in world.ports:
        port.ping("-c 5", "-i 0.05")


def test_a_broadcast_reaches_all_others(world: VfWorld) -> None:
    before = received(world)
    world.host.send(broadcast(bytes.fromhex("020000000001")), MANY)
    assert all(now - then in about(MANY) for now, then in zip(received(world), before))
    before = received(world)
    with world.on_the_wire() as frames:
        world.send(broadcast(MACS[0]), MANY)
        grown = [now - then for now, then in zip(received(world), before)]
    assert grown[0] in about(0) and grown[1] in about(MANY)
    assert frames == [broadcast(MACS[0])] * MANY


def test_vlans_of_the_guests_carry_tcp(world: VfWorld) -> None:
    for number, guest in enumerate(world.guests):
        guest.run(
            "modprobe 8021q; ip link add link eth0 name eth0.7 type vlan id 7; ip link set eth0.7 up; "
            f"ip address add 10.9.7.{2 + number}/24 dev eth0.7"
        )
    world.port.ping("-c 5", "-i 0.05", to="10.9.7.3")
    exchange(world, "10.9.7.3")
    world.guests[1].run("ip link del eth0.7")
    lost = world.guest.run("ping -q -c 2 -i 0.1 -W 1 10.9.7.3", check=False).output
    assert "100% packet loss" in lost
    world.guest.run("ip link del eth0.7")


def test_port_vlans_isolate_the_guests(world: VfWorld) -> None:
    agent = world.served.agent
    for vlans, reached in (((10, 20), False), ((10, 10), True)):
        for number, vlan in enumerate(vlans):
            agent.set_vf(number, vlan=vlan)
        reload(world)
        answer = world.guest.run("ping -q -c 3 -i 0.1 -W 1 10.9.0.3", check=False).output
        assert (", 0% packet loss" if reached else "100% packet loss") in answer, (vlans, answer)
        assert "100% packet loss" in world.guest.run(f"ping -q -c 2 -i 0.1 -W 1 {HOST}", check=False).output
    for number in range(2):
        agent.set_vf(number, vlan=0)
    reload(world)
    for guest in world.guests:
        guest.run("dmesg --clear")  # under a port VLAN the PF refuses VLAN 0, and ixgbevf says so
    world.port.ping("-c 3", "-i 0.05", to="10.9.0.3")


def test_a_guest_that_ends_in_traffic_leaves_the_vf_to_the_next_one(world: VfWorld, lab: Lab, folder: Path) -> None:
    world.guests[1].run("ip maddress add 01:00:5e:01:02:03 dev eth0")
    world.guests[1].run("ping -q -f 10.9.0.2 > /dev/null 2>&1 & ping -q -f 10.9.0.1 > /dev/null 2>&1 &")
    world.guests.pop().kill()
    world.ports.pop()
    world.port.ping("-c 5", "-i 0.05")
    with ExitStack() as stack:
        start(stack, lab, world, 1, folder, iommu=False)
        world.port.ping("-c 5", "-i 0.05", to="10.9.0.3")
        assert warnings(world.guests.pop()) == []
