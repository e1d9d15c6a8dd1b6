"""Charts as SVG, written as text: bars and lines with axes. No package is needed to draw or to show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 84, 24, 44, 64
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}"
    ".axis{stroke:#777}.grid{stroke:#ddd}.bar{fill:#2b6cb0}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.paper{fill:#181a1b}.grid{stroke:#3a3d3f}.bar{fill:#63a4e8}}"
)
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568", "#975a16", "#2c7a7b")
Point = tuple[float, float]


def write(file: Path, text: str) -> None:
    """Raises OSError with the file's name, also if the disk is full."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(file)) from None


def bars(title: str, x_label: str, y_label: str, edges: Sequence[float], counts: Sequence[float]) -> str:
    """A histogram: counts[i] lies between edges[i] and edges[i + 1]."""
    x_of, y_of = scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT), scale(0, max(counts), HEIGHT - BOTTOM, TOP)
    drawn = [
        f'<rect class="bar" x="{x_of(low):.1f}" y="{y_of(count):.1f}" width="{max(1, x_of(high) - x_of(low) - 1):.1f}" '
        f'height="{y_of(0) - y_of(count):.1f}"><title>{low:,.1f} to {high:,.1f}: {count:,}</title></rect>'
        for low, high, count in zip(edges, edges[1:], counts)
        if count
    ]
    return document(title, x_label, y_label, (edges[0], edges[-1]), (0, max(counts)), drawn)


def lines(title: str, x_label: str, y_label: str, curves: Mapping[str, Sequence[Point]], y_most: float) -> str:
    """A line with points for each name, from 0 to y_most."""
    xs = [x for curve in curves.values() for x, _ in curve] or [0.0]
    x_of, y_of = scale(min(xs), max(xs), LEFT, WIDTH - RIGHT), scale(0, y_most, HEIGHT - BOTTOM, TOP)
    drawn: list[str] = []
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x_of(x), y_of(y)) for x, y in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        if len(curves) > 1:
            drawn.append(
                f'<text x="{WIDTH - RIGHT - 90}" y="{TOP + 16 * number}" style="fill:{colour}">{escape(name)}</text>'
            )
    return document(title, x_label, y_label, (min(xs), max(xs)), (0, y_most), drawn)


def scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = high - low or 1.0
    return lambda value: first + (value - low) / span * (last - first)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.4g}"


def document(
    title: str, x_label: str, y_label: str, x: tuple[float, float], y: tuple[float, float], drawn: Sequence[str]
) -> str:
    x_of, y_of = scale(*x, LEFT, WIDTH - RIGHT), scale(*y, HEIGHT - BOTTOM, TOP)
    grid: list[str] = []
    for step in range(5):
        value, across = y[0] + (y[1] - y[0]) * step / 4, x[0] + (x[1] - x[0]) * step / 4
        grid += [
            f'<path class="grid" d="M{LEFT} {y_of(value):.1f}H{WIDTH - RIGHT}"/>',
            f'<text text-anchor="end" x="{LEFT - 8}" y="{y_of(value) + 4:.1f}">{number(value)}</text>',
            f'<text text-anchor="middle" x="{x_of(across):.1f}" y="{HEIGHT - BOTTOM + 20}">{number(across)}</text>',
        ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
            f'<style>{STYLE}</style><rect class="paper" width="100%" height="100%" fill="#fff"/>',
            f'<text class="title" text-anchor="middle" x="{middle}" y="24">{escape(title)}</text>',
            *grid,
            *drawn,
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(y[0]):.1f}" y2="{y_of(y[0]):.1f}"/>',
            f'<text text-anchor="middle" x="{middle}" y="{HEIGHT - 14}">{escape(x_label)}</text>',
            f'<text text-anchor="middle" transform="translate(18,{(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">'
            f"{escape(y_label)}</text>",
            "</svg>\n",
        )
    )
