"""Circles in a graph of what uses what, for tests of the code's structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter


def circle(uses: Mapping[str, Iterable[str]]) -> list[str]:
    """One way from a name back to itself, on which each name uses the next; [] if there is none."""
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib puts what is used before its user
    return []
