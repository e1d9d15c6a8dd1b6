"""Registers and their values as HTML, for notebooks. Loaded when a notebook asks for it. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from .field import Field

LEFT = 'style="text-align:left"'
MOST_OF_AN_ARRAY = 8


def value_html(value: Any) -> str:
    """value: a Word. A row for each field: bits, number, what it means."""
    return f"<p><code>{int(value):#010x}</code> {escape(type(value).__name__)}</p>{fields_html(value)}"


def fields_html(value: Any) -> str:
    if not value.fields:
        return ""
    rows = "".join(field_html(name, field, (value & field.mask) >> field.low) for name, field in value.fields.items())
    return f"<table><tr><th>bits</th><th>field</th><th>value</th><th {LEFT}>meaning</th></tr>{rows}</table>"


def field_html(name: str, field: Field, number: int) -> str:
    bits = f"{field.high}:{field.low}" if field.high != field.low else f"{field.low}"
    digits = f"{number:#x}" if field.max > 9 else f"{number}"
    meaning = ": ".join(filter(None, (field.meaning, field.values.get(number, ""))))
    shown = f"<b>{escape(name)}</b>" if number else escape(name)
    return f"<tr><td>{bits}</td><td {LEFT}>{shown}</td><td>{digits}</td><td {LEFT}>{escape(meaning)}</td></tr>"


def register_html(register: Any) -> str:
    """register: an Accessor. The register with its fields, unless a read would change the NIC."""
    row = register.row
    section = f", 82599 {row.section}" if row.section else ""
    title = f"<p><b>{escape(row.named(register.name))}</b> at {register.offset:#07x}{section}: {row.access.value}</p>"
    if not row.quiet:
        return f"{title}<p>Not shown, because a read would change the NIC, or cannot be done.</p>"
    value = register.read()
    return f"{title}<p><code>{int(value):#010x}</code></p>{fields_html(value)}"


def map_html(nic: Any) -> str:
    """nic: a RegisterMap. The registers that differ from their reset value, without those that a read changes."""
    nic.check_present("the NIC")
    rows = "".join(line for row in nic.rows() if row.quiet for line in lines_of(nic, row))
    return (
        "<p>Registers that differ from their reset value. Those that a read changes are left out; "
        "<code>nic.NAME</code> shows one with all its fields.</p>"
        f"<table><tr><th>offset</th><th {LEFT}>register</th><th>value</th><th {LEFT}>fields</th>"
        f"<th {LEFT}>section</th></tr>{rows}</table>"
    )


def lines_of(nic: Any, row: Any) -> Iterator[str]:
    differ = []
    for index in range(row.count):
        value = row.layout(nic.load(row.offset(index), row.label(index)))
        if value != row.reset_value(index):
            differ.append((index, value))
    for index, value in differ[:MOST_OF_AN_ARRAY]:
        yield (
            f'<tr><td>{row.offset(index):#07x}</td><td {LEFT} title="{escape(row.long_name)}">'
            f"{escape(row.label(index))}</td><td><code>{int(value):#010x}</code></td>"
            f"<td {LEFT}>{escape(value.describe())}</td><td {LEFT}>{escape(row.section)}</td></tr>"
        )
    if len(differ) > MOST_OF_AN_ARRAY:
        yield f"<tr><td></td><td {LEFT}>and {len(differ) - MOST_OF_AN_ARRAY} more of {escape(row.name)}</td></tr>"
