"""Linux's ixgbe uses the IEEE 1588 clock of the software 82599, and exchanges timestamped messages with our driver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from ixrings import Offload, Port, open_port
from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import LinuxPort, warnings
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import LINUX_DOES, ServedNic
from tests.support.namespaces import unique
from tests.support.programs import wait_for
from tests.support.ptp import DELAY_REQ, message, on_ethernet

pytestmark = pytest.mark.qemu

SCRIPT = "python3 /project/tests/qemu/in_guest/ptp.py"
GROUP = "01:1b:19:00:00:00"
SEQUENCES = range(1, 6)
SPREAD_NS = 50_000  # both NICs count this machine's time, so their stamps differ by about one step of the engine
LATE_NS = 100_000_000  # the difference when a busy machine stops the engine during the step


@dataclass
class World:
    guest: Guest
    served: ServedNic
    far: Port


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[World]:
    cable = unique("ptp")
    with (
        ServedNic(module_folder, f"cable={cable}") as served,
        open_port(f"emulated:cable={cable}", link_timeout=0) as far,
    ):
        far.set_multicast([GROUP])
        far.clock.now()
        with Guest(lab, module_folder, nics=[served.socket]) as guest:
            guest.run("modprobe ixgbe")
            LinuxPort(guest).up()
            yield World(guest, served, far)


def test_ethtool_shows_hardware_timestamps_and_their_clock(world: World) -> None:
    shown = world.guest.run("ls /dev/ptp0; cat /sys/class/ptp/ptp0/clock_name; ethtool -T eth0").output
    for word in ("/dev/ptp0", "hardware-transmit", "hardware-receive", "hardware-raw-clock", "ptpv2-event"):
        assert word in shown, shown


def test_the_clock_runs_at_the_kernels_rate_and_can_be_set_stepped_and_adjusted(world: World) -> None:
    found = json.loads(world.guest.run(f"{SCRIPT} clock").output)
    assert found["ahead"] == pytest.approx(0, abs=60), "ixgbe sets the clock to the time of day"
    assert found["rate"] == pytest.approx(1, rel=0.03)
    assert found["after_set"] == pytest.approx(5, abs=20)
    assert found["stepped"] == pytest.approx(1000, abs=20)
    assert found["faster"] == pytest.approx(1.1 * found["rate"], rel=0.03)
    world.guest.run("modprobe -r ixgbe && modprobe ixgbe")  # back to the clock's own rate
    LinuxPort(world.guest).up()


def test_both_ends_stamp_a_message_with_the_same_time_in_each_direction(world: World) -> None:
    script = world.guest.run(f"{SCRIPT} receive {len(SEQUENCES)} > /share/received 2>&1 & echo $!").output
    received = world.guest.share / "received"
    wait_for(lambda: received.exists() and "listening" in received.read_text(), "the guest did not listen", 60)
    sent = {}
    for sequence in SEQUENCES:
        world.far.send(
            [bytes.fromhex(GROUP.replace(":", "")) + on_ethernet(message(DELAY_REQ, sequence))[6:]],
            offload=Offload(timestamp=True),
        )
        sent[sequence] = world.far.clock.sent(30)
        world.guest.run("sleep 0.2")
    world.guest.run(f"for try in $(seq 100); do [ -d /proc/{script.strip()} ] || exit 0; sleep 0.2; done; exit 1")
    arrived = {int(sequence): ns for sequence, ns in json.loads(received.read_text().splitlines()[-1]).items()}
    assert sorted(arrived) == sorted(sent)
    to_guest = [arrived[sequence] - sent[sequence] for sequence in SEQUENCES]

    left = json.loads(world.guest.run(f"{SCRIPT} send 101 > /share/sent 2>&1; cat /share/sent").output.splitlines()[-1])
    stamp = world.far.clock.received()
    assert stamp is not None and stamp.sequence == 101
    from_guest = left["101"] - stamp.ns
    assert median(to_guest) - min(*to_guest, from_guest) < SPREAD_NS and from_guest - median(to_guest) < LATE_NS, (
        to_guest,
        from_guest,
    )


def test_the_kernel_logged_no_warning_and_the_nic_only_known_rules(world: World) -> None:
    assert warnings(world.guest) == []
    assert {violation.rule.name for violation in world.served.nic.violations} <= LINUX_DOES
