"""`--watch [SECONDS]`: repeat a command's output until Ctrl-C."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from ..arguments import number


def add_watch(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the option. text: what is repeated, for the help."""
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=number(0.01, 3600),
        nargs="?",
        const=1.0,
        help=f"{text}, every SECONDS (default: 1) until Ctrl-C",
    )


def repeat(interval_s: float, look: Callable[[], None], wait: Callable[[float], None] = time.sleep) -> None:
    """Call `look()` every `interval_s` seconds without drift, and `wait(seconds)` between. Ctrl-C is the normal end."""
    due = time.monotonic()
    try:
        while True:
            due = max(due + interval_s, time.monotonic())
            wait(max(0.0, due - time.monotonic()))
            look()
    except KeyboardInterrupt:
        return
