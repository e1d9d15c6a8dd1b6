"""A forked child has its parent's ports, but not the right to use them: both would move the same rings and registers.

multiprocessing forks by default up to Python 3.13. After each fork the child leaves every port that it inherited:
descriptors stay open until close() or garbage collection, and each use is refused.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from .errors import PortError

if TYPE_CHECKING:
    from .bringup import Session
    from .port import Port

OPENED: WeakSet[Port] = WeakSet()  # by this process
INHERITED: WeakKeyDictionary[Port, Session] = WeakKeyDictionary()  # from a parent


def watch(port: Port) -> None:
    """Leave this port in a forked child."""
    OPENED.add(port)


def forget(port: Port) -> None:
    """The port is closed: drop what a forked child inherited of it."""
    OPENED.discard(port)
    INHERITED.pop(port, None)


def inherited(port: Port) -> Session | None:
    """The parent's session of a port that this forked child inherited, else None."""
    return INHERITED.get(port)


def check_opened_here(port: Port) -> None:
    """Raises PortError for a port that this forked child inherited."""
    if port in INHERITED:
        raise PortError(sentence(port.name))


def sentence(name: str) -> str:
    return (
        f"port {name} was opened before a fork and belongs to the parent process. Open a port in this process, or start "
        'it without fork: multiprocessing.get_context("spawn"). To work on the parent\'s rings: '
        "ixrings.rings.attach(port.region.fd, port.if_offset)"
    )


def leave_ports() -> None:
    for port in list(OPENED):
        session = port.leave()
        if session is not None:
            session.leave(sentence(port.name))
            INHERITED[port] = session
    OPENED.clear()


os.register_at_fork(after_in_child=leave_ports)
