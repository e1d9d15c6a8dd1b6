"""DMA by messages: the NIC's accesses to memory that this process cannot map (remote.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64
from dataclasses import dataclass

from .library import Engine, FunctionEngine

LONGEST = 16384  # FRAME_MAX of frame.h: no request is longer


class Request(ctypes.Structure):
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
    """Requests are taken in order; each needs one answer."""

    def __init__(self, engine: Engine | FunctionEngine) -> None:
        self._engine = engine

    def fileno(self) -> int:
        """An eventfd of the NIC, readable when there are requests; -1 while all windows are mapped from files."""
        with self._engine.frozen():
            return self._engine.call("nic_remote_event")

    def take(self) -> Iterator[DmaRequest]:
        """The requests that are pending now."""
        request, data = Request(), ctypes.create_string_buffer(LONGEST)
        while self._next(request, data):
            yield DmaRequest(
                request.id, request.iova, request.length, data.raw[: request.length] if request.is_write else None
            )

    def _next(self, request: Request, data: ctypes.Array[ctypes.c_char]) -> bool:
        with self._engine.frozen():
            return bool(self._engine.call("nic_remote_next", ctypes.addressof(request), ctypes.addressof(data)))

    def close(self) -> None:
        """The peer that answered is gone. Call it after all windows are unmapped."""
        with self._engine.frozen():
            self._engine.call("nic_remote_close")

    def answer(self, id: int, data: bytes | None) -> None:
        """Answer request `id`: the bytes read, b"" for a completed write, None for a refused access, a DMA fault."""
        with self._engine.frozen():
            self._engine.call("nic_remote_answer", id, data is not None, data, len(data or b""))
