"""The interrupt messages of the software 82599: an eventfd for each MSI-X vector, or one for INTx."""

from __future__ import annotations

import os
from collections.abc import Container

from .engine.library import Engine, FunctionEngine
from .faults import Fault


class Vectors:
    """The eventfds of one NIC, which it owns and closes. injected: while it has Fault.INTERRUPT, messages are lost."""

    def __init__(self, engine: Engine | FunctionEngine, injected: Container[Fault]) -> None:
        self.eventfds: dict[int, int] = {}  # by vector; only vectors that have one
        self._engine = engine
        self._injected = injected

    def create(self, vectors: int) -> None:
        """An eventfd for each of the first `vectors` vectors, which have none."""
        for vector in range(vectors):
            # One statement: an exception between two of them would lose the descriptor.
            self.eventfds[vector] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.reconnect()

    def connect(self, vector: int, fd: int) -> None:
        """Messages of `vector` go to eventfd `fd`; -1: they go nowhere. The previous eventfd is closed."""
        with self._engine.frozen():
            self._set(vector, fd)
        previous = self.eventfds.pop(vector, -1)
        if fd >= 0:
            self.eventfds[vector] = fd
        if previous >= 0:
            os.close(previous)

    def disconnect_all(self) -> None:
        for vector in list(self.eventfds):
            self.connect(vector, -1)

    def release(self) -> None:
        """Close the eventfds. The engine must not signal them any more."""
        while self.eventfds:
            os.close(self.eventfds.popitem()[1])

    def reconnect(self) -> None:
        """Pass the eventfds to the engine: new ones, or all after Fault.INTERRUPT was injected or mended."""
        with self._engine.frozen():
            for vector, fd in self.eventfds.items():
                self._set(vector, fd)

    def use_line(self, on: bool) -> None:
        """Make vector 0 INTx, or (False) a message."""
        with self._engine.frozen():
            self._engine.call("nic_set_line", on)

    def _set(self, vector: int, fd: int) -> None:
        self._engine.call("nic_set_eventfd", vector, -1 if Fault.INTERRUPT in self._injected else fd)
