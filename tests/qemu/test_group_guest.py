"""Two NICs behind one PCI bridge share an IOMMU group: a program can use one only when Linux has given up the other."""

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


def test_a_nic_is_refused_with_the_reason_while_linux_has_its_neighbour(card: OurGuest) -> None:
    output = card.run(f"ixrings bind {FIRST}")
    why = rf"Group \d+ is not viable: {SECOND} is bound to ixgbe\. Run: ixrings bind {SECOND}"
    assert re.search(f"Not usable yet: {why}", output), output
    assert re.search(why, card.run(OPEN_FIRST, status=None))
    assert f"BAD   {FIRST} group" in card.run(f"ixrings doctor {FIRST}", status=1)


def test_a_nic_can_be_bound_together_with_its_neighbour(card: OurGuest) -> None:
    output = card.run(f"ixrings bind {FIRST} --group")
    assert f"{SECOND} is bound to vfio-pci; ixgbe had it before." in output and "Not usable yet" not in output
    with card.far_end(0):
        assert "up, 10 Gbit/s" in card.run(f"ixrings info {FIRST}")


def test_one_program_sends_through_both_nics(card: OurGuest) -> None:
    with card.far_end(0) as left, card.far_end(1) as right:
        assert card.run(BOTH).splitlines() == [
            "100 100",
            "100 100",
            f"{SECOND} is open in this process, as port {SECOND}. Use that port (port.queue(k) for a queue of it), or "
            "close it first: port.close()",
            "200",
            "100",
        ]
        assert left.stats()["GPRC"] == right.stats()["GPRC"] == 300


def test_both_nics_go_back_to_ixgbe(card: OurGuest) -> None:
    for address in (FIRST, SECOND):
        assert f"{address} is with ixgbe again; its interface is eth" in card.run(f"ixrings unbind {address}")
