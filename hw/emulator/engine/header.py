"""The C engine's generated headers. `python -m ixrings.hw.emulator.engine.header FOLDER` writes them; so does setup.py.

registers.h comes from the one table of registers, hw/registers/. A register is `R_NAME`, its address in BAR0. An
array has `R_NAME` (its first element), `R_NAME_STRIDE` and `R_NAME_COUNT`; where a second run of addresses starts at
index 64, `R_NAME_64` is its first address. A field is `F_NAME_FIELD_SHIFT` and `F_NAME_FIELD_MASK`, the mask in
place. Registers that share a layout (EICR and EIMS) have its fields under each name, and under the layout's own name
(CAUSES).

findings.h has the numbers of findings.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...register import RegisterArray, Row, Word
from ...registers import Registers
from .findings import FINDINGS_KEPT, FINDINGS_PER_KIND, FindingKind


def write_headers(folder: Path) -> None:
    for name, text in (("registers.h", registers_text()), ("findings.h", findings_text())):
        (folder / name).write_text(text, encoding="ascii")


def registers_text() -> str:
    layouts: dict[str, type[Word]] = {}
    lines: list[str] = []
    for row in Registers.rows():
        lines += ["", f"/* {row.section} */", *addresses(row), *fields(row.name, row.layout)]
        layouts[row.layout.__name__] = row.layout
    for name, layout in layouts.items():
        if not hasattr(Registers, name):
            lines += ["", *fields(name, layout)]
    return guarded("REGISTERS", "hw/registers/", lines)


def findings_text() -> str:
    kept = f"enum {{ FINDINGS_KEPT = {FINDINGS_KEPT}, FINDINGS_PER_KIND = {FINDINGS_PER_KIND} }};"
    kinds = [f"    FINDING_{kind.name} = {kind.value}," for kind in FindingKind]
    return guarded("FINDINGS", "hw/emulator/engine/findings.py", ["", kept, "", "enum finding_kind {", *kinds, "};"])


def guarded(name: str, source: str, lines: list[str]) -> str:
    """The text of a header made from `source`."""
    head = [f"/* Made from {source} by hw/emulator/engine/header.py. */"]
    guard = f"IXRINGS_{name}_H"
    return "\n".join([*head, f"#ifndef {guard}", f"#define {guard}", *lines, "", "#endif", ""])


def addresses(row: Row[Any]) -> Iterator[str]:
    first, *others = row.runs
    yield f"#define R_{row.name} {first.first:#07x}u"
    if isinstance(row, RegisterArray):
        yield f"#define R_{row.name}_STRIDE {first.stride:#x}u"
        yield f"#define R_{row.name}_COUNT {row.count}u"
    for run in others:
        yield f"#define R_{row.name}_{run.index} {run.first:#07x}u"


def fields(name: str, layout: type[Word]) -> Iterator[str]:
    for field in layout.fields.values():
        yield f"#define F_{name}_{field.name}_SHIFT {field.low}"
        yield f"#define F_{name}_{field.name}_MASK {field.mask:#010x}u"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ixrings.hw.emulator.engine.header FOLDER")
    write_headers(Path(sys.argv[1]))
