"""The table of registers: it has each register once, with section and long name, and the emulated NIC follows it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.emulator.blocks.block import Block
from ixrings.hw.field import bit
from ixrings.hw.register import ALL_ONES, Access, Register, RegisterArray, RegisterMap, Row, Run, Word
from ixrings.hw.registers import BAR0_SIZE, Registers

ROWS = Registers.rows()
LAYOUTS = sorted({row.layout for row in ROWS} - {Word}, key=lambda layout: layout.__name__)
CHANGED_BY_HARDWARE = {"EEC", "EERD"}


def places() -> Iterator[tuple[int, str]]:
    for row in ROWS:
        for run in (*row.runs, *row.aliases):
            yield from ((run.first + run.stride * i, f"{row.name}[{run.index + i}]") for i in range(run.count))


def test_the_table_has_every_register_that_public_drivers_touch() -> None:
    assert len(ROWS) + sum(len(row.also) for row in ROWS) >= 450
    assert all(offset % 4 == 0 and 0 <= offset < BAR0_SIZE for offset, _ in places())
    assert all(Registers.find(offset) for offset, _ in places())


ONE = Register(Word, 0x10, Access.RW)


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (Register(Word, 0x10, Access.RO), "two registers at 0x00010: ONE and TWO"),
        (Register(Word, 0x20, Access.RW, aliases=(0x10,)), "two registers at 0x00010: ONE and TWO"),
        (RegisterArray(Word, Run(0x08, 4, 4), Access.RW), "two registers at 0x00010: ONE and TWO[2]"),
        (RegisterArray(Word, Run(0x40, 4, 4), Access.RW, aliases=(Run(0x0C, 4, 4),)), "ONE and TWO[1]"),
    ],
    ids=["register", "alias", "array", "alias of an array"],
)
def test_two_registers_at_one_offset_are_refused(second: Row[Word], complaint: str) -> None:
    with pytest.raises(TypeError, match=re.escape(complaint)):
        type("Wrong", (RegisterMap,), {"ONE": ONE, "TWO": second})


def test_two_registers_at_one_offset_are_refused_in_different_chapters() -> None:
    class Chapter:
        TWO = Register(Word, 0x00008, Access.RO)

    with pytest.raises(TypeError, match="Wrong has two registers at 0x00008: TWO and STATUS"):
        type("Wrong", (Chapter, Registers), {})


def test_two_rows_with_one_name_are_refused() -> None:
    class Chapter:
        STATUS = Register(Word, 0x1FFF0, Access.RO)

    with pytest.raises(TypeError, match="Wrong has two rows with the name STATUS"):
        type("Wrong", (Chapter, Registers), {})


def test_every_register_has_a_long_name_of_its_own() -> None:
    names = Counter(row.long_name for row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []
    assert [name for name in names if not re.fullmatch(r"[A-Z1][!-~]+( [!-~]+)*", name)] == []
    assert [name for name in names if name.endswith(("Register", "Registers", "."))] == []


def test_a_register_shows_its_long_name() -> None:
    assert repr(Registers.CTRL) == "CTRL (Device Control) at 0x00000 (82599 8.2.3.1.1): read/write"
    with Emulated82599("sink", manual=True) as device:
        regs = Registers(device)
        assert repr(regs.RXDCTL) == "RXDCTL[0..127] (Receive Descriptor Control) from 0x01028"
        assert repr(regs.RXDCTL[3]) == "RXDCTL[3] (Receive Descriptor Control) at 0x010e8 = 0x00000000"
        assert repr(regs.EICS) == "EICS (Extended Interrupt Cause Set) at 0x00808: write only"


def test_a_name_means_the_same_register_in_every_driver() -> None:
    names = Counter([row.name for row in ROWS] + [name for row in ROWS for name in row.also])
    assert [name for name, count in names.items() if count > 1] == []


def test_every_register_has_its_section_of_the_datasheet() -> None:
    section = re.compile(r"8\.(2\.3\.([1-9]|1\d|2[0-7])|3\.5\.\d)(\.\d+)?")
    assert [row.name for row in ROWS if not section.fullmatch(row.section)] == []
    exact = Counter(row.section for row in ROWS if row.section.count(".") == 4)
    # Pairs with one section: ESDP, I2CCTL; TDWBAL, TDWBAH; LXONTXC, SSVPC (as cited); MDEF, MDEF_EXT.
    shared = {"8.2.3.1.4", "8.2.3.9.11", "8.2.3.23.8", "8.2.3.25.7"}
    assert {section for section, count in exact.items() if count > 1} == shared


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.__name__))
def test_fields_do_not_overlap(layout: type[Word]) -> None:
    assert layout.fields
    assert [f"{one}, {two}" for (one, a), (two, b) in combinations(layout.fields.items(), 2) if a.mask & b.mask] == []


def test_a_field_can_hold_each_value_that_has_a_meaning() -> None:
    fields = [field for layout in LAYOUTS for field in layout.fields.values()]
    assert all(0 <= number <= field.max for field in fields for number in field.values)
    assert bit(3, "", {1: "on"}).max == 1


def test_meanings_of_fields_are_short_texts() -> None:
    meanings = [field.meaning for layout in LAYOUTS for field in layout.fields.values() if field.meaning]
    assert len(meanings) > 500
    assert [text for text in meanings if not text.isascii() or text.endswith(".") or len(text) > 80] == []


def kinds(block: type[Block]) -> Iterator[type[Block]]:
    for kind in block.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_hook_of_the_emulator_belongs_to_a_register() -> None:
    blocks = list(kinds(Block))
    hooks = [
        (block.__name__, name, name.partition("_")[2])
        for block in blocks
        for name in dir(block)
        if name.startswith(("read_", "write_"))
    ]
    assert len(blocks) > 10 and len(hooks) > 50
    names = {row.name for row in ROWS}
    assert [f"{block}.{method}" for block, method, register in hooks if register not in names] == []


def test_reset_values_and_masks_have_32_bits_and_belong_to_registers_that_hold_a_value() -> None:
    assert all(0 <= row.reset <= ALL_ONES and 0 < row.mask <= ALL_ONES for row in ROWS)
    counted = [row.name for row in ROWS if row.access in (Access.RC, Access.RC_W1C, Access.WO) and row.reset]
    assert counted == []
    assert [row.name for row in ROWS if row.mask != ALL_ONES and row.access in (Access.RO, Access.RC)] == []


@pytest.mark.breaks_rules  # every rule that a pattern can break
def test_a_register_keeps_the_written_bits_that_its_mask_lets_through() -> None:
    device = Emulated82599("sink", manual=True)
    with device:
        hooks = set(device._register_access.write_hooks) | CHANGED_BY_HARDWARE
        for row in ROWS:
            if row.access is not Access.RW or row.name in hooks:
                continue
            for index in {0, row.count // 2, row.count - 1}:
                before = device.read32(row.offset(index))
                for value in (ALL_ONES, 0x5A5A_5A5A, 0):
                    device.write32(row.offset(index), value)
                    assert device.read32(row.offset(index)) == before & ~row.mask | value & row.mask, row.label(index)
        assert "unknown_register" not in {violation.rule.name for violation in device.violations}


def test_a_read_only_register_does_not_change_when_it_is_written() -> None:
    device = Emulated82599("sink", manual=True)
    with device:
        for row in ROWS:
            if row.access is Access.RO and row.name not in device._register_access.write_hooks:
                before = device.read32(row.offset(row.count - 1))
                device.write32(row.offset(row.count - 1), before ^ ALL_ONES)
                assert device.read32(row.offset(row.count - 1)) == before, row.name
