"""Private memory is made and closed in the main thread: meanwhile the service's thread serves programs.

Zeroing the memory of a port takes long. So a request that needs some is given up at first, the main thread makes the
memory, and the request is carried out again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ixrings.rings import Region

from . import memory

T = TypeVar("T")
MOST_TURNS = 4


@dataclass(frozen=True)
class Wanted:
    """Memory that a request needs. name: the port's, for errors; a monitor gets a new one at each turn."""

    name: str = field(compare=False)
    needs: memory.Needs
    buf_size: int

    def make(self) -> Region:
        """Raises Refused(ENOMEM)."""
        return memory.private_region(self.name, self.needs, self.buf_size)


class NotReady(Exception):
    """The memory has to be made before the request can be carried out. It has changed nothing yet."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(wanted.name)
        self.wanted = wanted


class Spare:
    """Regions that are ready for the request that is carried out now, and those that nobody has any more."""

    def __init__(self) -> None:
        self._ready: list[tuple[Wanted, Region]] = []
        self._old: list[Region] = []

    def take(self, wanted: Wanted, acting: int | None) -> Region:
        """In the service's thread: a region for a request. Raises NotReady, Refused(ENOMEM)."""
        for each in self._ready:
            if each[0] == wanted:
                self._ready.remove(each)
                return each[1]
        if acting is None:  # the daemon's own work is not carried out again
            return wanted.make()
        raise NotReady(wanted)

    def drop(self, region: Region) -> None:
        """In the service's thread: nobody has the region any more."""
        self._old.append(region)

    def kept_ready(self, request: Callable[[], T]) -> T:
        """In the main thread: carry out a request that may need memory. Raises what it raises, Refused(ENOMEM)."""
        try:
            for _ in range(MOST_TURNS):
                try:
                    return request()
                except NotReady as error:
                    self._ready.append((error.wanted, error.wanted.make()))
            return request()
        finally:
            self.close()

    def close(self) -> None:
        """In the main thread: close what nobody has, and what was made in vain."""
        while self._old:
            self._old.pop().close()
        while self._ready:
            self._ready.pop()[1].close()
