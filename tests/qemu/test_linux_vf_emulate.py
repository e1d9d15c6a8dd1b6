"""Linux's ixgbevf on VFs of other kinds: a PF as DPDK's, the last of 63 VFs, and those of `ixrings emulate`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import HostEnd, LinuxPort, warnings
from tests.qemu.lab.linux_vfs import QUIET, linux_vfs
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import IXGBEVF_DOES
from tests.support.namespaces import namespace, unique
from tests.support.vf_by_hand import API_1_3, NEGOTIATE, OK
from tests.support.vfio_user_peer import emulate_vfs

pytestmark = pytest.mark.qemu

# eth1 goes into a network namespace of the guest; otherwise Linux would carry the traffic over lo.
JOIN = """
ip netns add far; ip link set eth1 netns far
ip -n far address add 10.9.0.3/24 dev eth1; ip -n far link set eth1 up
"""


def test_a_pf_as_dpdks_gives_a_link_and_an_address(lab: Lab, folder: Path) -> None:
    with linux_vfs(lab, folder, 0, kind="dpdk", iommu=False) as world:
        versions = [
            (words[1], bool(reply[0] & OK)) for _, words, reply in world.served.agent.messages if words[0] == NEGOTIATE
        ]
        assert (API_1_3, True) in versions and [code for code, accepted in versions if accepted] == [API_1_3]
        assert "Assigning random MAC" not in world.guest.run("dmesg").output
        assert len(world.guest.run("grep eth0-TxRx /proc/interrupts").output.splitlines()) == 2
        world.port.ping("-c 20", "-i 0.05")
        world.host.exchange(world.guest, 2_000_000)
        assert warnings(world.guest) == []
        assert {violation.rule.name for violation in world.served.nic.violations} <= IXGBEVF_DOES


def test_the_last_of_63_vfs_has_queues_interrupts_and_filters_of_its_own(lab: Lab, folder: Path) -> None:
    """Queues 124 and 125; its interrupts' EITR are those of the PF's vectors 1 and 2, by EITRSEL."""
    last = 62
    with linux_vfs(lab, folder, last, macs=[bytes([2, 0, 0, 0, 1, last])], iommu=False) as world:
        regs = world.regs
        sent, received = regs.PVFGPTC[last].read(), regs.PVFGPRC[last].read()
        world.port.ping("-c 20", "-i 0.05")
        world.host.exchange(world.guest, 2_000_000)
        assert min(regs.PVFGPTC[last].read() - sent, regs.PVFGPRC[last].read() - received) > 2_000_000 / 1448
        interrupts = world.guest.run("grep eth0-TxRx /proc/interrupts").output.splitlines()
        assert len(interrupts) == 2 and sum(int(word) for line in interrupts for word in line.split()[1:3]) > 100
        assert regs.GCR_EXT.read().VT_MODE == 3 and regs.EITRSEL.read() >> last - 32 & 1
        assert warnings(world.guest) == []
        assert {violation.rule.name for violation in world.served.nic.violations} <= IXGBEVF_DOES


def test_ixrings_emulate_gives_a_guest_two_vfs(lab: Lab, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tap = unique("ixq")
    with (
        namespace("ixH") as space,
        emulate_vfs(
            folder / "nic", "--vf", "2", "--wire", f"tap={tap}", "--trace", str(folder / "nic.trace"), sockets=2
        ) as nic,
        Guest(lab, folder, nics=[folder / f"nic/vf{number}.sock" for number in range(2)]) as guest,
    ):
        HostEnd(space, tap)
        guest.run(f"{QUIET} modprobe ixgbevf; {JOIN}")
        port = LinuxPort(guest)
        port.up()
        port.ping("-c 5", "-i 0.05")
        port.ping("-c 5", "-i 0.05", to="10.9.0.3")
        for carrier in (False, True):
            nic.process.send_signal(signal.SIGUSR1)
            port.wait_for_carrier(carrier)
        for state, carrier in (("down", False), ("up", True)):
            command = [sys.executable, "-m", "ixrings", "vf", str(folder / "nic"), "--pf", state]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
            port.wait_for_carrier(carrier)
        port.ping("-c 5", "-i 0.05")
        guest.run("rmmod ixgbevf")
        assert warnings(guest) == []
        status, output = nic.end()
        assert status == 0
        assert all(line.startswith("ixrings emulate: warning: DD is 0") for line in output.splitlines()), output
