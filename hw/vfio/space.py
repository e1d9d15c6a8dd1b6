"""Address spaces of VFIO: all functions of an IOMMU group share one, and a process can open it only once."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..errors import DeviceError
from ..memory.iova import IovaSpace
from ..pci.discovery import Function


class Space(Protocol):
    """The address space of a group: created for the first open function, closed after the last."""

    members: set[str]  # PCI addresses of the open functions
    node: Path  # the group's file in /dev/vfio

    @property
    def iova(self) -> IovaSpace | None: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=Space)


@dataclass
class Spaces(Generic[S]):
    """Table of the spaces that this process has open."""

    _open: dict[tuple[int, Path], S] = field(default_factory=dict)
    # Reentrant: garbage collection may close a device inside join().
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Another thread of the parent may have held the lock when this child was forked."""
        self._lock = threading.RLock()

    def join(self, function: Function, node: Path, make: Callable[[], S]) -> S:
        """The space of `node`, created with `make` if there is none. `function` is a member until leave().

        Raises DeviceError, OSError.
        """
        key = os.getpid(), node  # a forked child has a copy of its parent's table, and must not use its entries
        with self._lock:
            space = self._open.get(key)
            if space is None:
                space = self._open[key] = make()
            elif function.address in space.members:
                raise DeviceError(
                    f"{function.address} is already open in this program; close that port first, or use it"
                )
            space.members.add(function.address)
            return space

    def leave(self, space: S, function: Function) -> None:
        """Remove a member. The last member closes the space."""
        with self._lock:
            space.members.discard(function.address)
            if not space.members:
                self._open.pop((os.getpid(), space.node), None)
                space.close()


class DeviceSpace(ABC, Generic[S]):
    """Owns the descriptor of a device, which is a member of its group's space. Raises DeviceError."""

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
                f"{function.address} cannot be opened through {through}: {error.strerror}. "
                f"Run: ixrings doctor {function.address}"
            ) from None
        except BaseException:
            self.close()
            raise

    @property
    def iova(self) -> IovaSpace | None:
        """Addresses of the group; None without an IOMMU."""
        return self._space.iova

    def map(self, address: int, iova: int, size: int) -> None:
        """Map memory of this process at `iova`. Raises DmaError."""
        self._map(address, iova, size)
        self._mapped[iova] = size

    def unmap(self, iova: int, size: int) -> None:
        """Undo map(). Raises OSError."""
        self._unmap(iova, size)
        self._mapped.pop(iova, None)

    def close(self) -> None:
        """Close the device first: the kernel then resets it while its memory is still mapped.

        Then unmap the memory that is still mapped for the device, because another function may keep the space open.
        """
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
        """Open the device and set `device`."""

    @abstractmethod
    def _map(self, address: int, iova: int, size: int) -> None: ...

    @abstractmethod
    def _unmap(self, iova: int, size: int) -> None: ...
