"""Two software 82599s, a cable between them, Linux's ixgbe at both ends: what the machine outside cannot be asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from guest import Guest
from host_end import warnings
from lab import Lab
from namespaces import unique
from served import ServedNic

pytestmark = pytest.mark.qemu

TCP_BYTES = 5_000_000
# eth1 goes into a namespace of the guest, or the two would talk over lo.
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
python3 /project/tests/qemu/traffic.py listen 5001 {total} & listener=$!
sleep 3
ip netns exec far python3 /project/tests/qemu/traffic.py connect {to} 5001 {total} && wait $listener
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
        near, far = (stack.enter_context(ServedNic(module_folder, cable, name=name, mac=bytes([2, 0, 0, 0, 0, last])))
                     for name, last in (("near", 1), ("far", 2)))
        guest = stack.enter_context(Guest(lab, module_folder, nics=[near.socket, far.socket]))
        guest.run(JOIN, timeout_s=90)
        yield Pair(guest, near, far)


def received(guest: Guest) -> int:
    return int(guest.run("cat /sys/class/net/eth0/statistics/rx_packets").output)


def test_tcp_crosses_the_cable_both_ways(pair: Pair) -> None:
    pair.guest.run(EXCHANGE.format(to="10.9.1.1", total=TCP_BYTES), timeout_s=120)


def test_a_vlan_is_tagged_and_stripped_by_the_nics(pair: Pair) -> None:
    features = pair.guest.run("ethtool -k eth0").output
    assert "rx-vlan-offload: on" in features and "tx-vlan-offload: on" in features and "rx-vlan-filter: on" in features
    pair.guest.run(EXCHANGE.format(to="10.9.7.1", total=TCP_BYTES), timeout_s=120)


def test_a_vlan_that_nobody_joined_is_filtered(pair: Pair) -> None:
    send = """ip -n far link add link eth1 name eth1.9 type vlan id 9; ip -n far address add 10.9.9.2/24 dev eth1.9
              echo 1 | ip netns exec far tee /proc/sys/net/ipv6/conf/eth1.9/disable_ipv6; ip -n far link set eth1.9 up
              ip netns exec far ping -c 3 -i 0.2 -W 1 10.9.9.1
              ip netns exec far cat /sys/class/net/eth1.9/statistics/tx_packets; ip -n far link del eth1.9"""
    before = received(pair.guest)
    sent = int(pair.guest.run(send).output.splitlines()[-1])
    assert sent > 0 and received(pair.guest) == before


def test_pulling_either_end_is_noticed_at_both(pair: Pair) -> None:
    def carriers() -> str:
        return pair.guest.run("cat /sys/class/net/eth0/carrier; ip netns exec far cat /sys/class/net/eth1/carrier").output.replace("\n", "")

    for end in (pair.near, pair.far):
        end.nic.set_link(False)
        pair.guest.run("sleep 4")
        assert carriers() == "00"
        end.nic.set_link(True)
        pair.guest.run("sleep 4")
        assert carriers() == "11"


def test_the_kernel_had_nothing_else_to_complain_of(pair: Pair) -> None:
    """ixgbe warns when a cable was pulled while it had something to send, as it does on silicon."""
    lines = warnings(pair.guest, ("ixgbe", "DMAR", "Call Trace", "WARNING", "BUG"))
    assert [line for line in lines if "after link loss" not in line and "Reset adapter" not in line] == []
