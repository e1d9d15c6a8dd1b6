"""Proof two, a guest without IOMMU: VFIO's refusal, and UIO with what it can promise and what not."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def ours(lab: Lab, module_folder: Path) -> Iterator[OurGuest]:
    with our_guest(lab, module_folder, iommu=False) as ours:
        yield ours


def test_without_an_iommu_vfio_is_refused_and_uio_named(ours: OurGuest) -> None:
    assert f"or run: ixrings bind {LEFT} --driver uio_pci_generic" in ours.refused(f"ixrings bind {LEFT}")
    said = ours.run(f"{OPEN} vfio:{LEFT}", status=1)
    assert f"{LEFT} is not bound to vfio-pci: its driver is ixgbe. Run: ixrings bind {LEFT}" in said
    assert "IOMMU: off" in ours.run(f"ixrings doctor {LEFT}", status=1)


def test_without_hugepages_uio_says_how_to_get_them(ours: OurGuest) -> None:
    ours.run(f"ixrings bind {LEFT} --driver uio_pci_generic && ixrings bind {RIGHT} --driver uio_pci_generic")
    said = ours.run(f"{OPEN} {LEFT}", status=1).splitlines()[-1]
    assert said.endswith("Run: echo 64 | sudo tee /proc/sys/vm/nr_hugepages") and "3 hugepages of 2 MiB are needed" in said
    ours.run("echo 64 > /proc/sys/vm/nr_hugepages")
    with ours.far_end(0):
        assert ours.run(f"{OPEN} {LEFT}") == "up, 10 Gbit/s 8\n"


def test_a_user_without_root_is_told_that_uio_needs_it(ours: OurGuest) -> None:
    said = ours.run(f"{AS_NOBODY} {OPEN} {LEFT}", status=1).splitlines()[-1]
    assert "UIO needs root for physical addresses. Run as root (sudo)" in said


def test_a_second_program_is_told_who_has_it(ours: OurGuest) -> None:
    with ours.far_end(0):
        output = ours.run(SECOND_PROGRAM + "kill -KILL $first; echo first $first")
    assert output.count(f"is in use by python3 ({output.split()[-1]}); only one program") == 2, output


def test_a_killed_program_leaves_a_quiet_nic_and_memory_that_nobody_writes(ours: OurGuest) -> None:
    with ours.far_end(0) as left, sending(left):
        after = last_json(ours.run(f"python3 {IN_GUEST}/kill_in_traffic.py {LEFT}"))
        assert after["moving"] and after["bytes"] > 1 << 20, "nothing was going on"
        assert after["written"] == 0 and not after["bus_master"]
        assert ours.run(f"{OPEN} {LEFT}") == "up, 10 Gbit/s 8\n"


def test_the_bridge_carries_every_frame_both_ways_in_order(ours: OurGuest) -> None:
    bridge_both_ways(ours)


def test_a_nic_goes_to_programs_and_back_to_ixgbe(ours: OurGuest) -> None:
    ours.run(f"ixrings unbind {LEFT}")
    with ours.far_end(0):
        turns = ours.run(f"python3 {IN_GUEST}/back_and_forth.py {LEFT} uio_pci_generic 3", timeout_s=120).splitlines()
    assert len(turns) == 3


def test_neither_kernel_nor_nic_had_anything_to_complain_of(ours: OurGuest) -> None:
    assert warnings(ours.guest, ("uio", "0000:0", "Call Trace", "WARNING", "BUG")) == []
    assert {
        violation.rule.name for nic in ours.nics for violation in nic.nic.violations
    } <= LINUX_DOES  # it had them, too
