"""How close() waits for other threads: none of them is inside a call that uses what close() takes away.

Only calls that are rare or wait anyway enter the gate: reading counters, sleeping, arming vectors. A sync does not: C
refuses it once its queue is closed (rings/queue.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .errors import PortClosed

LEAVE_S = 10.0  # a thread inside looks at the gate once a second or more often


class Gate:
    """A context manager for any number of threads; one thread may enter several times."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Its lock is reentrant: a signal handler may close the port in the middle of an enter.
        self._changed = threading.Condition()
        self._inside: list[int] = []  # for each entry, its thread
        self._closed = False

    def check(self) -> None:
        """Raises PortClosed when the port is closed, or another thread closes it now."""
        if self._closed:
            raise PortClosed(closed(self._name))

    def __enter__(self) -> None:
        with self._changed:
            self.check()
            self._inside.append(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside.remove(threading.get_ident())
            if self._closed:
                self._changed.notify_all()

    def close(self, wake: Callable[[], None]) -> None:
        """Let nobody in any more, and wait until all other threads have left. wake: ends their sleeps.

        The caller's own entries do not count: a signal handler may close the port while its thread waits.
        """
        own = threading.get_ident()
        with self._changed:
            self._closed = True
            wake()
            self._changed.wait_for(lambda: all(thread == own for thread in self._inside), LEAVE_S)


def closed(name: str) -> str:
    """The sentence for a port that is closed."""
    return f"port {name} is closed; open it again with open_port({name!r})"
