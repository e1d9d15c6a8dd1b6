"""The table of a virtual function's registers: each register is once where public drivers have it, with its section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from ixrings.hw.errors import DeviceGone
from ixrings.hw.register import ALL_ONES, Access
from ixrings.hw.registers import VF_QUEUES, Registers, VfRegisters, table_of

ROWS = VfRegisters.rows()

# name, offset, stride, count, writable bits: as public drivers and register descriptions have them.
KNOWN = """
VFCTRL 0 - 1 04000000 | VFSTATUS 8 - 1 - | VFLINKS 10 - 1 - | VFFRTIMER 48 - 1 - | VFMBMEM 200 4 16 ffffffff
VFMAILBOX 2fc - 1 7 | VFRXMEMWRAP 3190 - 1 - | VTEICR 100 - 1 7 | VTEICS 104 - 1 7 | VTEIMS 108 - 1 7
VTEIMC 10c - 1 7 | VTEIAC 110 - 1 7 | VTEIAM 114 - 1 7 | VTIVAR 120 4 4 81818181 | VTIVAR_MISC 140 - 1 83
VFPBACL 148 - 1 7 | VTRSCINT 180 4 2 ffffffff | VTEITR 820 4 2 8fff8ff8 | VFPSRTYPE 300 - 1 e0001332
VFRDBAL 1000 40 8 ffffff80 | VFRDBAH 1004 40 8 ffffffff | VFRDLEN 1008 40 8 fff80 | VFDCA_RXCTRL 100c 40 8 ffffffff
VFRDH 1010 40 8 ffff | VFSRRCTL 1014 40 8 1fc03f1f | VFRDT 1018 40 8 ffff | VFRXDCTL 1028 40 8 42000000
VFRSCCTL 102c 40 8 d | VFTDBAL 2000 40 8 ffffff80 | VFTDBAH 2004 40 8 ffffffff | VFTDLEN 2008 40 8 fff80
VFDCA_TXCTRL 200c 40 8 ffffffff | VFTDH 2010 40 8 ffff | VFTDT 2018 40 8 ffff | VFTXDCTL 2028 40 8 67f7f7f
VFTDWBAL 2038 40 8 fffffffd | VFTDWBAH 203c 40 8 ffffffff | VFGPRC 101c - 1 - | VFGORC_LSB 1020 - 1 -
VFGORC_MSB 1024 - 1 - | VFMPRC 1034 - 1 - | VFGPTC 201c - 1 - | VFGOTC_LSB 2020 - 1 - | VFGOTC_MSB 2024 - 1 -
"""
RESET = {"VFMAILBOX": 0x40, "VFSRRCTL": 0x402, "VFDCA_RXCTRL": 0xA200, "VFDCA_TXCTRL": 0x2A00}
# The PF's registers with the same layout, for each queue.
SAME_AS_PF = ("RDBAL", "RDBAH", "RDLEN", "RDH", "RDT", "RXDCTL", "SRRCTL", "RSCCTL", "DCA_RXCTRL",
              "TDBAL", "TDBAH", "TDLEN", "TDH", "TDT", "TXDCTL", "TDWBAL", "TDWBAH", "DCA_TXCTRL")  # fmt: skip


def known() -> Iterator[list[str]]:
    yield from (entry.split() for entry in KNOWN.replace("\n", "|").split("|") if entry.strip())


def test_the_table_has_every_register_of_a_virtual_function_and_no_other() -> None:
    assert [row.name for row in ROWS if row.name not in {name for name, *_ in known()}] == []
    for name, offset, stride, count, mask in known():
        row = getattr(VfRegisters, name)
        assert row.offset() == int(offset, 16), name
        assert row.count == int(count), name
        assert stride == "-" or row.offset(1) - row.offset(0) == int(stride, 16), name
        assert mask == "-" or row.mask == int(mask, 16), name
        assert (mask == "-") == (row.access is Access.RO), name
        assert row.reset == RESET.get(name, 0), name


def test_every_register_has_its_section_and_a_long_name_of_its_own() -> None:
    assert [row.name for row in ROWS if not re.fullmatch(r"8\.3\.5\.[1-6](\.\d+)?", row.section)] == []
    assert [name for name, count in Counter(row.section for row in ROWS).items() if count > 1] == []
    assert len({row.long_name for row in ROWS}) == len(ROWS)
    assert all(offset % 4 == 0 and offset < VfRegisters.SIZE for row in ROWS for offset in [row.offset(row.count - 1)])


@pytest.mark.parametrize("name", SAME_AS_PF)
def test_a_queue_has_the_fields_that_it_has_in_the_pf(name: str) -> None:
    ours, theirs = getattr(VfRegisters, f"VF{name}"), getattr(Registers, name)
    assert (ours.layout, ours.count) == (theirs.layout, VF_QUEUES)
    assert ours.mask & ~theirs.mask == 0, "the PF's register has every bit that the VF's has"


def test_no_register_of_a_virtual_function_has_the_name_of_another_one_of_the_pf() -> None:
    """Trace files name registers, and not the table."""
    assert {row.name for row in ROWS} & {name for row in Registers.rows() for name in (row.name, *row.also)} == set()


class Absent:
    """A function that was removed."""

    def read32(self, offset: int, /) -> int:
        return ALL_ONES

    def write32(self, offset: int, value: int, /) -> None:
        pass


def test_a_virtual_function_that_is_gone_says_who_took_it_away() -> None:
    assert table_of(True) is VfRegisters
    nic = VfRegisters(Absent())
    with pytest.raises(DeviceGone, match="no longer answers: VFLINKS and VFSTATUS read 0xffffffff. Its PF was reset"):
        nic.VFLINKS.read()
    with pytest.raises(AttributeError, match="a virtual function of the 82599 has no register LINKS; did you mean VFL"):
        getattr(nic, "LINKS".upper())
