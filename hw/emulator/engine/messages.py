"""DMA by messages: what the NIC wants to read and write in memory whose owner gave no file of it (remote.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64
from dataclasses import dataclass

from .library import Engine

LONGEST = 16384  # FRAME_MAX of nic.h: no request is longer


class _Request(ctypes.Structure):
    """`struct remote_request` of remote.c."""

    _fields_ = [("iova", c_uint64), ("id", c_uint32), ("length", c_uint32), ("is_write", c_uint32)]


@dataclass(frozen=True)
class DmaRequest:
    """Read `length` bytes at `iova`, or write `data` there; `id` goes with the answer."""

    id: int
    iova: int
    length: int
    data: bytes | None


class DmaMessages:
    """Requests are taken in order; each wants one answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def fileno(self) -> int:
        """An eventfd, the NIC's own, readable when there are requests; -1 while all memory has files."""
        return self._engine.call("nic_remote_event")

    def take(self) -> Iterator[DmaRequest]:
        """The requests there are now."""
        request, data = _Request(), ctypes.create_string_buffer(LONGEST)
        while self._next(request, data):
            yield DmaRequest(
                request.id, request.iova, request.length, data.raw[: request.length] if request.is_write else None
            )

    def _next(self, request: _Request, data: ctypes.Array[ctypes.c_char]) -> bool:
        with self._engine.frozen():
            return bool(self._engine.call("nic_remote_next", ctypes.addressof(request), ctypes.addressof(data)))

    def close(self) -> None:
        """Whoever answered is gone; after all windows are."""
        with self._engine.frozen():
            self._engine.call("nic_remote_close")

    def answer(self, id: int, data: bytes | None) -> None:
        """What was read, b"" for a write that was done, None for what was refused: a DMA fault."""
        with self._engine.frozen():
            self._engine.call("nic_remote_answer", id, data is not None, data, len(data or b""))
