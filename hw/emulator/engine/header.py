"""registers.h for the C engine, printed from the one table of registers: `python -m ixrings.hw.emulator.engine.header > registers.h`.

A register is `R_NAME`, its address in BAR0. An array has `R_NAME` (its first), `R_NAME_STRIDE` and `R_NAME_COUNT`; where it goes on
elsewhere from index 64 on, `R_NAME_64` is the address of that one. A field is `F_NAME_FIELD_SHIFT` and `F_NAME_FIELD_MASK`, the mask
in place. Registers that share a layout (EICR and EIMS) have its fields under each name, and under the layout's own (CAUSES).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ixrings.hw.register import RegisterArray, Row, Word
from ixrings.hw.registers import Registers


def text() -> str:
    """The whole header."""
    lines = [
        "/* Made from hw/registers/ by hw/emulator/engine/header.py. */",
        "#ifndef IXRINGS_REGISTERS_H",
        "#define IXRINGS_REGISTERS_H",
    ]
    layouts: dict[str, type[Word]] = {}
    for row in Registers.rows():
        lines += ["", f"/* {row.section} */", *_addresses(row), *_fields(row.name, row.layout)]
        layouts[row.layout.__name__] = row.layout
    for name, layout in layouts.items():
        if not hasattr(Registers, name):
            lines += ["", *_fields(name, layout)]
    return "\n".join([*lines, "", "#endif", ""])


def _addresses(row: Row[Any]) -> Iterator[str]:
    first, *others = row.runs
    yield f"#define R_{row.name} {first.first:#07x}u"
    if isinstance(row, RegisterArray):
        yield f"#define R_{row.name}_STRIDE {first.stride:#x}u"
        yield f"#define R_{row.name}_COUNT {row.count}u"
    for run in others:
        yield f"#define R_{row.name}_{run.index} {run.first:#07x}u"


def _fields(name: str, layout: type[Word]) -> Iterator[str]:
    for field in layout.fields.values():
        yield f"#define F_{name}_{field.name}_SHIFT {field.low}"
        yield f"#define F_{name}_{field.name}_MASK {field.mask:#010x}u"


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            print(text(), end="")
        case [path]:
            Path(path).write_text(text(), encoding="ascii")
        case _:
            sys.exit("usage: python -m ixrings.hw.emulator.engine.header [FILE]")
