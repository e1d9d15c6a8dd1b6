"""The `ixrings` command on this machine's NICs and on the emulated NIC."""

from __future__ import annotations

import json
import re

import pytest

from ixrings.driver.cli import main
from ixrings.driver.cli.peek import ReadOnly
from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.discovery import find_nics, look_up
from ixrings.hw.registers import Registers
from tests.support.sysfs_tree import Machine, machine

__all__ = ["machine"]


def output(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(words) == status
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


def test_list_shows_the_nics_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    addresses = [nic.address for nic in find_nics()]
    assert [nic["address"] for nic in json.loads(output(capsys, "list", "--json"))] == addresses
    text = output(capsys, "list")
    assert all(address in text for address in addresses)
    assert addresses or "no PCI NIC" in text


def test_info_of_the_emulated_nic(capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(output(capsys, "info", "emulated", "--json"))
    assert facts["mac"] == "02:82:59:90:00:01" and facts["link"] == "up, 10 Gbit/s" and facts["vectors"] == 64
    assert re.search(r"^mac +02:82:59:90:00:01$", output(capsys, "info", "emulated"), re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("info", "eth0"), "'eth0' is not a port name"),
        (("info", "ffff:00:00.0"), "there is no PCI device ffff:00:00.0. Run: ixrings list"),
        (("regs", "emulated", "CTLR"), "no register CTLR"),
        (("bind", "eth0"), "is not a PCI address; write it as 0000:03:00.0"),
        (("doctor", "ffff:00:00.0"), "there is no PCI device"),
        (("info", "netmap:ix0"), "is a port of a daemon, which alone reaches its NIC. To see its link and rings"),
        (("stats", "uio:ffff:00:00.0"), "there is no PCI device"),
    ],
)
def test_an_error_is_one_sentence_and_status_1(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    assert says in complaint(capsys, *words)


def test_the_exit_status_of_doctor_is_1_if_something_needed_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    checks = json.loads(capsys.readouterr().out)
    assert status == int(any(check["needed"] and not check["ok"] for check in checks))
    assert {"IOMMU", "vfio-pci", "hugepages", "locked memory", "kernel lockdown"} <= {check["name"] for check in checks}


@pytest.mark.parametrize(
    "command", ["list", "bind", "unbind", "doctor", "info", "regs", "stats", "sfp", "ring", "trace", "emulate"]
)
def test_every_command_has_help_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert "--json" in capsys.readouterr().out


def test_a_nic_that_a_driver_has_is_read_through_sysfs_and_never_written(machine: Machine) -> None:
    path = machine.add("0000:03:00.0")
    (path / "config").write_bytes(bytes.fromhex("8680fb10 0600"))
    (path / "resource0").write_bytes(bytes(0x42A4) + bytes.fromhex("00000070") + bytes(0x20000 - 0x42A8))
    view = ReadOnly(look_up("0000:03:00.0", machine.root))
    try:
        assert Registers(view).LINKS.read() == 0x7000_0000
        with pytest.raises(DeviceError, match="nothing is written"):
            Registers(view).CTRL.write(RST=1)
    finally:
        view.close()
    (path / "config").write_bytes(bytes.fromhex("8680fb10 0400"))
    with pytest.raises(DeviceError, match="is asleep"):
        ReadOnly(look_up("0000:03:00.0", machine.root))
    (path / "resource0").unlink()
    (path / "config").write_bytes(bytes.fromhex("8680fb10 0600"))
    with pytest.raises(DeviceError, match="while ixgbe has it.*ethtool -d"):
        ReadOnly(look_up("0000:03:00.0", machine.root))
