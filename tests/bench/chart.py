"""Draws cycles a packet over batch size: measurements of our loop, and of other drivers by the same method.

python tests/bench/hotloop.py --svg tests/bench/hotloop.svg
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 780, 400, 56, 44, 170, 48
LEAST, MOST = 1.0, 100.0  # cycles a packet, at the bottom and at the top
BATCHES = (1, 8, 32, 64, 256)
COLOURS = {"tx": "#1f77b4", "rx": "#2ca02c", "forward": "#d62728"}


@dataclass(frozen=True)
class Point:
    """Median cycles a packet, with the NIC's steps on the same core."""

    driver: str  # "" for our loop
    op: str
    batch: int
    cycles: float


# Measured by the same method, with the drivers' unmodified sources, on a 2.6 GHz TSC: a fake NIC in plain memory,
# 60-byte frames, regions of 256 packets.
PEERS = (
    Point("TinyNF", "tx", 32, 5.6),
    Point("TinyNF", "rx", 32, 8.4),
    Point("TinyNF", "forward", 32, 18.7),
    Point("TinyNF", "forward", 128, 21.3),
    Point("ixy", "tx", 32, 11.6),
    Point("ixy", "rx", 32, 16.8),
    Point("ixy", "forward", 32, 30.9),
    Point("ixy", "forward", 256, 38.2),
    Point("DPDK 22.11", "tx", 32, 20.2),
    Point("DPDK 22.11", "rx", 32, 26.0),
    Point("DPDK 22.11", "forward", 32, 47.3),
    Point("DPDK 22.11", "forward", 256, 62.5),
)
SHAPES = {"TinyNF": "circle", "ixy": "square", "DPDK 22.11": "triangle"}


def x_of(batch: int) -> float:
    return LEFT + math.log2(batch) / math.log2(BATCHES[-1]) * (WIDTH - LEFT - RIGHT)


def y_of(cycles: float) -> float:
    share = math.log10(cycles / LEAST) / math.log10(MOST / LEAST)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "#444") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def mark(driver: str, x: float, y: float, colour: str) -> str:
    if SHAPES[driver] == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="{colour}" stroke-width="2"/>'
    if SHAPES[driver] == "square":
        return (
            f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="none" stroke="{colour}" '
            'stroke-width="2"/>'
        )
    return f'<path d="M{x:.1f} {y - 6:.1f} l6 11 h-12 z" fill="none" stroke="{colour}" stroke-width="2"/>'


def axes() -> Iterable[str]:
    for cycles in (1, 2, 5, 10, 20, 50, 100):
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(cycles):.1f}" y2="{y_of(cycles):.1f}" stroke="#ddd"/>'
        yield text(LEFT - 8, y_of(cycles) + 4, str(cycles), "end")
    for batch in BATCHES:
        yield text(x_of(batch), HEIGHT - BOTTOM + 18, str(batch))
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "packets a batch")


def key() -> Iterable[str]:
    x = WIDTH - RIGHT + 24
    for row, (op, colour) in enumerate(COLOURS.items()):
        yield (
            f'<line x1="{x}" x2="{x + 22}" y1="{TOP + 20 * row}" y2="{TOP + 20 * row}" stroke="{colour}" '
            'stroke-width="3"/>'
        )
        yield text(x + 30, TOP + 20 * row + 4, f"ixrings {op}", "start")
    for row, driver in enumerate(SHAPES, len(COLOURS)):
        yield mark(driver, x + 11, TOP + 20 * row, "#444")
        yield text(x + 30, TOP + 20 * row + 4, driver, "start")


def draw(ours: Sequence[Point], title: str) -> str:
    """An SVG document."""
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            'font-size="13">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, "start", "#111"),
        *axes(),
    ]
    for op, colour in COLOURS.items():
        points = sorted((point.batch, point.cycles) for point in ours if point.op == op)
        line = " ".join(f"{x_of(batch):.1f},{y_of(cycles):.1f}" for batch, cycles in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="3"/>')
    parts += [mark(peer.driver, x_of(peer.batch), y_of(peer.cycles), COLOURS[peer.op]) for peer in PEERS]
    return "\n".join([*parts, *key(), "</svg>", ""])
