"""Our driver on virtual functions of an 82599, behind VFIO of a guest's kernel. Their PF is the emulator's agent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.qemu.lab.host_end import warnings
from tests.qemu.lab.our_vfs import VfGuest, echoing, hands, vf_guest
from tests.qemu.lab.ours import IN_GUEST, LEFT, RIGHT, last_json, sending
from tests.qemu.lab.prepared import Lab, LabError

pytestmark = pytest.mark.qemu

BIND = f"""
modprobe ixgbevf || true
echo 100 > /proc/sys/vm/nr_hugepages
python3 -c 'import sys
from ixrings.driver.cli import main
for address in sys.argv[1:]:
    assert main(["bind", address]) == 0' {LEFT} {RIGHT}
"""
UNSAFE = "echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode; "
SCENARIOS = (
    "IXRINGS_VF='{first} {second}' IXRINGS_WAY={way} python3 -m pytest -q -W ignore::RuntimeWarning "
    f"-p no:cacheprovider -c /project/pyproject.toml --rootdir=/project {IN_GUEST}/vf_scenarios.py"
)
COMMANDS = """python3 -c 'import sys
from ixrings.driver.cli import main
for words in sys.argv[1].split("; "):
    print(">", words, flush=True)
    print("status", main(words.split()), flush=True)' "{}" 2>&1"""
TWO_PROGRAMS = f"""
python3 /project/examples/pktgen.py -i {RIGHT} -f rx -n 500 --json > rx.json 2> rx.err & rx=$!
python3 /project/examples/pktgen.py -i {LEFT} -f tx -R 2000 -D {{mac}} --json > tx.json 2> tx.err & tx=$!
wait $rx; status=$?; kill -INT $tx; wait $tx; cat rx.err tx.err rx.json; exit $status
"""
# A PF that resets does not wait until its virtual functions have switched their queues off. A program that sends at
# this moment writes tails of queues that the reset has switched off.
PF_RESETS = {"queues_off_before_master_disable", "tail_after_enable"}


@dataclass(frozen=True)
class Way:
    name: str
    way: str
    own_kernel: bool = False  # Debian's kernel has no iommufd, and no VFIO without IOMMU
    prefix: str = ""


WAYS = (
    Way("group", "Way.GROUP"),
    Way("iommufd", "Way.CDEV", own_kernel=True),
    Way("noiommu", "Way.NOIOMMU", own_kernel=True, prefix="vfio-noiommu:"),
)


@dataclass
class World:
    vfs: VfGuest
    way: Way


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.name)
def world(request: pytest.FixtureRequest, lab: Lab, module_folder: Path) -> Iterator[World]:
    way: Way = request.param
    try:
        kernel = lab.iommufd_kernel if way.own_kernel else lab.debian_kernel
    except LabError as error:
        pytest.skip(str(error))
    with vf_guest(lab, module_folder / way.name, kernel=kernel, iommu=not way.prefix) as vfs:
        yield World(vfs, way)


def test_both_functions_are_bound_to_vfio(world: World) -> None:
    output = world.vfs.run((UNSAFE if world.way.prefix else "") + BIND)
    former = "no driver" if world.way.own_kernel else "ixgbevf"
    for address in (LEFT, RIGHT):
        assert f"{address} is bound to vfio-pci; {former} had it before." in output


def test_the_scenarios_of_ports_pass_in_the_guest(world: World) -> None:
    first, second = (world.way.prefix + address for address in (LEFT, RIGHT))
    script = SCENARIOS.format(first=first, second=second, way=world.way.way)
    with world.vfs.far_end() as far, echoing(far), hands(world.vfs.served.agent, world.vfs.guest.share):
        output = world.vfs.run(script, timeout_s=240, status=None)
    assert " passed" in output and "failed" not in output and "error" not in output, output


def test_the_kernel_reset_each_function_when_it_was_opened_and_closed(world: World) -> None:
    """Linux's quirk for 8086:10ed writes the FLR bit of DevCtl, although the capability does not announce it."""
    for serving in world.vfs.served.serving:
        assert len(re.findall(r"W CONFIG 0x000a8 2 8\w+", serving.trace)) >= 4


def test_the_commands_show_a_function(world: World) -> None:
    port = world.way.prefix + LEFT
    words = "; ".join(
        (
            "list",
            f"info {port}",
            f"stats {port} --all",
            f"regs {port} VFLINKS",
            f"ring {port}",
            f"sfp {port}",
            f"vfs {LEFT} --count 2",
            f"doctor {LEFT}",
        )
    )
    with world.vfs.far_end():
        output = world.vfs.run(COMMANDS.format(words))
    shown = {part.split("\n", 1)[0].split()[0]: part for part in output.split("> ")[1:]}
    group = "no IOMMU: it can be opened only as vfio-noiommu" if world.way.prefix else "usable"
    assert f"{LEFT}  82599 virtual function\n    vfio-pci, no interface" in shown["list"] and group in shown["list"]
    assert "link           up, 10 Gbit/s" in shown["info"] and "Unknown" not in shown["info"]
    assert "0  VFGOTC" in shown["stats"]
    assert "VFLINKS" in shown["regs"] and "LINK_UP=1" in shown["regs"]
    assert "owned by the NIC" in shown["ring"]
    assert "Look at its physical function" in shown["sfp"] and "status 1" in shown["sfp"]
    assert "Give the address of its physical function, which is on the host" in shown["vfs"]
    assert ("status 1" if world.way.prefix else "status 0") in shown["doctor"], shown["doctor"]


def test_two_programs_exchange_frames(world: World) -> None:
    if world.way.prefix:
        pytest.skip("as with an IOMMU")
    world.vfs.served.agent.set_vf(1, mac=bytes.fromhex("020000000b0b"))
    with world.vfs.far_end():
        output = world.vfs.run(TWO_PROGRAMS.format(mac="02:00:00:00:0b:0b"))
    assert last_json(output)["received"] >= 500


def test_a_killed_program_leaves_no_function_that_writes_memory(world: World) -> None:
    if world.way.prefix:
        pytest.skip("as with an IOMMU")
    with world.vfs.far_end() as far, sending(far):
        after = last_json(world.vfs.run(f"python3 {IN_GUEST}/kill_in_traffic.py {LEFT}"))
    assert after["moving"] and after["windows"] >= 2 and after["bytes"] > 1 << 20, "the program received no frames"
    assert after["written"] == 0 and not after["bus_master"]


def test_the_kernel_logged_no_warning_and_the_nic_no_broken_rule(world: World) -> None:
    lines = warnings(world.vfs.guest, ("vfio", "0000:0", "DMAR", "Call Trace", "WARNING", "BUG"))
    assert [line for line in lines if "vfio-noiommu" not in line] == []
    assert {violation.rule.name for violation in world.vfs.served.nic.violations} <= PF_RESETS
