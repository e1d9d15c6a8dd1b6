"""The unmodified ixgbe of Debian's kernel accepts the software 82599 as a real one.

In the guest nothing of this project runs except a script for TCP traffic. The scenarios share one guest, and each
leaves its port up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings.hw.emulator.blocks.sfp import SfpModule
from tests.qemu.lab.host_end import GUEST, HOST, LINK_LOSS, warnings
from tests.qemu.lab.linux_world import World, linux_world
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import ETHTOOL_TEST_DOES, LINUX_DOES
from tests.support.programs import wait_for

pytestmark = pytest.mark.qemu

MAC = "02:82:59:90:00:01"
STRANGER, GROUP, OTHER_GROUP = "02:00:00:00:00:99", "01:00:5e:01:02:03", "01:00:5e:0a:0b:0c"
TCP_BYTES = 50_000_000
ROUNDS = 10
MANY = 20
CONNECT = f"""
import socket
for port in range(20000, 20000 + 128 * 61, 61):
    s = socket.socket(); s.bind(('', port)); s.connect_ex(('{GUEST}', 9)); s.close()
"""


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[World]:
    with linux_world(lab, module_folder) as world:
        yield world


def test_ixgbe_probes_the_nic_without_a_warning(world: World) -> None:
    log = world.guest.run("dmesg").output
    assert "SFP+: 5" in log and f"ixgbe 0000:01:00.0: {MAC}" in log
    assert warnings(world.guest) == []


def test_the_link_is_up_with_10_gbit(world: World) -> None:
    settings = world.guest.run("ethtool eth0").output
    assert "Speed: 10000Mb/s" in settings and "Link detected: yes" in settings and "Port: FIBRE" in settings


def test_ping_loses_nothing(world: World) -> None:
    world.ping("-c 100", "-i 0.05")


def test_ethtool_shows_driver_registers_eeprom_and_module(world: World) -> None:
    assert "driver: ixgbe" in world.guest.run("ethtool -i eth0").output
    registers = world.guest.run("ethtool -d eth0").output
    assert re.search(r"Link Status: +up\s+Link Speed: +10G", registers) and "Jumbo Frames" in registers
    eeprom = world.guest.run("ethtool -e eth0 raw on | od -An -v -tu2").output.split()
    assert sum(map(int, eeprom[:0x40])) & 0xFFFF != 0 and int(eeprom[0x2B]) not in (0, 0xFFFF)
    module = world.guest.run("ethtool -m eth0", timeout_s=300).output
    assert "10G Base-SR" in module and "Intel Corp" in module and "850nm" in module
    assert re.search(r"Module temperature +: 35.50 degrees C", module)
    assert re.search(r"Laser output power +: 0.5800 mW", module)
    assert re.search(r"Receiver signal average optical power +: 0.5100 mW", module)
    assert "rx_packets" in world.port.counters()


def test_ethtool_changes_a_byte_of_the_eeprom(world: World) -> None:
    at = "offset 0x700 length 2"  # erased, and outside the checksum
    assert "ff ff" in world.guest.run(f"ethtool -e eth0 {at}").output
    world.guest.run("ethtool -E eth0 magic 0x10fb8086 offset 0x700 value 0x5a")
    assert "5a ff" in world.guest.run(f"ethtool -e eth0 {at}").output


def test_lspci_finds_the_capabilities_and_no_error(world: World) -> None:
    """QEMU hides ARI from the guest, so lspci also reads a dump of what the NIC has."""
    space = world.served.nic
    lines = [
        f"{row:03x}: " + " ".join(f"{space.config_read(row + at, 1):02x}" for at in range(16))
        for row in range(0, 4096, 16)
    ]
    (world.guest.share / "nic.lspci").write_text("01:00.0 Ethernet controller\n" + "\n".join(lines) + "\n")
    guest = world.guest.run("lspci -s 01:00.0 -vvv").output
    whole = world.guest.run("lspci -F /share/nic.lspci -vvv").output
    for output in (guest, whole):
        assert "[100 v1] Advanced Error Reporting" in output
        assert "[140 v1] Device Serial Number 02-82-59-ff-ff-90-00-01" in output
        assert "NoSoftRst-" in output and "<access denied>" not in output and "??" not in output
        assert not re.search(r"(UESta|CESta):.*\+", output), output
    assert "[150 v1] Alternative Routing-ID" in whole


def test_linux_starts_the_nic_again_after_d3hot(world: World) -> None:
    power = "setpci -s 01:00.0 CAP_PM+4.w"
    world.guest.run(f"modprobe -r ixgbe; {power}=3:3; sleep 0.1; {power}=0:3; sleep 0.1; modprobe ixgbe")
    world.port.up()
    world.ping("-c 5", "-i 0.2")


def test_ethtool_passes_every_offline_test(world: World) -> None:
    result = world.guest.run("ethtool -t eth0 offline", timeout_s=300).output
    assert "The test result is PASS" in result
    assert re.findall(r"test .*\)\s+(\d+)", result) == ["0"] * 5
    world.port.up()
    world.ping("-c 5", "-i 0.2")


def test_tcp_carries_50_mb_in_each_direction_with_linuxs_default_offloads(world: World) -> None:
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
    assert "esp-hw-offload: on" not in features, "the NIC says that it has no security offload"
    world.host.exchange(world.guest, TCP_BYTES)
    counters = world.port.counters()
    assert counters["rx_csum_offload_errors"] == 0 and counters["rx_errors"] == 0
    assert min(counters["rx_bytes"], counters["tx_bytes"]) > TCP_BYTES


def test_a_wrong_checksum_is_counted(world: World) -> None:
    before = world.port.settled_counters()["rx_csum_offload_errors"]
    frame = "".join(
        (
            MAC.replace(":", ""),
            "020000000001",
            "0800",
            "4500002800000000400600000a0900010a090002",
            "0400000100000000000000005002000012340000",
        )
    )
    world.host.send(bytes.fromhex(frame).ljust(60, b"\0"))
    wait_for(lambda: world.port.counters()["rx_csum_offload_errors"] == before + 1, "the wrong checksum is not counted")


def test_flows_spread_over_the_queues(world: World) -> None:
    before = world.port.settled_counters()
    # Linux's hash key is random: ports that differ in one bit may all go to one queue, so these differ in many bits.
    world.host.space.run("python3", "-c", CONNECT)
    after = world.port.settled_counters()
    received = [after[f"rx_queue_{queue}_packets"] - before[f"rx_queue_{queue}_packets"] for queue in (0, 1)]
    assert sum(received) >= 128 and min(received) >= 32, received


def test_frames_for_other_addresses_are_received_only_when_asked_for(world: World) -> None:
    def arrives(destination: str) -> bool:
        """Whether all of MANY frames arrive, or none of them. The host's stack sends a few others meanwhile."""
        before = world.port.settled_counters()["rx_packets"]
        world.host.send_frames(destination, MANY)
        received = world.port.settled_counters()["rx_packets"] - before
        assert 0 <= received < MANY / 2 or MANY <= received < MANY * 3 / 2, received
        return received >= MANY

    assert not arrives(STRANGER)
    world.guest.run("ip link set eth0 promisc on")
    assert arrives(STRANGER)
    world.guest.run("ip link set eth0 promisc off")
    assert not arrives(STRANGER) and not arrives(GROUP)
    world.guest.run(f"ip maddress add {GROUP} dev eth0")
    assert arrives(GROUP) and not arrives(OTHER_GROUP)
    world.guest.run("ip link set eth0 allmulticast on")
    assert arrives(OTHER_GROUP)
    world.guest.run(f"ip link set eth0 allmulticast off; ip maddress del {GROUP} dev eth0")


def test_jumbo_frames_pass(world: World) -> None:
    world.host.set_mtu(9000)
    world.port.up(mtu=9000)
    try:
        world.ping("-c 20", "-i 0.1", "-M do", "-s 8972")
        world.host.exchange(world.guest, 20_000_000)
    finally:
        world.host.set_mtu(1500)
        world.port.up()


def test_linux_notices_when_the_cable_is_pulled_and_put_back(world: World) -> None:
    assert warnings(world.guest) == []  # after this line, up to the exchange of modules, LINK_LOSS is allowed
    for _ in range(2):
        world.served.nic.set_link(False)
        world.port.wait_for_carrier(False)
        world.served.nic.set_link(True)
        world.port.wait_for_carrier(True)
    world.ping("-c 5", "-i 0.2")


def test_traffic_continues_after_the_cable_was_pulled_while_linux_sent(world: World) -> None:
    sender = world.guest.run(f"ping -q -f {HOST} > /dev/null 2>&1 & echo $!").output
    for _ in range(2):
        world.served.nic.set_link(False)
        world.port.wait_for_carrier(False)
        world.served.nic.set_link(True)
        world.port.wait_for_carrier(True)
    world.guest.run(f"kill {sender}")
    world.ping("-c 5", "-i 0.2")


def test_a_ping_does_not_fail_with_one_that_waited_while_the_cable_was_out(world: World) -> None:
    world.served.nic.set_link(False)
    world.port.wait_for_carrier(False)
    world.guest.run(f"ping -q -c 1 -W 2.3 {HOST} > /dev/null 2>&1 || true")
    world.served.nic.set_link(True)
    world.port.wait_for_carrier(True)
    world.ping("-c 10", "-i 0.2")


def test_linux_recognises_an_sfp_module_exchanged_while_running(world: World) -> None:
    world.served.nic.insert_module(None)
    world.port.wait_for_carrier(False)
    world.served.nic.insert_module(SfpModule.LR)
    world.port.wait_for_carrier(True, 30)
    assert "10G Base-LR" in world.guest.run("ethtool -m eth0", timeout_s=300).output
    world.served.nic.insert_module(SfpModule.SR)
    world.port.wait_for_carrier(True, 30)
    assert [line for line in warnings(world.guest) if not line.endswith(LINK_LOSS)] == []
    world.guest.run("dmesg --clear")


def test_the_interface_goes_down_and_up_ten_times(world: World) -> None:
    for _ in range(ROUNDS):
        world.guest.run("ip link set eth0 down")
        world.port.up()
        world.ping("-c 2", "-i 0.2")


def test_the_kernel_module_is_reloaded_ten_times(world: World) -> None:
    for _ in range(ROUNDS):
        world.guest.run("modprobe -r ixgbe && modprobe ixgbe")
        world.port.up()
        world.ping("-c 2", "-i 0.2")


def test_the_kernel_logged_no_warning_and_the_nic_only_known_rules(world: World) -> None:
    assert warnings(world.guest) == []
    assert {violation.rule.name for violation in world.served.nic.violations} <= LINUX_DOES | ETHTOOL_TEST_DOES


def test_ixgbe_refuses_an_sfp_module_of_another_maker(world: World) -> None:
    world.guest.run("modprobe -r ixgbe")
    world.served.nic.insert_module(SfpModule.FOREIGN_SR)
    world.guest.run("modprobe ixgbe")
    assert "unsupported SFP+ or QSFP module type was detected" in world.guest.run("dmesg").output
    assert "eth0" not in world.guest.run("ip -br link").output
    world.guest.run("modprobe -r ixgbe")
    world.served.nic.insert_module(SfpModule.DIRECT_ATTACH)
    world.guest.run("modprobe ixgbe")
    world.port.up()
    world.ping("-c 5", "-i 0.2")
