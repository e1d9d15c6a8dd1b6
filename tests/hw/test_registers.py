"""The table of registers: nothing stands in it twice, everything has its place in the datasheet, and the emulated NIC holds it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.register import ALL_ONES, Access, Register, RegisterMap, Run, Word, bit
from ixrings.hw.registers import BAR0_SIZE, Registers

ROWS = Registers.rows()
LAYOUTS = sorted({row.layout for row in ROWS} - {Word}, key=lambda layout: layout.__name__)
WRITTEN_BY_HARDWARE = {"EEC", "EERD"}  # their hooks answer a write


def places() -> Iterator[tuple[int, str]]:
    for row in ROWS:
        for run in (*row.runs, *row.aliases):
            yield from ((run.first + run.stride * i, f"{row.name}[{run.index + i}]") for i in range(run.count))


def test_the_table_has_every_register_that_public_drivers_touch_and_each_at_one_place() -> None:
    assert len(ROWS) + sum(len(row.also) for row in ROWS) >= 450
    at = Counter(offset for offset, _ in places())
    assert [name for offset, name in places() if at[offset] > 1] == []
    assert all(offset % 4 == 0 and 0 <= offset < BAR0_SIZE for offset, _ in places())


def test_two_registers_at_one_offset_would_be_found() -> None:
    class Wrong(RegisterMap):
        ONE = Register(Word, 0x10, Access.RW)
        TWO = Register(Word, 0x20, Access.RW, aliases=(0x10,))

    assert [run for row in Wrong.rows() for run in (*row.runs, *row.aliases) if run.first == 0x10] == [
        Run(0x10, 4, 1)
    ] * 2


def test_no_name_stands_for_two_registers_whoever_uses_it() -> None:
    names = Counter([row.name for row in ROWS] + [name for row in ROWS for name in row.also])
    assert [name for name, count in names.items() if count > 1] == []


def test_every_register_has_its_section_of_the_datasheets_chapter() -> None:
    assert [row.name for row in ROWS if not re.fullmatch(r"8\.2\.3\.([1-9]|1\d|2[0-7])(\.\d+)?", row.section)] == []
    exact = Counter(row.section for row in ROWS if row.section.count(".") == 4)
    shared = {
        "8.2.3.1.4",
        "8.2.3.9.11",
        "8.2.3.23.8",
        "8.2.3.25.7",
    }  # I2CCTL beside ESDP, TDWBAH beside TDWBAL, SSVPC as cited, MDEF_EXT beside MDEF
    assert {section for section, count in exact.items() if count > 1} == shared


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.__name__))
def test_fields_do_not_overlap(layout: type[Word]) -> None:
    assert layout.fields
    assert [f"{one}, {two}" for (one, a), (two, b) in combinations(layout.fields.items(), 2) if a.mask & b.mask] == []


def test_what_a_field_may_mean_fits_into_it() -> None:
    fields = [field for layout in LAYOUTS for field in layout.fields.values()]
    assert all(0 <= number <= field.max for field in fields for number in field.meanings)
    assert bit(3, {1: "on"}).max == 1


def test_reset_values_and_masks_are_32_bits_and_only_what_is_kept_can_have_them() -> None:
    assert all(0 <= row.reset <= ALL_ONES and 0 < row.mask <= ALL_ONES for row in ROWS)
    counted = [row.name for row in ROWS if row.access in (Access.RC, Access.RC_W1C, Access.WO) and row.reset]
    assert counted == []
    assert [row.name for row in ROWS if row.mask != ALL_ONES and row.access in (Access.RO, Access.RC)] == []


@pytest.mark.breaks_rules  # all that a pattern can
def test_every_register_that_can_be_written_keeps_what_its_mask_lets_through() -> None:
    with Emulated82599("sink", manual=True) as nic:
        hooks = set(nic._writes) | WRITTEN_BY_HARDWARE
        for row in ROWS:
            if row.access is not Access.RW or row.name in hooks:
                continue
            for index in {0, row.count // 2, row.count - 1}:
                before = nic.read32(row.offset(index))
                for value in (ALL_ONES, 0x5A5A_5A5A, 0):
                    nic.write32(row.offset(index), value)
                    assert nic.read32(row.offset(index)) == before & ~row.mask | value & row.mask, row.label(index)
        assert "unknown_register" not in {violation.rule.name for violation in nic.violations}


def test_what_software_cannot_write_does_not_change() -> None:
    with Emulated82599("sink", manual=True) as nic:
        for row in ROWS:
            if row.access is Access.RO and row.name not in nic._writes:
                before = nic.read32(row.offset(row.count - 1))
                nic.write32(row.offset(row.count - 1), before ^ ALL_ONES)
                assert nic.read32(row.offset(row.count - 1)) == before, row.name
