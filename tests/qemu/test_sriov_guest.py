"""Real SR-IOV of a guest's kernel: `ixrings vfs`, `bind` of virtual functions, VF tokens. QEMU's igb plays the 82599.

QEMU shows no SR-IOV of a vfio-user device. The igb of QEMU has it, and the kernel treats both alike: sysfs, IOMMU
groups, vfio-pci. What needs registers of an 82599 is in test_vf_guest.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.guest import PROJECT, Guest
from tests.qemu.lab.host_end import warnings
from tests.qemu.lab.ours import CHECKOUT, IN_GUEST, Scripts, as_printed
from tests.qemu.lab.prepared import Lab

pytestmark = pytest.mark.qemu

PF, FIRST, SECOND, THIRD = "0000:01:00.0", "0000:01:10.0", "0000:01:10.2", "0000:01:10.4"
IGB = ("pcie-root-port,id=sriov,bus=pcie.0,chassis=9,slot=9", "igb,bus=sriov,romfile=")
WORDS = (
    f"vfs {PF} --count 3 --force",
    f"bind {FIRST}",
    "list",
    f"vfs {PF} --count 1",
    f"bind {PF}",
    f"doctor {FIRST}",
    f"unbind {FIRST}",
    f"vfs {PF} --undo",
    f"vfs {PF} --count 8",
    f"bind {PF}",
)


@pytest.fixture(scope="module")
def machine(lab: Lab, module_folder: Path) -> Iterator[Scripts]:
    with Guest(lab, module_folder, devices=IGB) as guest:
        guest.run("modprobe vfio-pci enable_sriov=1; modprobe igb; modprobe igbvf")
        yield Scripts(guest)


NUM = f"/sys/bus/pci/devices/{PF}/sriov_numvfs"


@pytest.fixture(scope="module")
def shown(machine: Scripts) -> list[str]:
    """What each of WORDS printed. They are run by one program, because Python needs seconds to start.

    Before them the NIC has one function, which igbvf drives.
    """
    machine.run(f"python3 {IN_GUEST}/as_82599.py vfs {PF} --undo --force; echo 1 > {NUM}")
    output = machine.run(f'python3 {IN_GUEST}/as_82599.py "{"; ".join(WORDS)}" 2>&1', timeout_s=240)
    parts = [part.partition("\n")[2] for part in re.split(r"(?m)^> ", output)[1:]]
    assert len(parts) == len(WORDS), output
    return parts


def test_the_readmes_commands_lead_to_a_function_for_a_user(machine: Scripts) -> None:
    """The fifth one needs registers: test_vf_guest.py runs pktgen on a function."""
    section = (PROJECT / "README.md").read_text().partition("## One card for ssh and for you")[2]
    commands = section.split("```")[1].strip().splitlines()
    assert len(commands) == 5 and "pktgen" in commands[4]
    machine.run(CHECKOUT + f"sed -i 's|-m ixrings|{IN_GUEST}/as_82599.py|' .venv/bin/ixrings")
    up, made, listed, bound = (as_printed(machine, command) for command in commands[:4])
    assert not up and f"{PF} has 2 virtual functions" in made
    assert re.search(rf"(?m)^{PF} .*\n    igb, eth0 \(up.*\n    has 2 virtual functions\n", listed), listed
    assert f"    {FIRST} " in listed and f"    {SECOND} " in listed
    assert f"{FIRST} is bound to vfio-pci" in bound and "user may open /dev/vfio/" in bound, bound


def test_functions_are_made_without_a_driver_from_another_number_of_them(shown: list[str]) -> None:
    """The kernel takes a number other than 0 only after 0. The former function had Linux's driver but no address."""
    made = shown[0]
    assert f"{PF} has 3 virtual functions" in made, made
    assert made.count("no driver, no interface") == 3
    assert re.findall(r"IOMMU group (\d+)\n", made)[0] != re.findall(r"IOMMU group (\d+)\n", made)[1], (
        "a group for each"
    )


def test_a_function_is_bound_and_listed_under_its_physical_function(shown: list[str]) -> None:
    assert f"{FIRST} is bound to vfio-pci; no driver had it before." in shown[1]
    assert re.search(
        rf"(?m)^{PF} .*\n    igb, eth0 .*\n    has 3 virtual functions\n.*\n    {FIRST} .*\n"
        rf"        vfio-pci, no interface, IOMMU group \d+\n        virtual function of {PF}\n        usable\n"
        rf"    {SECOND} ",
        shown[2],
    ), shown[2]
    assert f"{FIRST} group" in shown[5] and "viable, alone in it" in shown[5] and "status 0" in shown[5], shown[5]


def test_functions_in_use_are_not_taken_away(shown: list[str]) -> None:
    for refused in (shown[3], shown[4]):
        assert f"{PF} has virtual functions in use: {FIRST} (vfio-pci). They would disappear." in refused
        assert "--force" in refused and "status 1" in refused


def test_the_former_number_comes_back_with_its_driver(shown: list[str]) -> None:
    assert f"{FIRST} is with no driver again" in shown[6]
    assert f"{PF} has 1 virtual function\n" in shown[7] and "igbvf, eth" in shown[7], shown[7]
    assert f"{PF} can have 0 to 7 virtual functions, not 8" in shown[8]


def test_a_token_is_needed_exactly_when_the_pf_is_on_vfio(machine: Scripts, shown: list[str]) -> None:
    assert "in use" in shown[9], "igbvf has one"
    attempts = machine.run(f"cd /project; python3 -m tests.qemu.in_guest.vf_tokens {PF} {NUM} 2>&1").splitlines()
    with_linux, without, other, right = attempts
    assert f"{FIRST} takes no VF token, because {PF} is not bound to vfio-pci. Write vfio:{FIRST}" in with_linux
    assert f"{FIRST} needs a VF token, because {PF} is bound to vfio-pci" in without
    assert "vfio:0000:01:10.0@vf_token=UUID" in without
    assert f"{FIRST} has another VF token than 9999" in other
    assert right == f"opened vfio:{FIRST} by Way.GROUP, 3 vectors"


def test_the_kernel_logged_no_other_warning(machine: Scripts) -> None:
    found = warnings(machine.guest, ("vfio", "DMAR", "Call Trace", "WARNING", "BUG"))
    assert [line for line in found if "VF token" not in line] == []
