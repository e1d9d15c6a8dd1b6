"""`ixrings trace`: show a recorded trace: each access of a driver to the registers of a NIC."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from ixrings.hw.registers import Registers, VfRegisters
from ixrings.hw.trace.device import Access
from ixrings.hw.trace.file import TraceFile

from ..arguments import number
from ..errors import PortError
from .regs import in_section, no_register
from .trace_compare import Written, compared, differences, family, ranges
from .trace_fold import fold

CONFIG_SIZE, CONFIG_SECTION = 4096, "9.3"
EPILOG = """\
A trace is written by open_port(..., trace=FILE), by an example with --trace FILE, or by ixrings emulate --trace FILE
for any driver that uses the emulated NIC, such as Linux in a guest. Loops are folded: "x 37" means that the access was
made 37 times in a row, "these 2 x 20" means that the last two lines were repeated 20 times, and PFUTA[0..127] means one
register of the array after the other.

--compare looks at the writes to each register. A value that is written several times in a row counts once. Bits that
are memory addresses (in RDBAL, for example) do not count.
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "trace",
        help="show, filter, count or compare recorded register accesses",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", metavar="FILE", help="a trace, which may be compressed (.gz)")
    parser.add_argument(
        "--register",
        metavar="GLOB",
        action="append",
        help="only registers with this name, such as RXDCTL, 'RX*', 'RXDCTL[0]', 'CONFIG*'",
    )
    parser.add_argument(
        "--section",
        metavar="NUMBER",
        help="only registers of this section of the datasheet and its subsections, such as 8.2.3.5",
    )
    direction = parser.add_mutually_exclusive_group()
    direction.add_argument("--reads", action="store_true", help="only reads")
    direction.add_argument("--writes", action="store_true", help="only writes")
    parser.add_argument(
        "--from", dest="begin", type=number(0, 1e9), metavar="SECONDS", help="only from this time of the trace on"
    )
    parser.add_argument("--to", dest="end", type=number(0, 1e9), metavar="SECONDS", help="only up to this time")
    parser.add_argument("--names", action="store_true", help="show each register's long name")
    parser.add_argument("--sections", action="store_true", help="show each register's section of the datasheet")
    parser.add_argument("--callers", action="store_true", help="show the function that made the access, if recorded")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--count", action="store_true", help="count accesses by register instead")
    what.add_argument(
        "--compare", metavar="B", help="show how the writes of FILE (A) and of this other trace (B) differ"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON instead, one object per line: each access, or with --count and --compare each register",
    )


def run(options: argparse.Namespace) -> int:
    files = [TraceFile(path) for path in (options.file, options.compare) if path is not None]
    try:
        show = compare if options.compare else count if options.count else print_each if options.json else print_folded
        show(files, options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `| head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for file in files:
        if file.complaint():
            print(f"ixrings trace: {file.complaint()}", file=sys.stderr)
    return 0


def chosen(file: TraceFile, options: argparse.Namespace) -> Iterator[Access]:
    """The accesses that the options choose. Raises ValueError for --from or --to if the trace has no times."""
    wanted = conditions(options, file)
    found = False
    for access in file:
        if all(holds(access) for holds in wanted):
            found = True
            yield access
    if not found:
        print(f"ixrings trace: {file.path}: none of its {file.accesses} accesses matches the options", file=sys.stderr)


def conditions(options: argparse.Namespace, file: TraceFile) -> list[Callable[[Access], bool]]:
    wanted: list[Callable[[Access], bool]] = []
    if options.reads or options.writes:
        wanted.append(lambda access: access.write == options.writes)
    if options.register:
        check_registers(options.register)
        wanted.append(lambda access: any(matches(names_of(access), glob) for glob in options.register))
    if options.section:
        if not any(in_section(each, options.section.rstrip(".")) for each in (CONFIG_SECTION, *sections())):
            raise PortError(f"no register is in section {options.section} of the datasheet")
        wanted.append(lambda access: f"{access.section}.".startswith(f"{options.section.rstrip('.')}."))
    if options.begin is not None:
        wanted.append(lambda access: time_of(access, file) >= options.begin)
    if options.end is not None:
        wanted.append(lambda access: time_of(access, file) <= options.end)
    return wanted


def check_registers(globs: Sequence[str]) -> None:
    """Raises PortError for a GLOB that matches no register. `0x01234` is an offset without a name in the table."""
    names = [
        name
        for row in (*Registers.rows(), *VfRegisters.rows())
        for each in (row.name, *row.also)
        for name in (each, *(f"{each}[{index}]" for index in range(row.count) if row.count > 1))
    ]
    config = [f"CONFIG+{offset:#04x}" for offset in range(CONFIG_SIZE)]
    for glob in globs:
        if not (glob.lower().startswith("0x") or matches(names, glob) or matches(config, glob)):
            raise no_register(glob)


def matches(names: Iterable[str], glob: str) -> bool:
    """Whether one of the names matches. RXDCTL[0] is a register, not a set of letters."""
    pattern = glob.upper().replace("[", "[[]")
    return any(fnmatchcase(name.upper(), pattern) for name in names)


def names_of(access: Access) -> Iterator[str]:
    """Every name of the accessed register: with and without its number, the datasheet's and those of other drivers."""
    yield access.register
    if access.place:
        row, index = access.place.row, access.place.index
        for name in (row.name, *row.also):
            yield name
            yield f"{name}[{index}]"


def sections() -> Iterator[str]:
    return (row.section for row in (*Registers.rows(), *VfRegisters.rows()))


def time_of(access: Access, file: TraceFile) -> float:
    if access.time_s is None:
        raise ValueError(f"{file.path} has no times, so leave out --from and --to")
    return access.time_s


def print_folded(files: list[TraceFile], options: argparse.Namespace) -> None:
    for each in fold(chosen(files[0], options)):
        for line in each.lines():
            access = line.access
            time = "" if access.time_s is None else f"{access.time_s:11.6f} "
            words = [
                f"{time}{'write' if access.write else 'read '} {line.name:16} {line.number:10}",
                ": ".join(filter(None, (access.long_name if options.names else "", access.fields))),
                line.how_often,
                f"({access.section})" if options.sections and access.section else "",
                f"# {access.caller}" if options.callers and access.caller else "",
            ]
            print("  ".join(filter(None, words)).rstrip())


def facts(access: Access) -> dict[str, object]:
    """One access as JSON. mask: the bits of `value` that are known. seconds: null when the trace has no times."""
    return {
        "seconds": access.time_s,
        "write": access.write,
        "register": access.register,
        "long_name": access.long_name,
        "offset": access.offset,
        "value": access.value,
        "mask": access.mask,
        "text": access.fields,
        "section": access.section,
        "caller": access.caller,
    }


def print_each(files: list[TraceFile], options: argparse.Namespace) -> None:
    for access in chosen(files[0], options):
        print(json.dumps(facts(access)))


def count(files: list[TraceFile], options: argparse.Namespace) -> None:
    """Count the accesses to each register, the busiest first; an array is one register here."""
    reads: dict[str, int] = defaultdict(int)
    writes: dict[str, int] = defaultdict(int)
    names: dict[str, dict[str, None]] = defaultdict(dict)
    long_names: dict[str, str] = {}
    for access in chosen(files[0], options):
        of = family(access)
        names[of][access.register] = None
        long_names[of] = access.long_name
        (writes if access.write else reads)[of] += 1
    busiest = sorted(names, key=lambda of: -reads[of] - writes[of])
    if options.json:
        for of in busiest:
            counts = {"reads": reads[of], "writes": writes[of]}
            print(json.dumps({"register": ranges(list(names[of])), "long_name": long_names[of], **counts}))
        return
    print(f"{'reads':>10} {'writes':>10}  register")
    for of in busiest:
        print(f"{reads[of]:10} {writes[of]:10}  {ranges(list(names[of])):16} {long_names[of]}".rstrip())
    print(f"{sum(reads.values()):10} {sum(writes.values()):10}  in all")


def compare(files: list[TraceFile], options: argparse.Namespace) -> None:
    written = [Written.of(chosen(file, options), file.path) for file in files]
    if options.json:
        for name, found in differences(*written):
            print(
                json.dumps(
                    {
                        "register": name,
                        "a": list(map(facts, found.a)),
                        "b": list(map(facts, found.b)),
                        "first_difference": found.first,
                    }
                )
            )
        return
    for letter, file, each in zip("AB", files, written):
        print(f"{letter} is {file.path}: {each.writes} writes to {len(each.values)} registers")
    for line in compared(*written):
        print(line)
