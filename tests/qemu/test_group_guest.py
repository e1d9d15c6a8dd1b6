"""Proof two: two NICs behind one PCI bridge share an IOMMU group; what a program is told while Linux has one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.ours import OurGuest, our_guest
from tests.qemu.lab.prepared import Kernel, Lab

pytestmark = pytest.mark.qemu

FIRST, SECOND = "0000:01:01.0", "0000:01:02.0"

OPEN_FIRST = f"""python3 -c 'from ixrings import open_port
with open_port("{FIRST}", link_timeout=0) as port: print(port.link.up)' 2>&1 | tail -1"""
BOTH = f"""python3 -c 'from ixrings import open_port, open_ports
def hundred(port):
    port.send([bytes(60)] * 100); port.flush(); return port.stats()["GPTC"]
with open_ports("{FIRST}", "{SECOND}") as (a, b):
    print(hundred(a), hundred(b))
with open_port("{FIRST}") as a:
    with open_port("{SECOND}") as b:
        print(hundred(a), hundred(b))
        try: open_port("{SECOND}")
        except Exception as error: print(error)
    print(hundred(a))
    with open_port("{SECOND}") as b:
        print(hundred(b))'"""


@pytest.fixture(scope="module")
def card(lab: Lab, vfio_kernel: Kernel, module_folder: Path) -> Iterator[OurGuest]:
    with our_guest(lab, module_folder / vfio_kernel.image.parent.name, kernel=vfio_kernel, bridge=True) as ours:
        yield ours


def test_a_nic_whose_neighbour_linux_has_is_not_to_be_had_and_the_sentence_says_why(card: OurGuest) -> None:
    said = card.run(f"ixrings bind {FIRST}")
    why = rf"Group \d+ is not viable: {SECOND} is bound to ixgbe\. Run: ixrings bind {SECOND}"
    assert re.search(f"Not usable yet: {why}", said), said
    assert re.search(why, card.run(OPEN_FIRST, status=None))
    assert f"BAD   {FIRST} group" in card.run(f"ixrings doctor {FIRST}", status=1)


def test_with_its_neighbour_it_can_be_had(card: OurGuest) -> None:
    said = card.run(f"ixrings bind {FIRST} --group")
    assert f"{SECOND} is bound to vfio-pci; ixgbe had it before." in said and "Not usable yet" not in said
    with card.far_end(0):
        assert "up, 10 Gbit/s" in card.run(f"ixrings info {FIRST}")


def test_both_in_one_program_carry_frames(card: OurGuest) -> None:
    with card.far_end(0) as left, card.far_end(1) as right:
        assert card.run(BOTH).splitlines() == [
            "100 100",
            "100 100",
            f"{SECOND} is already open in this program; close that port first, or use it",
            "200",
            "100",
        ]
        assert left.stats()["GPRC"] == right.stats()["GPRC"] == 300


def test_both_are_given_back(card: OurGuest) -> None:
    for address in (FIRST, SECOND):
        assert f"{address} is with ixgbe again; its interface is eth" in card.run(f"ixrings unbind {address}")
