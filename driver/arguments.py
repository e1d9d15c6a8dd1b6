"""Types of command-line arguments, with their ranges. All programs use them, so all refuse a value in the same words.

Each is for argparse: `parser.add_argument("-b", type=BATCH)`. It raises argparse.ArgumentTypeError.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

from ixrings.hw.registers import QUEUES

from .config import MAX_MTU, MIN_MTU

T = TypeVar("T")

MANY = 2**53  # frames; a float counts exactly up to here


def checked(read: Callable[[str], T]) -> Callable[[str], T]:
    """`read` as a type whose ValueError keeps its sentence. argparse would replace it by the function's name."""

    def argument(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return argument


def whole(least: int, most: int = MANY, *, multiple: int = 1) -> Callable[[str], int]:
    """A whole number in least..most, a multiple of `multiple`."""
    what = "a whole number" if multiple == 1 else f"a multiple of {multiple}"
    span = f"of {least} or more" if most == MANY else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most or value % multiple:
            raise ValueError(f"{text!r} is refused; choose {what} {span}")
        return value

    return checked(read)


def number(least: float, most: float, *, or_zero: bool = False) -> Callable[[str], float]:
    """A number in least..most, or 0 with `or_zero`. Infinity and NaN are refused."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most and not (or_zero and value == 0):
            raise ValueError(
                f"{text!r} is refused; choose {'0, or ' * or_zero}a number from {least:.10g} to {most:.10g}"
            )
        return value

    return checked(read)


COUNT = whole(0)  # frames; 0 means without end
BATCH = whole(1, 8192)  # frames; a ring has at most 8192 slots
SLOTS = whole(64, 8192, multiple=8)
NUMBER_OF_QUEUES = whole(1, QUEUES)
MTU = whole(MIN_MTU, MAX_MTU)
RATE = number(1e-3, 1e9, or_zero=True)  # frames a second; 0 means without pacing
SECONDS = number(0.01, 1e6)
SECONDS_OR_NONE = number(1e-3, 1e6, or_zero=True)  # 0 means not to wait
