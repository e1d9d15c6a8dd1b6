"""A guest without IOMMU: VFIO is refused, UIO works for root with hugepages and cleans up after a killed program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.host_end import warnings
from tests.qemu.lab.ours import (
    AS_NOBODY,
    IN_GUEST,
    LEFT,
    OPEN,
    RIGHT,
    SECOND_PROGRAM,
    OurGuest,
    bridge_both_ways,
    last_json,
    our_guest,
    sending,
)
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import LINUX_DOES

pytestmark = pytest.mark.qemu

DAEMON_AND_USERS = f"""
mkfifo ready
python3 -m ixrings daemon ix0={LEFT} --group nogroup --user-share 100 --no-host --memory 16 --link-timeout 20 \
    > ready 2> /share/daemon.err & daemon=$!
read line < ready || cat /share/daemon.err; rm ready
export IXRINGS_SOCKET=/run/ixrings/netmap.sock
{OPEN} netmap:ix0
for name in "x{{1" ix0; do {AS_NOBODY} {OPEN} netmap:$name 2>&1 | tail -1; done
kill -TERM $daemon; wait $daemon && cat /share/daemon.err
"""


@pytest.fixture(scope="module")
def ours(lab: Lab, module_folder: Path) -> Iterator[OurGuest]:
    with our_guest(lab, module_folder, iommu=False) as ours:
        yield ours


def test_without_an_iommu_vfio_is_refused_and_the_error_names_uio(ours: OurGuest) -> None:
    assert f"or run: ixrings bind {LEFT} --driver uio_pci_generic" in ours.refused(f"ixrings bind {LEFT}")
    output = ours.run(f"{OPEN} vfio:{LEFT}", status=1)
    assert f"{LEFT} is not bound to vfio-pci: its driver is ixgbe. Run: ixrings bind {LEFT}" in output
    assert "IOMMU: off" in ours.run(f"ixrings doctor {LEFT}", status=1)


def test_without_hugepages_the_error_names_the_command_that_reserves_them(ours: OurGuest) -> None:
    ours.run(f"ixrings bind {LEFT} --driver uio_pci_generic && ixrings bind {RIGHT} --driver uio_pci_generic")
    output = ours.run(f"{OPEN} {LEFT}", status=1).splitlines()[-1]
    assert (
        output.endswith("Run: echo 64 | sudo tee /proc/sys/vm/nr_hugepages")
        and "3 hugepages of 2 MiB are needed" in output
    )
    ours.run("echo 64 > /proc/sys/vm/nr_hugepages")
    with ours.far_end(0):
        assert ours.run(f"{OPEN} {LEFT}") == "up, 10 Gbit/s 8\n"


def test_uio_refuses_a_user_who_is_not_root(ours: OurGuest) -> None:
    output = ours.run(f"{AS_NOBODY} {OPEN} {LEFT}", status=1).splitlines()[-1]
    assert "UIO needs root for physical addresses. Run as root (sudo)" in output


def test_a_daemon_on_uio_serves_root_and_refuses_other_users(ours: OurGuest) -> None:
    with ours.far_end(0):
        output = ours.run(DAEMON_AND_USERS)
    assert output.startswith("up, 10 Gbit/s 8\n"), output
    for name in ("ix0", "x"):  # the NIC, and a pipe in the same memory
        refusal = rf"of user nobody may not open {name}: a NIC of this daemon has no IOMMU\. .* or trust all programs: "
        assert re.search(refusal + "--trust-everyone", output), output


def test_a_second_program_is_refused_with_the_pid_of_the_first(ours: OurGuest) -> None:
    with ours.far_end(0):
        output = ours.run(SECOND_PROGRAM + "kill -KILL $first; echo first $first")
    assert output.count(f"is in use by python3 ({output.split()[-1]}); only one program") == 2, output


def test_the_nic_writes_no_memory_after_its_program_was_killed(ours: OurGuest) -> None:
    with ours.far_end(0) as left, sending(left):
        after = last_json(ours.run(f"python3 {IN_GUEST}/kill_in_traffic.py {LEFT}"))
        assert after["moving"] and after["bytes"] > 1 << 20, "the program received no frames"
        assert after["written"] == 0 and not after["bus_master"]
        assert ours.run(f"{OPEN} {LEFT}") == "up, 10 Gbit/s 8\n"


def test_the_bridge_forwards_every_frame_in_both_directions_in_order(ours: OurGuest) -> None:
    bridge_both_ways(ours)


def test_a_nic_goes_from_ixgbe_to_programs_and_back_three_times(ours: OurGuest) -> None:
    ours.run(f"ixrings unbind {LEFT}")
    with ours.far_end(0):
        turns = ours.run(f"python3 {IN_GUEST}/back_and_forth.py {LEFT} uio_pci_generic 3", timeout_s=300).splitlines()
    assert len(turns) == 3


def test_the_kernel_logged_no_warning_and_the_nics_only_rules_of_linux(ours: OurGuest) -> None:
    """Linux's ixgbe had the NICs too, and breaks rules of its own."""
    assert warnings(ours.guest, ("uio", "0000:0", "Call Trace", "WARNING", "BUG")) == []
    assert {violation.rule.name for nic in ours.nics for violation in nic.nic.violations} <= LINUX_DOES
