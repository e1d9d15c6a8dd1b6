"""A forked child has its parent's ports, but may not use them: both would move the same rings and registers.

multiprocessing forks by default up to Python 3.13. Directly after a fork, the child leaves every port that its parent
had open. From then on each use is refused.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class OpenPort(Protocol):
    """What this module needs of a Port."""

    name: str

    @property
    def closed(self) -> bool: ...

    def leave(self, sentence: str) -> None:
        """The port belongs to the parent: release nothing of it, and refuse each use with this sentence."""


OPEN: WeakSet[OpenPort] = WeakSet()  # the ports of this process


def sentence(name: str) -> str:
    return (
        f"port {name} was opened before a fork and belongs to the parent process. Open a port in this process, or "
        'start it without fork: multiprocessing.get_context("spawn"). To work on the parent\'s rings: '
        "ixrings.rings.attach(port.region.fd, port.if_offset)"
    )


def leave_ports() -> None:
    for port in list(OPEN):
        port.leave(sentence(port.name))
    OPEN.clear()


os.register_at_fork(after_in_child=leave_ports)
