"""A case for each rule of hw/emulator/rules, with the same file name and the same name: steps that keep or break it.

A case is a function `NAME(nic, wrong)`. It gets a NIC with only bus master on, and breaks rule NAME when `wrong`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module

from ixrings.hw.emulator.rules.book import CHAPTERS
from tests.support.by_hand import ByHand

Case = Callable[[ByHand, bool], None]


def cases() -> dict[str, Case]:
    """The cases of all chapters by name; other functions of their files are steps of cases."""
    found: dict[str, Case] = {}
    for chapter in CHAPTERS:
        module = import_module(f"{__name__}.{chapter.__name__.rpartition('.')[2]}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if list(inspect.signature(function).parameters) == ["nic", "wrong"]:
                found[name] = function
    return found
