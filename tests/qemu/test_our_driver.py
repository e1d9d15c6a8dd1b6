"""Our driver in a guest, on the VFIO and UIO of the guest's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.qemu.lab.guest import Guest
from tests.qemu.lab.host_end import warnings
from tests.qemu.lab.prepared import Lab, LabError
from tests.qemu.lab.served import ServedNic

pytestmark = pytest.mark.qemu

LOOP, SOURCE = "0000:01:00.0", "0000:02:00.0"
IXRINGS = "python3 -m ixrings"
SCENARIOS = (
    "cd /tmp && IXRINGS_LOOP={loop} IXRINGS_SOURCE={source} IXRINGS_BRIDGE_S=12 PYTHONPATH=/project/.package:/project "
    "python3 -m pytest -q -W ignore::RuntimeWarning -p no:cacheprovider -c /project/pyproject.toml --rootdir=/project "
    "/project/tests/driver/port_scenarios.py"
)


@dataclass(frozen=True)
class Way:
    """A way to access a NIC. driver: the kernel driver to bind. device_way: the name that the open device gives."""

    name: str
    driver: str
    device_way: str
    iommu: bool = True
    own_kernel: bool = False  # Debian's kernel has no iommufd, no VFIO without IOMMU, and no igb_uio
    prefix: str = ""


WAYS = (
    Way("vfio-group", "vfio-pci", "Way.GROUP"),
    Way("uio", "uio_pci_generic", "UIO", iommu=False),
    Way("igb_uio", "igb_uio", "UIO", iommu=False, own_kernel=True),
    Way("iommufd", "vfio-pci", "Way.CDEV", own_kernel=True),
    Way("vfio-noiommu", "vfio-pci", "Way.NOIOMMU", iommu=False, own_kernel=True, prefix="vfio-noiommu:"),
)
UNSAFE = "echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"


@dataclass
class Machine:
    guest: Guest
    way: Way
    loop: ServedNic
    source: ServedNic


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.name)
def machine(request: pytest.FixtureRequest, lab: Lab, module_folder: Path) -> Iterator[Machine]:
    way: Way = request.param
    folder = module_folder / way.name
    try:
        kernel = lab.iommufd_kernel if way.own_kernel else lab.debian_kernel
    except LabError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        loop = stack.enter_context(ServedNic(folder, "loop", name="loop"))
        source = stack.enter_context(ServedNic(folder, "source", name="source", mac=bytes([2, 0, 0, 0, 0, 2])))
        guest = stack.enter_context(
            Guest(lab, folder, nics=[loop.socket, source.socket], kernel=kernel, iommu=way.iommu)
        )
        guest.run(f"modprobe ixgbe; modprobe {way.driver} || true; echo 100 > /proc/sys/vm/nr_hugepages")
        if way.prefix:
            guest.run(UNSAFE)
        for device in (LOOP, SOURCE):
            guest.run(f"{IXRINGS} bind {device} --driver {way.driver}")
        yield Machine(guest, way, loop, source)


def test_the_device_is_opened_in_the_way_under_test(machine: Machine) -> None:
    code = (
        f"from ixrings import open_port; port = open_port('{machine.way.prefix}{LOOP}'); "
        "print(getattr(port.device, 'way', 'UIO')); port.close()"
    )
    output = machine.guest.run(f'cd /tmp; PYTHONPATH=/project/.package:/project python3 -c "{code}"').output
    assert output.endswith(f"{machine.way.device_way}\n")


def test_the_port_and_the_examples_pass_their_scenarios_in_the_guest(machine: Machine) -> None:
    output = machine.guest.run(
        SCENARIOS.format(loop=machine.way.prefix + LOOP, source=machine.way.prefix + SOURCE), timeout_s=400, check=False
    ).output
    assert " passed" in output and "failed" not in output and "error" not in output, output


def test_the_kernel_logged_no_warning_and_the_nics_no_broken_rule(machine: Machine) -> None:
    lines = warnings(machine.guest, ("vfio", "uio", "0000:0", "DMAR", "Call Trace", "WARNING", "BUG"))
    expected = ("vfio-noiommu", "igb_uio: loading out-of-tree module")  # the kernel should warn of these
    assert [line for line in lines if not any(words in line for words in expected)] == []
    assert machine.loop.nic.violations == [] and machine.source.nic.violations == []
