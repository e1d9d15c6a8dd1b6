"""Two software 82599s joined by a cable, with Linux's ixgbe at both ends, so both ends can use VLANs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import warnings
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import ServedNic
from tests.support.namespaces import unique
from tests.support.programs import wait_for

pytestmark = pytest.mark.qemu

TCP_BYTES = 5_000_000
MANY = 50
# eth1 goes into a network namespace of the guest; otherwise Linux would carry the traffic over lo.
JOIN = """
modprobe ixgbe; modprobe 8021q
ip netns add far; ip link set eth1 netns far
ip address add 10.9.1.1/24 dev eth0; ip link set eth0 up
ip -n far address add 10.9.1.2/24 dev eth1; ip -n far link set eth1 up; ip -n far link set lo up
for vlan in 7 8; do
    ip link add link eth0 name eth0.$vlan type vlan id $vlan
    ip address add 10.9.$vlan.1/24 dev eth0.$vlan
done
ip link set eth0.7 up
ip -n far link add link eth1 name eth1.7 type vlan id 7
ip -n far address add 10.9.7.2/24 dev eth1.7; ip -n far link set eth1.7 up
for try in $(seq 100); do
    [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && ip -n far -br link show eth1 | grep -q LOWER_UP && exit 0
    sleep 0.2
done
echo "no link"; exit 1
"""
EXCHANGE = """
cd /tmp; rm -f heard; python3 /project/tests/qemu/in_guest/traffic.py listen 5001 {total} > heard & listener=$!
for try in $(seq 300); do grep -q listening heard && break; sleep 0.1; done
ip netns exec far python3 /project/tests/qemu/in_guest/traffic.py connect {to} 5001 {total} && wait $listener ||
    {{ cat heard; exit 1; }}
"""
SEND_TAGGED = f"""
count() {{ cat /sys/class/net/eth0/statistics/rx_packets; }}
count
ip netns exec far python3 -c '
import socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind(("eth1.9", 0))
    for _ in range({MANY}):
        raw.send(bytes([255] * 6 + [2, 0, 0, 0, 0, 2, 0x88, 0xB5]) + bytes(46))'
sleep 1; count
"""


@dataclass
class Pair:
    guest: Guest
    near: ServedNic
    far: ServedNic


@pytest.fixture(scope="module")
def pair(lab: Lab, module_folder: Path) -> Iterator[Pair]:
    cable = f"cable={unique('pair')}"
    with ExitStack() as stack:
        near, far = (
            stack.enter_context(ServedNic(module_folder, cable, name=name, mac=bytes([2, 0, 0, 0, 0, last])))
            for name, last in (("near", 1), ("far", 2))
        )
        guest = stack.enter_context(Guest(lab, module_folder, nics=[near.socket, far.socket]))
        guest.run(JOIN, timeout_s=300)
        yield Pair(guest, near, far)


def test_tcp_crosses_the_cable_in_both_directions(pair: Pair) -> None:
    pair.guest.run(EXCHANGE.format(to="10.9.1.1", total=TCP_BYTES), timeout_s=300)


def test_the_nics_insert_and_strip_vlan_tags(pair: Pair) -> None:
    features = pair.guest.run("ethtool -k eth0").output
    assert "rx-vlan-offload: on" in features and "tx-vlan-offload: on" in features and "rx-vlan-filter: on" in features
    pair.guest.run(EXCHANGE.format(to="10.9.7.1", total=TCP_BYTES), timeout_s=300)


def test_frames_of_an_unknown_vlan_are_filtered(pair: Pair) -> None:
    def received() -> int:
        """The number of frames received while MANY were sent; a few are other frames."""
        before, after = map(int, pair.guest.run(SEND_TAGGED).output.split())
        return after - before

    pair.guest.run("ip -n far link add link eth1 name eth1.9 type vlan id 9; ip -n far link set eth1.9 up")
    assert received() < MANY / 2
    pair.guest.run("ip link add link eth0 name eth0.9 type vlan id 9; ip link set eth0.9 up")
    assert received() >= MANY
    pair.guest.run("ip link del eth0.9; ip -n far link del eth1.9")


def test_both_ends_notice_when_the_cable_is_pulled_at_either(pair: Pair) -> None:
    def carriers() -> str:
        return pair.guest.run(
            "cat /sys/class/net/eth0/carrier; ip netns exec far cat /sys/class/net/eth1/carrier"
        ).output.replace("\n", "")

    for end in (pair.near, pair.far):
        end.nic.set_link(False)
        wait_for(lambda: carriers() == "00", "the interfaces did not lose their carriers", 30)
        end.nic.set_link(True)
        wait_for(lambda: carriers() == "11", "the interfaces did not get their carriers", 30)


def test_the_kernel_logged_no_warning_except_for_link_loss(pair: Pair) -> None:
    """ixgbe warns when a cable is pulled while it has frames to send, as on silicon."""
    lines = warnings(pair.guest, ("ixgbe", "DMAR", "Call Trace", "WARNING", "BUG"))
    assert [line for line in lines if "after link loss" not in line and "Reset adapter" not in line] == []
