"""Counters as HTML, for notebooks. Loaded when a notebook asks for it. All text is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ixrings.hw.register import Row
from ixrings.hw.registers import Registers, VfRegisters


def statistics_html(stats: Any) -> str:
    """stats: a PortStatistics. The counters that are not zero, and the sentences about losses."""
    sides = [("rx", stats.rx, stats.rx_others), ("tx", stats.tx, stats.tx_others)]
    rows = [rows_html("", stats.port)]
    for side, queues, others in sides:
        rows += [rows_html(f"{side}[{queue}] ", counts) for queue, counts in enumerate(queues)]
        rows.append(rows_html(f"{side}_others ", others))
    lost = "".join(f"<li>{escape(sentence)}</li>" for sentence in stats.losses)
    left = 'style="text-align:left"'
    table = f"<table><tr><th {left}>counter</th><th>count</th><th {left}>what</th></tr>{''.join(rows)}</table>"
    return (table if any(rows) else "<p>All counters are 0.</p>") + f"<ul>{lost}</ul>" * bool(lost)


def rows_html(begin: str, counts: Mapping[str, int]) -> str:
    return "".join(
        f'<tr><td style="text-align:left">{escape(begin + name)}</td><td>{count:,}</td>'
        f'<td style="text-align:left">{escape(long_name(name))}</td></tr>'
        for name, count in counts.items()
        if count
    )


def long_name(counter: str) -> str:
    """Of the register, or of the low half of a pair; "" if there is none."""
    for table in (Registers, VfRegisters):
        for name in (counter, f"{counter}L", f"{counter}_L", f"{counter}_LSB"):
            row = getattr(table, name, None)
            if isinstance(row, Row):
                return row.long_name.removesuffix(" Low")
    return ""
