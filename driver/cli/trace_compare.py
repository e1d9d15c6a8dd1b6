"""Compare two register traces: which registers they wrote, with which values, and in which order."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ixrings.hw.register import ALL_ONES
from ixrings.hw.trace.device import Access

MOST_VALUES = 1_000_000  # of one trace
SHOWN = 6  # values of one register

# Bits that are memory addresses: they differ between two drivers, and between two runs of one driver.
ADDRESS_BITS = {
    "RDBAL": 0xFFFF_FF80,
    "RDBAH": ALL_ONES,
    "TDBAL": 0xFFFF_FF80,
    "TDBAH": ALL_ONES,
    "TDWBAL": 0xFFFF_FFFC,
    "TDWBAH": ALL_ONES,
}


def agree(one: Access, other: Access) -> bool:
    """Whether two values are equal in the bits that both traces know. Addresses do not count."""
    known = one.mask & other.mask & ~ADDRESS_BITS.get(family(one), 0)
    return not (one.value ^ other.value) & known


def family(access: Access) -> str:
    """The register's name without its index."""
    return access.place.row.name if access.place else access.register


@dataclass
class Written:
    """What one trace wrote: the values of each register in order. A value repeated in a row counts once."""

    values: dict[str, list[Access]] = field(default_factory=dict)  # in the order of the first write
    writes: int = 0
    kept: int = 0

    @classmethod
    def of(cls, accesses: Iterable[Access], source: object) -> Written:
        """The writes among `accesses`. Raises ValueError when there are more than MOST_VALUES values."""
        written = cls()
        for access in accesses:
            if access.write:
                written.add(access)
                if written.kept > MOST_VALUES:
                    raise ValueError(
                        f"{source} has more than {MOST_VALUES} values to compare; "
                        "choose fewer with --to SECONDS or --register NAME"
                    )
        return written

    def add(self, access: Access) -> None:
        self.writes += 1
        before = self.values.setdefault(access.register, [])
        if not before or (before[-1].value, before[-1].mask) != (access.value, access.mask):
            before.append(access)
            self.kept += 1

    def order(self) -> list[str]:
        """The registers in the order of their first write; an array is one register here."""
        return list(dict.fromkeys(family(values[0]) for values in self.values.values()))


@dataclass(frozen=True)
class Difference:
    """What each trace wrote to one register (() for nothing), and which write is the first that differs."""

    a: tuple[Access, ...]
    b: tuple[Access, ...]
    first: int | None  # counted from 0; None when all writes agree


def differences(a: Written, b: Written) -> Iterator[tuple[str, Difference]]:
    """Every register that either trace wrote: in A's order, then the rest in B's order."""
    for name in dict.fromkeys([*a.values, *b.values]):
        ours, theirs = tuple(a.values.get(name, ())), tuple(b.values.get(name, ()))
        first = next((i for i, (x, y) in enumerate(zip(ours, theirs)) if not agree(x, y)), None)
        if first is None and len(ours) != len(theirs):
            first = min(len(ours), len(theirs))
        yield name, Difference(ours, theirs, first)


def compared(a: Written, b: Written) -> Iterator[str]:
    """The comparison as lines of text."""
    groups: dict[tuple[object, ...], tuple[list[str], Difference]] = {}  # registers of an array with equal writes
    for name, difference in differences(a, b):
        key = (
            name.partition("[")[0],
            difference.first,
            *((each.value, each.mask) for each in difference.a),
            None,
            *((each.value, each.mask) for each in difference.b),
        )
        groups.setdefault(key, ([], difference))[0].append(name)
    found = [(ranges(names), difference) for names, difference in groups.values()]
    yield from section("Written in A only", (f"  {names:20} {listed(each.a)}" for names, each in found if not each.b))
    yield from section("Written in B only", (f"  {names:20} {listed(each.b)}" for names, each in found if not each.a))
    yield from section(
        "Written in both, with other values",
        (
            line
            for names, each in found
            if each.a and each.b and each.first is not None
            for line in other_values(names, each)
        ),
    )
    yield from section("Written in another order (by the first write of each)", other_order(a, b))
    same: dict[str, list[str]] = {}
    for names, each in groups.values():
        if each.first is None:
            same.setdefault(names[0].partition("[")[0], []).extend(names)
    if same:
        yield "Written in both, with the same values: " + ", ".join(map(ranges, same.values()))


def section(heading: str, lines: Iterable[str]) -> Iterator[str]:
    for i, line in enumerate(lines):
        if not i:
            yield heading
        yield line


def other_values(names: str, difference: Difference) -> Iterator[str]:
    assert difference.first is not None
    yield f"  {names:20} A {listed(difference.a)}"
    yield f"  {'':20} B {listed(difference.b)}"
    rest = [
        values[difference.first] if difference.first < len(values) else None for values in (difference.a, difference.b)
    ]
    yield f"  {'':20} first at value {difference.first + 1}: {difference_text(*rest)}"


def difference_text(a: Access | None, b: Access | None) -> str:
    """How two values differ, field by field if the register has named fields."""
    if a is None or b is None:
        return f"only {'B' if a is None else 'A'} continues, with {described(a or b)}"
    fields = a.place.row.layout.fields if a.place else {}
    apart = [
        f"{name} {(a.value >> each.low) & each.max:#x} in A, {(b.value >> each.low) & each.max:#x} in B"
        for name, each in fields.items()
        if (a.value ^ b.value) & each.mask & a.mask & b.mask
    ]
    return "; ".join(apart) or f"{a.number} in A, {b.number} in B"


def described(access: Access | None) -> str:
    return f"{access.number} {access.fields}".rstrip() if access else ""


def listed(values: tuple[Access, ...]) -> str:
    if len(values) == 1:
        return described(values[0])
    more = f", and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(each.number for each in values[:SHOWN]) + more


def other_order(a: Written, b: Written) -> Iterator[str]:
    """Registers at different places in the two orders, and the register that each trace wrote before them."""
    common = set(a.order()) & set(b.order())
    in_a, in_b = ([name for name in each.order() if name in common] for each in (a, b))
    blocks = difflib.SequenceMatcher(None, in_a, in_b, autojunk=False).get_matching_blocks()
    in_place = {name for block in blocks for name in in_a[block.a : block.a + block.size]}
    for name in in_a:
        if name not in in_place:
            yield f"  {name:20} A {what_is_before(name, in_a)}, B {what_is_before(name, in_b)}"


def what_is_before(name: str, order: list[str]) -> str:
    place = order.index(name)
    return f"after {order[place - 1]}" if place else "first"


def ranges(names: list[str]) -> str:
    """`PFUTA[0..127]`, `MPSAR[0,2..254]`, `RXCTRL`: one text for registers that differ only in their index."""
    base, bracket, _ = names[0].partition("[")
    if not bracket:
        return names[0]
    left = sorted(int(name[len(base) + 1 : -1]) for name in names)
    shown = []
    while left:
        stride = left[1] - left[0] if len(left) > 1 else 1
        count = next((i for i, index in enumerate(left) if index != left[0] + i * stride), len(left))
        if stride > 1 and count < 3:
            count = 1
        then = f",{left[1]}" if stride > 1 and count > 1 else ""
        shown.append(f"{left[0]}{then}..{left[count - 1]}" if count > 1 else f"{left[0]}")
        left = left[count:]
    return f"{base}[{','.join(shown)}]"
