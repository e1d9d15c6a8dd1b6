"""The unmodified ixgbevf of Debian's kernel accepts a VF of the software 82599 as a real one.

The agent of the emulator plays the PF's driver, as Linux's ixgbe. The scenarios share one guest, and each leaves its
port up, with the address that the administrator gave it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.host_end import GUEST, HOST, warnings
from tests.qemu.lab.linux_vfs import ARP, VfWorld, linux_vfs
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import ETHTOOL_TEST_DOES, IXGBEVF_DOES
from tests.support.programs import wait_for
from tests.support.vf_by_hand import (
    API_1_4,
    NEGOTIATE,
    OK,
    REFUSED,
    RESET,
    SET_LPE,
    SET_MAC,
    SET_MACVLAN,
    SET_VLAN,
    UPDATE_XCAST,
)

pytestmark = pytest.mark.qemu

MAC = bytes.fromhex("028259900100")
OTHER = "02:82:59:90:01:99"
TCP_BYTES = 20_000_000
MANY = 20
GROUP, OTHER_GROUP = "01:00:5e:01:02:03", "01:00:5e:0a:0b:0c"
PATIENCE_S = 30.0
ROUNDS = 3
TYPE = b"\x88\xb5"
SLOT = "0000:01:00.0"
DEVICE, DRIVER = f"/sys/bus/pci/devices/{SLOT}", "/sys/bus/pci/drivers/ixgbevf"
BROADCAST, STRANGER = b"\xff" * 6, bytes.fromhex("020000000001")
CONNECT = f"""
import socket
for port in range(20000, 20000 + 128 * 61, 61):
    s = socket.socket(); s.bind(('', port)); s.connect_ex(('{GUEST}', 9)); s.close()
"""


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[VfWorld]:
    with linux_vfs(lab, module_folder, 0, macs=[MAC]) as world:
        yield world


@pytest.fixture(autouse=True)
def ixgbevf_breaks_no_rule_and_linux_does_not_warn(world: VfWorld) -> Iterator[None]:
    yield
    broken = [violation for violation in world.served.nic.violations if violation.rule.name not in IXGBEVF_DOES]
    assert list(map(str, broken)) == []
    assert warnings(world.guest) == []


def answers(world: VfWorld, request: int) -> list[tuple[int, int]]:
    """Word 1 and the verdict of all answers so far to this request."""
    return [
        (words[1], reply[0] & (OK | REFUSED))
        for _, words, reply in list(world.served.agent.messages)
        if words[0] & 0xFFFF == request
    ]


def counted(world: VfWorld) -> tuple[int, int]:
    """Frames sent and received by the VF. Linux's counters agree with those of the NIC, and with those of the wire.

    ethtool -t resets Linux's counters of the queues, so the test that uses it comes later.
    """

    def seen() -> list[tuple[int, int]]:
        linux, regs = world.port.settled_counters(), world.regs
        queues = [sum(linux[f"{way}_queue_{queue}_packets"] for queue in (0, 1)) for way in ("tx", "rx")]
        return [
            (linux["tx_packets"], linux["rx_packets"]),
            (queues[0], queues[1]),
            (regs.PVFGPTC[0].read(), regs.PVFGPRC[0].read()),
            (world.host.received(), regs.PVFGPRC[0].read()),
        ]

    wait_for(lambda: len(set(seen())) == 1, "the counters do not agree", PATIENCE_S)
    return seen()[0]


def address(world: VfWorld) -> str:
    return world.guest.run("cat /sys/class/net/eth0/address").output.strip()


def reload(world: VfWorld) -> None:
    world.guest.run("modprobe -r ixgbevf; modprobe ixgbevf")
    world.port.up()


def arrives(world: VfWorld, destination: str) -> bool:
    """Whether all of MANY frames arrive, or none of them."""
    before = world.port.settled_counters()["rx_packets"]
    world.host.send_frames(destination, MANY)
    received = world.port.settled_counters()["rx_packets"] - before
    assert 0 <= received < MANY / 2 or MANY <= received < MANY * 3 / 2, received
    return received >= MANY


def tagged(vlan: int, source: bytes, to: bytes = BROADCAST, rest: bytes = TYPE) -> bytes:
    """A frame with a tag; rest: its type and what follows."""
    return (to + source + struct.pack("!HH", 0x8100, vlan) + rest).ljust(64, b"\0")


def untagged(source: bytes, to: bytes = BROADCAST) -> bytes:
    return (to + source + TYPE).ljust(60, b"\0")


# ---- probe and traffic ----


def test_ixgbevf_negotiates_api_1_4_and_takes_the_address_of_the_administrator(world: VfWorld) -> None:
    log = world.guest.run("dmesg").output
    assert f"ixgbevf 0000:01:00.0: {MAC.hex(':')}" in log and "82599 Virtual Function" in log
    assert answers(world, NEGOTIATE)[:4] == [(8, REFUSED), (7, REFUSED), (6, REFUSED), (API_1_4, OK)]
    assert answers(world, RESET)[0][1] == OK
    assert "driver: ixgbevf" in world.guest.run("ethtool -i eth0").output


def test_the_link_is_up_with_10_gbit_and_two_queues(world: VfWorld) -> None:
    settings = world.guest.run("ethtool eth0").output
    assert "Speed: 10000Mb/s" in settings and "Link detected: yes" in settings
    vectors = world.guest.run("grep eth0 /proc/interrupts").output
    assert "eth0-TxRx-0" in vectors and "eth0-TxRx-1" in vectors and len(vectors.splitlines()) == 3


def test_ping_loses_nothing_and_the_counters_agree(world: VfWorld) -> None:
    before = counted(world)
    world.port.ping("-c 100", "-i 0.02")
    assert [now - then >= 101 for now, then in zip(counted(world), before)] == [True, True]


def test_tcp_carries_20_mb_in_each_direction_with_linuxs_default_offloads(world: VfWorld) -> None:
    features = world.guest.run("ethtool -k eth0").output
    for feature in (
        "tx-checksumming",
        "tcp-segmentation-offload",
        "rx-checksumming",
        "rx-vlan-offload",
        "tx-vlan-offload",
        "scatter-gather",
    ):
        assert f"{feature}: on" in features
    before = counted(world)
    world.host.exchange(world.guest, TCP_BYTES)
    after = world.port.counters()
    assert after["rx_csum_offload_errors"] == 0 and min(after["rx_bytes"], after["tx_bytes"]) > TCP_BYTES
    # Linux counts the segments that the NIC makes of a large send, as the NIC does
    assert counted(world)[0] - before[0] > TCP_BYTES / 1448


def test_ethtool_shows_the_registers_and_passes_its_tests(world: VfWorld) -> None:
    registers = world.guest.run("ethtool -d eth0").output
    assert re.search(r"VFLINKS .*0x7[0-9a-f]{7}", registers)
    nic = world.served.nic
    nic.clear_violations()
    result = world.guest.run("ethtool -t eth0 offline", timeout_s=120).output
    assert {violation.rule.name for violation in nic.violations} <= ETHTOOL_TEST_DOES | IXGBEVF_DOES
    nic.clear_violations()
    assert "The test result is PASS" in result, result
    world.port.wait_for_carrier(True)
    world.port.ping("-c 5", "-i 0.1")


def test_a_wrong_checksum_is_counted(world: VfWorld) -> None:
    before = world.port.settled_counters()["rx_csum_offload_errors"]
    frame = MAC.hex() + "020000000001" + "0800" + "4500002800000000400600000a0900010a090002"
    world.host.send(bytes.fromhex(frame + "0400000100000000000000005002000012340000").ljust(60, b"\0"))
    wait_for(lambda: world.port.counters()["rx_csum_offload_errors"] == before + 1, "the wrong checksum is not counted")


def test_flows_spread_over_the_two_queues(world: VfWorld) -> None:
    before = world.port.settled_counters()
    world.host.space.run("python3", "-c", CONNECT)
    after = world.port.settled_counters()
    received = [after[f"rx_queue_{queue}_packets"] - before[f"rx_queue_{queue}_packets"] for queue in (0, 1)]
    assert sum(received) >= 128 and min(received) >= 32, received


def test_tagged_frames_pass_for_the_vlans_of_the_guest_only(world: VfWorld) -> None:
    def arrive(vlan: int) -> bool:
        before = world.port.settled_counters()["rx_packets"]
        world.host.send(tagged(vlan, STRANGER, MAC), MANY)
        received = world.port.settled_counters()["rx_packets"] - before
        assert received in range(MANY // 2) or received in range(MANY, MANY * 3 // 2)
        return received >= MANY

    world.guest.run("modprobe 8021q; ip link add link eth0 name eth0.7 type vlan id 7; ip link set eth0.7 up")
    assert answers(world, SET_VLAN)[-1] == (7, OK)
    assert arrive(7) and not arrive(8)
    shown = world.guest.run("cat /sys/class/net/eth0.7/statistics/rx_packets").output
    assert int(shown) == MANY, "the tag chose the interface"
    with world.on_the_wire() as frames:
        world.send(untagged(MAC), MANY, "eth0.7")
    assert frames == [tagged(7, MAC)] * MANY
    world.guest.run("ip link del eth0.7")
    assert answers(world, SET_VLAN)[-1] == (7, OK) and not arrive(7)


def test_multicast_is_received_for_joined_groups(world: VfWorld) -> None:
    assert not arrives(world, GROUP)
    multicast = world.port.counters()["multicast"]
    world.guest.run(f"ip maddress add {GROUP} dev eth0")
    assert arrives(world, GROUP) and not arrives(world, OTHER_GROUP)
    wait_for(lambda: world.port.counters()["multicast"] >= multicast + MANY, "VFMPRC is not counted")
    world.guest.run(f"ip maddress del {GROUP} dev eth0")


def test_all_multicast_and_promiscuous_are_not_for_an_untrusted_vf(world: VfWorld) -> None:
    world.guest.run("ip link set eth0 allmulticast on")
    assert not arrives(world, OTHER_GROUP)
    world.guest.run("ip link set eth0 allmulticast off; ip link set eth0 promisc on")
    assert not arrives(world, "02:00:00:00:00:99")
    world.guest.run("ip link set eth0 promisc off")
    assert {verdict for _, verdict in answers(world, UPDATE_XCAST)} == {OK}, "lowered to multicast, and acknowledged"


def test_a_macvlan_is_refused_to_an_untrusted_vf_with_an_address_of_the_administrator(world: VfWorld) -> None:
    before = len(answers(world, SET_MACVLAN))
    world.guest.run("modprobe macvlan; ip link add link eth0 name mv0 type macvlan mode bridge; ip link set mv0 up")
    assert REFUSED in [verdict for _, verdict in answers(world, SET_MACVLAN)[before:]]
    world.guest.run("ip link del mv0; dmesg --clear")
    world.port.ping("-c 3", "-i 0.05")


def test_a_trusted_vf_gets_all_multicast_and_macvlans(world: VfWorld) -> None:
    """A change of trust makes the VF reset itself."""
    resets = len(answers(world, RESET))
    world.served.agent.set_vf(0, trust=True)
    wait_for(lambda: len(answers(world, RESET)) > resets, "ixgbevf did not reset itself", PATIENCE_S)
    world.port.wait_for_carrier(True)
    world.guest.run("ip link set eth0 allmulticast on")
    assert arrives(world, OTHER_GROUP)
    world.guest.run("ip link set eth0 allmulticast off; ip link set eth0 promisc on")
    assert answers(world, UPDATE_XCAST)[-1] == (3, REFUSED) and not arrives(world, "02:00:00:00:00:99")
    world.guest.run("ip link set eth0 promisc off")
    world.guest.run(
        "ip netns add mv; ip link add link eth0 name mv0 type macvlan mode bridge; ip link set mv0 netns mv; "
        "ip -n mv address add 10.9.0.3/24 dev mv0; ip -n mv link set mv0 up"
    )
    answer = world.guest.run(f"ip netns exec mv ping -q -c 10 -i 0.05 {HOST}").output
    assert ", 0% packet loss" in answer, answer
    world.guest.run("ip netns del mv")
    assert not world.regs.PFVFSPOOF[0].read() and world.served.agent.vfs[0].spoofchk, "off until it is set again"
    world.served.agent.set_vf(0, trust=False)
    world.served.agent.set_vf(0, spoofchk=True)
    reload(world)
    world.port.ping("-c 3", "-i 0.05")


def test_jumbo_frames_are_refused_until_the_pf_has_them(world: VfWorld) -> None:
    """A refused length closes the pool's receiver on an 82599, until SET_LPE with one that fits: when the VF opens."""
    refused = world.guest.run("ip link set eth0 mtu 9000", check=False)
    assert refused.status and answers(world, SET_LPE)[-1] == (9018, REFUSED)
    assert not world.regs.PFVFRE[0].read() & 1
    world.guest.run("ip link set eth0 down; dmesg --clear")
    world.port.up()
    world.port.ping("-c 3", "-i 0.05")
    resets = len(answers(world, RESET))
    world.host.set_mtu(9000)
    world.served.agent.mtu(9000)  # resets the PF
    wait_for(lambda: len(answers(world, RESET)) > resets, "ixgbevf did not reset itself", PATIENCE_S)
    world.port.up(mtu=9000)
    world.port.ping("-c 20", "-i 0.05", "-M do", "-s 8972")
    world.host.exchange(world.guest, TCP_BYTES)
    world.host.set_mtu(1500)
    world.served.agent.mtu(1500)
    reload(world)
    world.port.ping("-c 3", "-i 0.05")


# ---- disturbances ----


def test_without_an_address_of_the_administrator_linux_chooses_one(world: VfWorld) -> None:
    world.served.agent.set_vf(0, mac=bytes(6))
    reload(world)
    assert answers(world, RESET)[-1][1] == REFUSED and answers(world, SET_MAC)[-1][1] == OK
    assert address(world) != MAC.hex(":") and world.served.agent.vfs[0].mac.hex(":") == address(world)
    assert "Assigning random MAC address" in world.guest.run("dmesg").output
    world.port.ping("-c 5", "-i 0.05")
    world.guest.run(f"ip link set eth0 address {OTHER}")
    world.port.ping("-c 5", "-i 0.05")
    world.served.agent.set_vf(0, mac=MAC)
    reload(world)
    assert address(world) == MAC.hex(":")
    world.port.ping("-c 5", "-i 0.05")


def test_an_untrusted_vf_cannot_change_the_address_of_the_administrator(world: VfWorld) -> None:
    refused = world.guest.run(f"ip link set eth0 address {OTHER}", check=False)
    assert refused.status and answers(world, SET_MAC)[-1][1] == REFUSED and address(world) == MAC.hex(":")
    world.guest.run("dmesg --clear")
    world.port.ping("-c 5", "-i 0.05")


def test_spoofed_frames_are_dropped_and_counted(world: VfWorld) -> None:
    regs = world.regs
    regs.SSVPC.read()
    with world.on_the_wire() as frames:
        world.send(untagged(STRANGER), MANY)
        world.send(tagged(9, MAC), MANY)
    assert frames == [] and regs.SSVPC.read() == 2 * MANY and regs.SSVPC.read() == 0
    world.served.agent.set_vf(0, spoofchk=False)
    with world.on_the_wire() as frames:
        world.send(untagged(STRANGER), MANY)
    assert frames == [untagged(STRANGER)] * MANY and regs.SSVPC.read() == 0
    world.served.agent.set_vf(0, spoofchk=True)
    world.port.ping("-c 3", "-i 0.05")


def test_a_port_vlan_is_on_the_wire_and_not_in_the_guest(world: VfWorld) -> None:
    """The guest answers ARP that came in its VLAN."""
    world.served.agent.set_vf(0, vlan=7, qos=3)
    reload(world)
    who_has = bytes.fromhex(f"0806000108000604 0001{STRANGER.hex()}0a090001 0000000000000a090002")
    with world.on_the_wire() as frames:
        for vlan in (8, 7):
            world.host.send(tagged(vlan, STRANGER, rest=who_has), 3)
        world.port.settled_counters()
    answered = [frame[:18] for frame in frames if frame[24:26] == b"\0\2"]
    assert answered == [tagged(0x6007, MAC, STRANGER, ARP)[:18]] * 3
    world.guest.run("ip link add link eth0 name eth0.9 type vlan id 9", check=False)
    assert answers(world, SET_VLAN)[-1] == (9, REFUSED)
    world.guest.run("ip link del eth0.9 || true; dmesg --clear")
    world.served.agent.set_vf(0, vlan=0, qos=0)
    reload(world)
    world.guest.run("dmesg --clear")  # Linux's PF refuses VLAN 0 under a port VLAN, too, and ixgbevf says so
    world.port.ping("-c 3", "-i 0.05")


def test_linux_notices_when_the_cable_of_the_pf_is_pulled(world: VfWorld) -> None:
    for _ in range(2):
        world.served.nic.set_link(False)
        world.port.wait_for_carrier(False)
        world.served.nic.set_link(True)
        world.port.wait_for_carrier(True)
    world.port.ping("-c 3", "-i 0.05")


def test_a_function_level_reset_leaves_the_vf_usable(world: VfWorld) -> None:
    world.guest.run(f"echo {SLOT} > {DRIVER}/unbind; echo 1 > {DEVICE}/reset; echo {SLOT} > {DRIVER}/bind")
    world.port.up()
    world.port.ping("-c 3", "-i 0.05")


def test_the_interface_goes_down_and_up_and_the_module_is_reloaded(world: VfWorld) -> None:
    for _ in range(ROUNDS):
        world.guest.run("ip link set eth0 down")
        world.port.up()
        world.port.ping("-c 2", "-i 0.05")
    for _ in range(ROUNDS):
        reload(world)
        world.port.ping("-c 2", "-i 0.05")


def test_a_pf_that_goes_down_and_comes_back_is_awaited(world: VfWorld) -> None:
    world.served.agent.down()
    world.port.wait_for_carrier(False)
    world.served.agent.up()
    world.port.wait_for_carrier(True)
    world.port.ping("-c 3", "-i 0.05")


def test_ixgbevf_that_is_loaded_while_the_pf_is_down_opens_later(world: VfWorld) -> None:
    world.served.agent.down()
    refused = world.guest.run("dmesg --clear; modprobe -r ixgbevf; modprobe ixgbevf; ip link set eth0 up", check=False)
    assert refused.status and "PF still in reset state" in world.guest.run("dmesg").output
    world.served.agent.up()
    world.port.up()
    world.guest.run("dmesg --clear")
    world.port.ping("-c 3", "-i 0.05")


def test_the_administrator_takes_the_link_away_and_gives_it_back(world: VfWorld) -> None:
    world.served.agent.set_vf(0, state="disable")
    wait_for(lambda: not world.port.carrier(), "the link is still up", PATIENCE_S)
    world.served.agent.set_vf(0, state="auto")
    reload(world)
    world.port.ping("-c 3", "-i 0.05")


def test_after_a_function_level_reset_in_use_the_interface_has_to_be_opened_again(world: VfWorld) -> None:
    """ixgbevf is not told of the reset. It writes tails of queues that are off, and no interrupt comes any more."""
    nic = world.served.nic
    world.guest.run(f"echo 1 > {DEVICE}/reset")
    assert "100% packet loss" in world.guest.run(f"ping -q -c 2 -i 0.1 -W 1 {HOST}", check=False).output
    assert {violation.rule.name for violation in nic.violations} <= IXGBEVF_DOES | {"tail_after_enable"}
    nic.clear_violations()
    world.guest.run("ip link set eth0 down")
    world.port.up()
    world.port.ping("-c 3", "-i 0.05")
