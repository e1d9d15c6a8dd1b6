"""A run that is shown in a browser (`check.py NN --glass`): the page of `ixrings glass`, on the checker's own NIC."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ixrings.driver.glass.looks import NicLook
from ixrings.driver.glass.server import served
from ixrings.driver.glass.shown import ShownNic

from .nic import WatchedNic

LIMIT_S = 3600.0  # for a script that may be paused and stepped


class ShownWatchedNic(ShownNic, WatchedNic):
    """The checker's NIC, with what the page shows."""


@contextmanager
def shown(nic: ShownWatchedNic, name: str, listen: tuple[str, int]) -> Iterator[None]:
    """Print the page's address and wait for a reader. Inside `with` the script runs."""
    look = NicLook(nic, name)
    look.program = "the script has not started yet"
    with served(look, listen) as (history, url):
        print(f"Open {url}\nThe script starts when the page is open.", file=sys.stderr, flush=True)
        history.opened.wait(LIMIT_S)
        look.program = "the script runs"
        try:
            yield
        finally:
            look.program = "the script has ended"
            history.end("the script has ended, and the terminal has the checker's answer")
