"""The README's commands for a real NIC, run as printed: those with `sudo` by root, the others by a user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.guest import PROJECT
from tests.qemu.lab.ours import CHECKOUT, OurGuest, as_printed, our_guest, sending
from tests.qemu.lab.prepared import Kernel, Lab

pytestmark = pytest.mark.qemu


def commands() -> list[str]:
    section = (PROJECT / "README.md").read_text().partition("## With a real NIC")[2]
    return re.findall(r"(?m)^(.+)$", section.split("```")[1])


@pytest.fixture(scope="module")
def ours(lab: Lab, vfio_kernel: Kernel, module_folder: Path) -> Iterator[OurGuest]:
    with our_guest(lab, module_folder / vfio_kernel.image.parent.name, kernel=vfio_kernel) as ours:
        ours.run(CHECKOUT)
        yield ours


def test_the_readmes_five_commands_lead_from_lspci_to_packets(ours: OurGuest) -> None:
    lspci, doctor, bind, info, pktgen = commands()
    assert "0000:01:00.0 " in as_printed(ours, lspci)
    assert "ixrings bind 0000:01:00.0" in as_printed(ours, doctor, status=1)
    assert "0000:01:00.0 is bound to vfio-pci; ixgbe had it before." in as_printed(ours, bind)
    with ours.far_end(0) as far, sending(far):
        assert "link           up, 10 Gbit/s" in as_printed(ours, info)
        assert "1,000" in as_printed(ours, pktgen)
    assert "is with ixgbe again" in as_printed(ours, "sudo .venv/bin/ixrings unbind 0000:01:00.0")
