"""The addresses a device may use under VFIO: one space for all functions of an IOMMU group, which the kernel gives to a process once."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ixrings.hw.errors import DeviceError
from ixrings.hw.memory.iova import IovaSpace
from ixrings.hw.pci.discovery import Function


class Space(Protocol):
    """A group's: made for the first of its functions that is opened, closed after the last."""

    members: set[str]  # addresses of the functions that are open
    node: Path  # the group's name in /dev/vfio

    @property
    def iova(self) -> IovaSpace | None: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=Space)


@dataclass
class Spaces(Generic[S]):
    """Those that this process has open, by node and process: what the kernel keeps once a process has to be kept so here."""

    _open: dict[tuple[int, Path], S] = field(default_factory=dict)
    _lock: threading.RLock = field(
        default_factory=threading.RLock
    )  # a collected device leaves from wherever its thread is

    def join(self, function: Function, node: Path, make: Callable[[], S]) -> S:
        """The space of `node`, made when there is none; `function` is a member of it until leave(). Raises DeviceError, OSError."""
        key = os.getpid(), node  # a forked child has its parent's table, and may not use it
        with self._lock:
            space = self._open.get(key)
            if space is None:
                space = self._open[key] = make()
            elif function.address in space.members:
                raise DeviceError(
                    f"{function.address} is open in this program already; close that port first, or use it"
                )
            space.members.add(function.address)
            return space

    def leave(self, space: S, function: Function) -> None:
        """The last to leave closes it."""
        with self._lock:
            space.members.discard(function.address)
            if not space.members:
                self._open.pop((os.getpid(), space.node), None)
                space.close()


class DeviceSpace(ABC, Generic[S]):
    """Owns a device's descriptor, and a share in its group's space. Raises DeviceError when it cannot be had."""

    device = -1

    def __init__(
        self, function: Function, root: Path, spaces: Spaces[S], node: Path, make: Callable[[], S], *, through: str
    ) -> None:
        self._function, self._root, self._spaces = function, root, spaces
        self._mapped: dict[int, int] = {}
        try:
            self._space = spaces.join(function, node, make)
            self._open_device()
        except OSError as error:
            self.close()
            raise DeviceError(
                f"{function.address} cannot be opened through {through}: {error.strerror}. Run: ixrings doctor {function.address}"
            ) from None
        except BaseException:
            self.close()
            raise

    @property
    def iova(self) -> IovaSpace | None:
        """The group's; None without an IOMMU."""
        return self._space.iova

    def map(self, address: int, iova: int, size: int) -> None:
        """Raises DmaError."""
        self._map(address, iova, size)
        self._mapped[iova] = size

    def unmap(self, iova: int, size: int) -> None:
        """Raises OSError."""
        self._unmap(iova, size)
        self._mapped.pop(iova, None)

    def close(self) -> None:
        """Device first: its last reference resets it (the kernel does that) while its memory is still mapped, which the space may outlive."""
        if self.device >= 0:
            os.close(self.device)
            self.device = -1
        if hasattr(self, "_space"):
            for iova, size in list(self._mapped.items()):
                with suppress(OSError):
                    self.unmap(iova, size)
                if self.iova is not None:
                    self.iova.give_back(iova)
            self._spaces.leave(self._space, self._function)
            del self._space

    @abstractmethod
    def _open_device(self) -> None:
        """Sets `device`."""

    @abstractmethod
    def _map(self, address: int, iova: int, size: int) -> None: ...

    @abstractmethod
    def _unmap(self, iova: int, size: int) -> None: ...
