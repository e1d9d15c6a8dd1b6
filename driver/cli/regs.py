"""`ixrings regs`: show a NIC's registers and fields: all, those that differ from reset, or those that change."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from ixrings.hw.errors import DeviceError
from ixrings.hw.field import Field
from ixrings.hw.register import Access, RegisterMap, Row, Word
from ixrings.hw.registers import Registers

from ..errors import PortError
from ..names import parse_port_name
from .peek import Peek, peek
from .watch import add_watch, repeat

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

WILD = frozenset("*?[")
EPILOG = """\
A NAME is the register's name in the datasheet (PFVML2FLT) or in another driver (VMOLR), a pattern with * and ? (RX*),
one register of an array (RXDCTL[3]), or the number of a section (8.2.3.5). A register that changes when it is read is
shown only if its name is given in full.
"""


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "regs",
        help="show a NIC's registers and their fields",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "port",
        metavar="PORT",
        help="a port's name, such as 0000:03:00.0 or emulated; an emulated NIC is brought up first",
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="registers to show (default: all, but in arrays only those that differ from their reset value)",
    )
    parser.add_argument(
        "--up", action="store_true", help="first bring up a NIC that no program uses, as open_port() does"
    )
    parser.add_argument(
        "--diff", action="store_true", help="show only registers and fields that differ from their reset value"
    )
    parser.add_argument("--fields", action="store_true", help="show each field on its own line, with its meaning")
    add_watch(parser, "read again and again, and show only what changes")
    parser.add_argument("--json", action="store_true", help="print JSON instead; with --watch one object per line")


@dataclass(frozen=True)
class Entry:
    """One register of the table."""

    row: Row[Any]
    index: int

    @property
    def label(self) -> str:
        return self.row.label(self.index)

    @property
    def offset(self) -> int:
        return self.row.offset(self.index)

    @property
    def reset(self) -> Word:
        value: Word = self.row.layout(self.row.reset_value(self.index))
        return value

    def facts(self, value: Word, with_fields: bool) -> dict[str, object]:
        """For JSON."""
        facts: dict[str, object] = {
            "name": self.label,
            "long_name": self.row.long_name,
            "offset": f"{self.offset:#07x}",
            "value": int(value),
            "reset": int(self.reset),
            "text": value.describe(),
            "section": self.row.section,
        }
        if with_fields:
            facts["fields"] = [
                {
                    "name": name,
                    "high": field.high,
                    "low": field.low,
                    "value": number(value, field),
                    "meaning": field.meaning,
                }
                for name, field in value.fields.items()
            ]
        return facts


def run(options: argparse.Namespace) -> int:
    with peek(options.port, up=options.up or parse_port_name(options.port).is_emulated) as seen:
        table = type(seen.registers)
        wanted = [entry for name in options.names for entry in named(name, table)]
        if seen.device is None:
            refuse_effects({entry.row.name: entry.row for entry in wanted}.values(), seen.holder)
        values = read(seen.registers, wanted or everything(table))
        shown = {entry: value for entry, value in values.items() if is_shown(entry, value, bool(wanted), options.diff)}
        if options.watch is not None:
            watch(seen, values, options)
        elif options.json:
            found = [entry.facts(value, options.fields) for entry, value in shown.items()]
            print(json.dumps({"port": options.port, "held_by": seen.holder, "registers": found}, indent=2))
        else:
            before = {entry: entry.reset for entry in shown} if options.diff else {}
            print(*lines(shown, before, options.fields), sep="\n")
    return 0


def named(pattern: str, table: type[RegisterMap]) -> list[Entry]:
    """The registers that a NAME stands for. Raises PortError if there is none."""
    asked = pattern.upper()
    found = [
        Entry(row, index)
        for row in table.rows()
        for index in range(row.count)
        if asked in (row.name, *row.also)
        or (row.count > 1 and asked in (f"{name}[{index}]" for name in (row.name, *row.also)))
        or (
            row.quiet
            and (
                in_section(row.section, asked)
                or (WILD & set(asked) and any(fnmatchcase(name, asked) for name in (row.name, *row.also)))
            )
        )
    ]
    if not found:
        raise only_effects(pattern, table) or no_register(pattern, table)
    return found


def only_effects(pattern: str, table: type[RegisterMap]) -> PortError | None:
    """The error for a pattern that matches registers, but none of them is read for it. None if it matches nothing."""
    names = [row.name for row in table.rows() if fnmatchcase(row.name, pattern.upper())]
    if not names:
        return None
    return PortError(
        f"{pattern} names only registers that change when they are read, or that cannot be read: "
        f"{', '.join(names[:8])}{', ...' * (len(names) > 8)}. To read one, give its full name"
    )


def no_register(pattern: str, table: type[RegisterMap] = Registers) -> PortError:
    """The error for a NAME that stands for no register, with the nearest name."""
    asked = pattern.upper()
    rows = {name: row for row in table.rows() for name in (row.name, *row.also)}
    base, _, index = asked.partition("[")
    if index and base in rows and rows[base].count > 1:
        return PortError(f"there is no {pattern}: {base} has the numbers 0 to {rows[base].count - 1}")
    if index and base in rows:
        return PortError(f"there is no {pattern}: {base} is one register, without a number")
    nearest = get_close_matches(base, rows, 1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"All names: {table.LISTED_BY} '*'"
    return PortError(f"no register {pattern} of {table.WHAT} is known. {hint}")


def in_section(section: str, asked: str) -> bool:
    """Whether `section` is the section asked for or one of its subsections."""
    return section == asked or section.startswith(f"{asked}.")


def everything(table: type[RegisterMap]) -> list[Entry]:
    return [Entry(row, index) for row in table.rows() if row.quiet for index in range(row.count)]


def read(nic: RegisterMap, entries: Iterable[Entry]) -> dict[Entry, Word]:
    """The values of all registers that can be read. Raises DeviceGone."""
    nic.check_present("the NIC")
    return {
        entry: entry.row.layout(nic.space.read32(entry.offset))
        for entry in entries
        if entry.row.access is not Access.WO
    }


def is_shown(entry: Entry, value: Word, by_name: bool, diff: bool) -> bool:
    """Whether the options show this register. Without a NAME, an array shows only entries that are not at reset."""
    return value != entry.reset if diff else by_name or entry.row.count == 1 or value != entry.reset


def refuse_effects(rows: Iterable[Row[Any]], holder: str) -> None:
    """Raises DeviceError for a register that changes when it is read: `holder` uses the NIC."""
    for row in rows:
        if row.access.read_has_effect:
            raise DeviceError(
                f"{row.name} changes when it is read ({row.access.value}), and {holder} uses the NIC: "
                "this read would change what its driver reads"
            )


def lines(values: Mapping[Entry, Word], before: Mapping[Entry, Word], each_field: bool = False) -> Iterator[str]:
    """A line for each register, with the change if `before` has a value. Equal neighbours in an array share a line."""
    for (row, value, former), run in groupby(values, lambda entry: (entry.row, values[entry], before.get(entry))):
        entries = list(run)
        numbers = f"{value:#010x}" if former is None else f"{former:#010x} -> {value:#010x}"
        fields = "" if each_field else value.describe() if former is None else " ".join(changes(former, value))
        text = ": ".join(filter(None, (row.long_name, fields)))
        yield f"{entries[0].offset:#07x}  {label(entries):16} {numbers}  {text}".rstrip()
        if each_field:
            yield from field_lines(value, former)


def field_lines(value: Word, former: Word | None) -> Iterator[str]:
    """Each field with its bits, its number and its meaning; with `former`, only the fields that differ."""
    for name, field in value.fields.items():
        now = number(value, field)
        was = None if former is None else number(former, field)
        if was != now:
            bits = f"[{field.low}]" if field.high == field.low else f"[{field.high}:{field.low}]"
            change = digits(now, field) if was is None else f"{digits(was, field)} -> {digits(now, field)}"
            text = f"{change} ({field.values[now]})" if now in field.values else change
            yield f"{'':9}{bits:>7}  {f'{name} = {text}':32} {field.meaning}".rstrip()


def number(value: Word, field: Field) -> int:
    """The number that the field has in `value`."""
    return (value & field.mask) >> field.low


def digits(of_field: int, field: Field) -> str:
    return f"{of_field:#x}" if field.max > 9 else f"{of_field}"


def label(entries: list[Entry]) -> str:
    """`RXDCTL[0..7]`, `RXDCTL[0,2..6]` for every second one, `RXDCTL[0...7]` for some between."""
    first, last = entries[0], entries[-1]
    if len(entries) == 1:
        return first.label
    step = entries[1].index - first.index
    regular = all(later.index - sooner.index == step for sooner, later in pairwise(entries))
    between = "..." if not regular else f",{entries[1].index}.." if step > 1 else ".."
    return f"{first.row.name}[{first.index}{between}{last.index}]"


def changes(before: Word, after: Word) -> Iterator[str]:
    """`ENABLE=0->1` for each field that differs."""
    for name, field in after.fields.items():
        was, now = number(before, field), number(after, field)
        if was != now:
            yield f"{name}={digits(was, field)}->{digits(now, field)}"


def watch(seen: Peek, values: Mapping[Entry, Word], options: argparse.Namespace) -> None:
    """Show what changes, until Ctrl-C."""
    last = dict(values)
    start = time.monotonic()
    if not options.json:
        print(f"{options.port}: {len(last)} registers, read every {options.watch:g} s; changes follow", flush=True)

    def look() -> None:
        nonlocal last
        before, last = last, read(seen.registers, last)
        changed = [entry for entry in last if last[entry] != before[entry]]
        since = time.monotonic() - start
        if options.json:
            facts = [{**entry.facts(last[entry], options.fields), "before": int(before[entry])} for entry in changed]
            print(json.dumps({"seconds": round(since, 3), "registers": facts}), flush=True)
        elif changed:
            found = lines({entry: last[entry] for entry in changed}, before, options.fields)
            print(f"after {since:.1f} s", *found, sep="\n", flush=True)
        else:
            print(f"after {since:.1f} s: nothing", flush=True)

    repeat(options.watch, look, seen.wait)
