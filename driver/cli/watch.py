"""`--watch [SECONDS]`: the same again and again, until Ctrl-C."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable


def add_watch(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=interval,
        nargs="?",
        const=1.0,
        help=f"{text}, every SECONDS (default: 1) until Ctrl-C",
    )


def interval(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 3600:
        raise ValueError(text)
    return value


def repeat(interval_s: float, look: Callable[[], None]) -> None:
    """`look()` every `interval_s` seconds, without drift. Ctrl-C is how this is meant to end, so it is no error."""
    due = time.monotonic()
    try:
        while True:
            due = max(due + interval_s, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            look()
    except KeyboardInterrupt:
        return
