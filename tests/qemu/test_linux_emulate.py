"""Debian's ixgbe drives the NIC of the command `ixrings emulate --socket`, whose cable is pulled by a signal."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import LinuxPort, warnings
from tests.qemu.lab.prepared import Lab
from tests.support.vfio_user_peer import emulate

pytestmark = pytest.mark.qemu

WAIT_CARRIER = "for i in $(seq 100); do [ $(cat /sys/class/net/eth0/carrier) = {} ] && exit; sleep 0.1; done; exit 1"


def test_linux_finds_the_nic_its_module_and_its_link(lab: Lab, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        emulate(folder / "nic.sock", "--sfp", "lr", "--trace", str(folder / "nic.trace")) as nic,
        Guest(lab, folder, nics=[Path(nic.path)]) as guest,
    ):
        guest.run("modprobe ixgbe")
        LinuxPort(guest).up()
        assert "Speed: 10000Mb/s" in guest.run("ethtool eth0").output
        assert re.search(r"Transceiver type\s+: 10G Ethernet: 10G Base-LR", guest.run("ethtool -m eth0").output)
        for carrier in (0, 1):
            nic.process.send_signal(signal.SIGUSR1)
            guest.run(WAIT_CARRIER.format(carrier))
        guest.run("rmmod ixgbe")
        assert warnings(guest) == []
        status, output = nic.end()
        assert status == 0
        assert all(line.startswith("ixrings emulate: warning: ") for line in output.splitlines()), output
