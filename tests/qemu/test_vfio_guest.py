"""Our driver under a real IOMMU: taking a NIC and giving it back, killed programs, users without root, errors."""

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
from tests.qemu.lab.prepared import Kernel, Lab
from tests.qemu.lab.served import LINUX_DOES

pytestmark = pytest.mark.qemu


@pytest.fixture(scope="module")
def ours(lab: Lab, vfio_kernel: Kernel, module_folder: Path) -> Iterator[OurGuest]:
    with our_guest(lab, module_folder / vfio_kernel.image.parent.name, kernel=vfio_kernel, another_nic=True) as ours:
        yield ours


@pytest.fixture(scope="module")
def bound(ours: OurGuest) -> OurGuest:
    ours.run(f"for address in {LEFT} {RIGHT}; do ixrings bind $address || exit; done")
    return ours


def test_a_nic_goes_from_ixgbe_to_programs_and_back_ten_times(ours: OurGuest) -> None:
    with ours.far_end(0):
        turns = ours.run(f"python3 {IN_GUEST}/back_and_forth.py {LEFT} vfio-pci 10", timeout_s=400).splitlines()
    assert [line.split()[0] for line in turns] == list(map(str, range(10)))


def test_the_bridge_forwards_every_frame_in_both_directions_in_order(bound: OurGuest) -> None:
    bridge_both_ways(bound)


def test_the_nic_writes_no_memory_after_its_program_was_killed(bound: OurGuest) -> None:
    with bound.far_end(0) as left, sending(left):
        after = last_json(bound.run(f"python3 {IN_GUEST}/kill_in_traffic.py {LEFT}"))
        assert after["moving"] and after["windows"] >= 2 and after["bytes"] > 1 << 20, "the program received no frames"
        assert after["written"] == 0 and not after["bus_master"]
        assert bound.run(f"{OPEN} {LEFT}") == "up, 10 Gbit/s 8\n"


def test_a_second_program_is_refused_with_the_pid_of_the_first(bound: OurGuest) -> None:
    output = bound.run(SECOND_PROGRAM + f"ixrings info {LEFT} > /dev/null; kill -KILL $first; echo first $first")
    pid = output.split()[-1]
    sentence = (
        rf"{LEFT} \(group \d+\) is in use by python3 \({pid}\); only one program at a time "
        r"can have it open\. End that program first"
    )
    assert len(re.findall(sentence, output)) == 2 + (not bound.shows_registers), output


def test_a_user_without_root_can_use_a_nic_with_chown(bound: OurGuest) -> None:
    assert "Run: sudo chown $USER /dev/vfio/" in bound.run(f"{AS_NOBODY} {OPEN} {LEFT}", status=1)
    bound.run(f"ixrings unbind {LEFT} && ixrings bind {LEFT} --chown nobody")
    with bound.far_end(0):
        assert bound.run(f"prlimit --memlock=67108864 {AS_NOBODY} {OPEN} {LEFT}") == "up, 10 Gbit/s 8\n"
    assert "locked memory: limited to 1024 KiB" in bound.run(
        f"prlimit --memlock=1048576 {AS_NOBODY} python3 -m ixrings doctor {LEFT}", status=1
    )
    refusal = bound.run(f"prlimit --memlock=1048576 {AS_NOBODY} {OPEN} {LEFT}", status=1).splitlines()[-1]
    assert (
        "cannot be locked: the limit on locked memory is 1024 KiB (ulimit -l). Run: sudo prlimit "
        "--memlock=unlimited --pid $$" in refusal
    )


def test_errors_say_which_address_is_not_an_82599_or_missing(bound: OurGuest) -> None:
    port = bound.run(
        "for d in /sys/bus/pci/devices/*; do [ $(cat $d/class) = 0x060400 ] && basename $d && break; done"
    ).strip()
    assert bound.refused(f"ixrings bind {port}") == (
        f"ixrings: {port} is not a NIC: it is 1b36:000c, class 0604. Run: ixrings list"
    )
    other = bound.run(
        "for d in /sys/bus/pci/devices/*; do [ $(cat $d/class) = 0x020000 ] && [ $(cat $d/device) = 0x10d3 ] && "
        "basename $d; done; true"
    ).strip()
    assert bound.refused(f"ixrings bind {other}") == (
        f"ixrings: {other} is a NIC, but not an 82599: it is 8086:10d3, class 0200. Run: ixrings list"
    )
    assert bound.refused("ixrings info 0000:00:00.0").endswith(
        "is not a NIC: it is 8086:29c0, class 0600. Run: ixrings list"
    )
    assert (
        bound.refused("ixrings bind 0000:7f:00.0") == "ixrings: there is no PCI device 0000:7f:00.0. Run: ixrings list"
    )
    assert bound.refused(f"ixrings info uio:{LEFT}") == (
        f"ixrings: {LEFT} is not bound to a UIO driver: its driver is vfio-pci. Run: ixrings bind {LEFT} --driver "
        "uio_pci_generic"
    )
    assert "the IOMMU translates for" in bound.refused(f"ixrings bind {LEFT} --driver uio_pci_generic")
    assert f"{LEFT} has an IOMMU" in bound.refused(f"ixrings info vfio-noiommu:{LEFT}")


def test_a_nic_that_linux_uses_can_be_inspected_but_not_bound(bound: OurGuest) -> None:
    bound.run(f"ixrings unbind {LEFT}; ip address add 10.9.9.9/24 dev eth0; ip link set eth0 up")
    looked = bound.run(f"ixrings info {LEFT}; ixrings stats {LEFT}")
    assert "held by        ixgbe" in looked and "mac            02:00:00:00:00:01" in looked
    assert ("run: ethtool -d eth0" in looked) != bound.shows_registers
    assert f"{LEFT}: Linux's counts for eth0" in looked
    assert bound.refused(f"ixrings bind {LEFT}") == (
        f"ixrings: {LEFT} is in use by Linux: eth0 has the address 10.9.9.9. To bind it anyway, run: "
        f"ixrings bind {LEFT} --force"
    )
    assert f"{LEFT} is bound to vfio-pci; ixgbe had it before." in bound.run(f"ixrings bind {LEFT} --force")


def test_the_kernel_logged_no_warning_and_the_nics_only_rules_of_linux(bound: OurGuest) -> None:
    """The kernel warns of the user who may lock 1 MiB. Linux's ixgbe had the NICs too, and breaks rules of its own."""
    lines = warnings(bound.guest, ("vfio", "0000:0", "DMAR", "Call Trace", "WARNING", "BUG"))
    assert [line for line in lines if "RLIMIT_MEMLOCK (1048576) exceeded" not in line] == []
    assert {violation.rule.name for nic in bound.nics for violation in nic.nic.violations} <= LINUX_DOES
