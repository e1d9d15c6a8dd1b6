"""DMA safety: the IOMMU stops the access of a wrong descriptor, the guest's kernel logs it, our driver reports it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.ours import IN_GUEST, LEFT, OPEN, OurGuest, last_json, our_guest
from tests.qemu.lab.prepared import Kernel, Lab

pytestmark = pytest.mark.qemu


@pytest.fixture(scope="module")
def ours(lab: Lab, vfio_kernel: Kernel, module_folder: Path) -> Iterator[OurGuest]:
    with our_guest(lab, module_folder / vfio_kernel.image.parent.name, kernel=vfio_kernel, ask_beyond=True) as ours:
        ours.run(f"ixrings bind {LEFT}")
        yield ours


@pytest.mark.parametrize(("what", "reads"), [("transmit", True), ("receive", False)])
def test_a_descriptor_with_an_unmapped_address_is_stopped_and_reported(ours: OurGuest, what: str, reads: bool) -> None:
    with ours.far_end(0) as far:
        ours.run("dmesg -C")
        ours.run(
            f"python3 {IN_GUEST}/point_outside.py {LEFT} {what} > outside.json 2> outside.err & echo $! > outside.pid; "
            "for i in $(seq 300); do grep -q ready outside.json && break; sleep 0.1; done"
        )
        far.wait_link(30)
        if not reads:
            far.send([b"\xff" * 6 + bytes(54)] * 4)
        output = ours.run(
            "for i in $(seq 300); do [ -d /proc/$(cat outside.pid) ] || break; sleep 0.1; done; "
            "cat outside.err outside.json"
        )
        after = last_json(output)
        address = after["address"]
        log = ours.run("dmesg | grep DMAR")
        assert re.search(
            rf"DMA {'Read' if reads else 'Write'}.*Request device \[(0000:)?01:00\.0\] "
            rf"fault addr {hex(int(address))[:-3]}000",
            log,
        ), log
        assert after["written"] == 0, "the port's buffers were written"
        if reads:
            error = str(after["error"])
            assert "was refused a DMA access" in error and "sudo dmesg | grep DMAR" in error
        assert ours.run(f"{OPEN} {LEFT}") == "up, 10 Gbit/s 8\n"


def test_the_nic_reports_the_refused_accesses_and_no_other_rule(ours: OurGuest) -> None:
    assert {violation.rule.name for violation in ours.nics[0].nic.violations} == {"dma_read", "dma_write"}
