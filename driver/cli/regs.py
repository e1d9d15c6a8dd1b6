"""`ixrings regs`: a NIC's registers, with their fields; what differs from reset; what changes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from ixrings.driver.errors import PortError
from ixrings.driver.names import Kind, parse_port_name
from ixrings.hw.errors import DeviceError
from ixrings.hw.register import Access, Row, Word
from ixrings.hw.registers import Registers

from .peek import peek
from .watch import add_watch, repeat

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

WILD = frozenset("*?[")
EPILOG = """\
A NAME is the datasheet's or another driver's (PFVML2FLT, VMOLR), with * and ? for parts of it (RX*), one of an array (RXDCTL[3]), or the number of a
section (8.2.3.5). Registers whose read clears or takes something are read only if they are named in full.
"""


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "regs",
        help="a NIC's registers, with their fields",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "port",
        metavar="PORT",
        help="a port's name, such as 0000:03:00.0 or emulated; an emulated one is brought up first",
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="registers to show (default: all, of arrays what differs from its reset value)",
    )
    parser.add_argument("--up", action="store_true", help="bring a NIC that nobody has up first, as open_port() does")
    parser.add_argument(
        "--diff", action="store_true", help="only what differs from its reset value, and which fields do"
    )
    add_watch(parser, "keep looking, and show only what changes")
    parser.add_argument("--json", action="store_true", help="print JSON instead; with --watch an object a line")


@dataclass(frozen=True)
class Entry:
    """A register of the table."""

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

    def facts(self, value: Word) -> dict[str, object]:
        return {
            "name": self.label,
            "offset": f"{self.offset:#07x}",
            "value": int(value),
            "reset": int(self.reset),
            "text": value.describe(),
            "section": self.row.section,
        }


def run(options: argparse.Namespace) -> int:
    wanted = [entry for name in options.names for entry in named(name)]
    with peek(options.port, up=options.up or parse_port_name(options.port).kind is Kind.EMULATED) as seen:
        if seen.device is None:
            refuse_effects({entry.row.name: entry.row for entry in wanted}.values(), seen.holder)
        values = read(seen.nic, wanted or everything())
        shown = {entry: value for entry, value in values.items() if is_shown(entry, value, bool(wanted), options.diff)}
        if options.json and options.watch is None:
            print(
                json.dumps(
                    {
                        "port": options.port,
                        "held_by": seen.holder,
                        "registers": [entry.facts(value) for entry, value in shown.items()],
                    },
                    indent=2,
                )
            )
        elif options.watch is None:
            print(*lines(shown, {entry: entry.reset for entry in shown} if options.diff else {}), sep="\n")
        else:
            watch(seen.nic, values, options.watch, options.json)
    return 0


def named(pattern: str) -> list[Entry]:
    """Raises PortError when there is no such register."""
    asked = pattern.upper()
    found = [
        Entry(row, index)
        for row in Registers.rows()
        for index in range(row.count)
        if asked in (row.name, *row.also)
        or (row.count > 1 and asked in (f"{name}[{index}]" for name in (row.name, *row.also)))
        or (
            quiet(row)
            and (
                in_section(row.section, asked)
                or (WILD & set(asked) and any(fnmatchcase(name, asked) for name in (row.name, *row.also)))
            )
        )
    ]
    if not found:
        raise PortError(f"the 82599 has no register {pattern} that is known here. All names: ixrings regs emulated '*'")
    return found


def in_section(section: str, asked: str) -> bool:
    return section == asked or section.startswith(f"{asked}.")


def quiet(row: Row[Any]) -> bool:
    """Whether reading it shows a value and does nothing else."""
    return not row.access.read_has_effect and row.access is not Access.WO


def everything() -> list[Entry]:
    return [Entry(row, index) for row in Registers.rows() if quiet(row) for index in range(row.count)]


def read(nic: Registers, entries: Iterable[Entry]) -> dict[Entry, Word]:
    nic.check_present("the NIC")
    return {
        entry: entry.row.layout(nic.space.read32(entry.offset))
        for entry in entries
        if entry.row.access is not Access.WO
    }


def is_shown(entry: Entry, value: Word, by_name: bool, diff: bool) -> bool:
    return value != entry.reset if diff else by_name or entry.row.count == 1 or value != entry.reset


def refuse_effects(rows: Iterable[Row[Any]], holder: str) -> None:
    for row in rows:
        if row.access.read_has_effect:
            raise DeviceError(
                f"{row.name} is {row.access.value}, and {holder} has the NIC: reading it would take from its driver what it counts on"
            )


def lines(values: Mapping[Entry, Word], before: Mapping[Entry, Word]) -> Iterator[str]:
    """`before`: tell what became of it. Neighbours in an array that say the same share a line."""
    for (row, value, former), run in groupby(values, lambda entry: (entry.row, values[entry], before.get(entry))):
        entries = list(run)
        became = (
            f"{value:#010x}  {value.describe()}"
            if former is None
            else f"{former:#010x} -> {value:#010x}  {' '.join(changes(former, value))}"
        )
        yield f"{entries[0].offset:#07x}  {label(entries):16} {became}".rstrip()


def label(entries: list[Entry]) -> str:
    first, last = entries[0], entries[-1]
    if len(entries) == 1:
        return first.label
    step = entries[1].index - first.index
    regular = all(later.index - sooner.index == step for sooner, later in pairwise(entries))
    between = "..." if not regular else f",{entries[1].index}.." if step > 1 else ".."
    return f"{first.row.name}[{first.index}{between}{last.index}]"


def changes(before: Word, after: Word) -> Iterator[str]:
    for name, field in after.fields.items():
        was, now = (before & field.mask) >> field.low, (after & field.mask) >> field.low
        if was != now:
            yield f"{name}={was:#x}->{now:#x}" if field.max > 9 else f"{name}={was}->{now}"


def watch(nic: Registers, values: Mapping[Entry, Word], interval_s: float, as_json: bool) -> None:
    """Until Ctrl-C."""
    last = dict(values)
    start = time.monotonic()

    def look() -> None:
        nonlocal last
        before, last = last, read(nic, last)
        changed = [entry for entry in last if last[entry] != before[entry]]
        since = time.monotonic() - start
        if as_json:
            facts = [{**entry.facts(last[entry]), "before": int(before[entry])} for entry in changed]
            print(json.dumps({"seconds": round(since, 3), "registers": facts}), flush=True)
        elif changed:
            print(
                f"after {since:.1f} s", *lines({entry: last[entry] for entry in changed}, before), sep="\n", flush=True
            )

    repeat(interval_s, look)
