"""Rings and spans as HTML, for notebooks. Loaded when a notebook asks for it.

All text is escaped. Colours of text and lines are those of the page, so that it is readable in light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .errors import RegionError, RingError
from .layout import Direction, SlotFlag

PROGRAM, DRIVER = "#4c9f50", "#3b6fb5"  # the colours of `ixrings ring --html`
CENTRE, INNER, OUTER = 250, 130, 175
LINE = 19
ROWS, BYTES = 16, 32  # of a span


@dataclass(frozen=True)
class Stretch:
    """Neighbouring slots of one owner: [start, start + count), circular. words: the owner."""

    start: int
    count: int
    colour: str
    words: str


def ring_html(ring: Any) -> str:
    """ring: a Ring. The circle with head, cur and tail: what can be seen without the NIC."""
    try:
        head, owned = ring.owned()
        pointers = {"head": head, "cur": ring.cur % ring.num_slots, "tail": ring.tail % ring.num_slots}
    except (RegionError, RingError) as error:
        return f"<p>{escape(ring.name)}: {escape(str(error))}</p>"
    rest = ring.num_slots - owned
    stretches = [
        Stretch(head, owned, PROGRAM, "owned by the program"),
        Stretch((head + owned) % ring.num_slots, rest, DRIVER, "owned by the driver or the NIC"),
    ]
    return figure(circle(ring.name, ring.num_slots, stretches, pointers), stretches)


def figure(drawing: str, stretches: Iterable[Stretch]) -> str:
    """A drawing with the legend of its owners."""
    owners: dict[tuple[str, str], int] = {}
    for each in stretches:
        if each.count:
            owners[each.colour, each.words] = owners.get((each.colour, each.words), 0) + each.count
    legend = "".join(
        f'<div><span style="color:{colour}">&#9632;</span> {number} {escape(words)}</div>'
        for (colour, words), number in owners.items()
    )
    return f'<div style="display:inline-block;vertical-align:top;width:22em;font-size:90%">{drawing}{legend}</div>'


def point(turn: float, radius: float) -> str:
    """At `turn` (0..1, clockwise from the top)."""
    angle = 2 * math.pi * turn
    return f"{CENTRE + radius * math.sin(angle):.1f} {CENTRE - radius * math.cos(angle):.1f}"


def circle(name: str, slots: int, stretches: Sequence[Stretch], pointers: Mapping[str, int]) -> str:
    """The ring as SVG: an arc for each stretch, and its pointers with their names."""
    arcs = "".join(arc(each, slots) for each in stretches if each.count)
    words = "".join(
        text(CENTRE, CENTRE - 15 + 22 * row, "middle", f"{pointer} {slot}")
        for row, (pointer, slot) in enumerate(pointers.items())
    )
    title = text(CENTRE, CENTRE - 45, "middle", name, "font-weight:bold")
    return (
        f'<svg viewBox="-80 0 660 500" role="img" aria-label="{escape(name)}" style="width:100%;height:auto;'
        f'font:17px sans-serif">{arcs}{title}{words}{"".join(marks(slots, pointers))}</svg>'
    )


def arc(stretch: Stretch, slots: int) -> str:
    begin, turn = stretch.start / slots, min(stretch.count / slots, 0.99999)  # a whole circle would have no direction
    large = int(turn > 0.5)
    a, b = point(begin, OUTER), point(begin + turn, OUTER)
    c, d = point(begin + turn, INNER), point(begin, INNER)
    last = (stretch.start + stretch.count - 1) % slots
    title = f"slots {stretch.start}..{last}: {stretch.words}" if stretch.count > 1 else f"slot {last}: {stretch.words}"
    return (
        f'<path d="M{a} A{OUTER} {OUTER} 0 {large} 1 {b} L{c} A{INNER} {INNER} 0 {large} 0 {d} Z" '
        f'fill="{stretch.colour}"><title>{escape(title)}</title></path>'
    )


def marks(slots: int, pointers: Mapping[str, int]) -> Iterable[str]:
    """A line and the names at each slot with pointers. Names of close neighbours are drawn further out."""
    at: dict[int, list[str]] = {}
    for name, slot in pointers.items():
        at.setdefault(slot, []).append(name)
    last, far, lines = -1.0, 0, 0
    for slot, names in sorted(at.items()):
        turn = (slot + 0.5) / slots
        far = far + 2 * LINE * lines - LINE // 2 if last >= 0 and turn - last < 0.06 else OUTER + 12
        last, lines = turn, len(names)
        x1, y1 = point(turn, OUTER + 2).split()
        x2, y2 = point(turn, far).split()
        yield f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="currentColor"/>'
        right, top = turn < 0.5, turn < 0.25 or turn > 0.75
        for row, name in enumerate(names):
            y = float(y2) + (-LINE * (len(names) - 1 - row) if top else LINE * row + 8)
            yield text(float(x2) + (4 if right else -4), y, "start" if right else "end", name)


def text(x: float, y: float, anchor: str, words: str, style: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor" style="{style}">'
        f"{escape(words)}</text>"
    )


def span_html(span: Any) -> str:
    """span: a Span. A row for each slot, with the first bytes of its buffer."""
    rows = []
    for slot in range(span.start, min(span.stop, span.start + ROWS)):
        buf_idx, length, flags = (int(span.ring.slots[name][slot]) for name in ("buf_idx", "len", "flags"))
        there = buf_idx < len(span.ring.buffers)
        data = span.ring.buffers[buf_idx, : min(length, BYTES)].tobytes().hex(" ") if there else "no such buffer"
        more = " &#8230;" * (there and length > BYTES)
        names = SlotFlag(flags).name or f"{flags:#x}" if flags else ""
        rows.append(f"<tr><td>{slot}</td><td>{buf_idx}</td><td>{length}</td><td>{escape(names)}</td>"
                    f"<td style='text-align:left'><code>{data}</code>{more}</td></tr>")  # fmt: skip
    left = len(span) - len(rows)
    before = " before it is sent" if span.ring.direction is Direction.TX else ""
    return (
        f"<p>{escape(repr(span)[1:-1])}</p><table><tr><th>slot</th><th>buf_idx</th><th>len</th><th>flags</th>"
        f"<th>buffer{before}</th></tr>{''.join(rows)}</table>" + f"<p>and {left} more slots</p>" * (left > 0)
    )
