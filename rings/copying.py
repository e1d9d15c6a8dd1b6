"""Bytes of a batch of frames in and out of numpy arrays, by one C call: a port's read(), write() and add().

headers = port.read(span, IPV4, offset=14)     # an array of structures, one for each frame
port.write(span, b"\xff" * 6)                  # the same bytes into each frame
port.add(span, -1, offset=22)                  # one less in a byte of each frame
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from operator import index
from typing import Any, Protocol, TypeAlias, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from .errors import RingError
from .layout import RESERVED_BUFFERS
from .library import another_version, load
from .ring import Span
from .rules import Rule

Row = TypeVar("Row", bound=np.generic)

NOT_IN_A_BUFFER = -1  # the result of the same name in hotloop.h; every other below zero is NOT_OWNED
INTEGERS = (int, np.integer)
BYTES = ctypes.c_char * 1  # as an argument for C: their address
KEPT = 8  # arrays whose address is kept, because finding it takes as long as copying 64 frames
KEPT_BYTES = 1 << 16  # of one such array at most: it stays in memory as long as its port


Array: TypeAlias = "tuple[object, int, int, object, npt.NDArray[Any]]"
"""An array as C needs it: what read() was asked for, rows, bytes of a row, address, and the array itself."""
Rows: TypeAlias = "npt.NDArray[Any] | bytes | bytearray | memoryview | np.generic"
Call: TypeAlias = Callable[..., int]


class Read(Protocol):
    """The type of port.read: Copier.read with the dtype of its result."""

    @overload
    def __call__(self, span: Span, length: int, offset: int = 0) -> npt.NDArray[np.uint8]: ...
    @overload
    def __call__(self, span: Span, length: int, offset: int = 0, *, into: npt.NDArray[Row]) -> npt.NDArray[Row]: ...
    @overload
    def __call__(
        self, span: Span, length: np.dtype[Row] | type[Row], offset: int = 0, *, into: npt.NDArray[Row] | None = None
    ) -> npt.NDArray[Row]: ...
    @overload
    def __call__(
        self, span: Span, length: str, offset: int = 0, *, into: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]: ...


class Write(Protocol):
    """The type of port.write."""

    def __call__(self, span: Span, frames: Rows, offset: int = 0) -> None: ...


class Add(Protocol):
    """The type of port.add."""

    def __call__(self, span: Span, amount: int, offset: int, length: int = 1) -> None: ...


class Copier:
    """Copies between arrays and the buffers of one interface's rings."""

    __slots__ = ("_add", "_buffers", "_intos", "_read", "_rows", "_size", "_write")

    def __init__(self, buffers: npt.NDArray[np.uint8]) -> None:
        self._buffers = buffers  # the rings of this interface have the same array
        self._size = int(buffers.shape[1])
        self._intos: dict[int, Array] = {}  # arrays to read into, by id()
        self._rows: dict[int, Array] = {}  # arrays to write
        functions = load()
        try:
            self._read: Call = functions.read_frames
            self._write: Call = functions.write_frames
            self._add: Call = functions.add_to_frames
        except AttributeError:
            raise another_version() from None

    # ---- the calls ----

    def read(
        self, span: Span, length: int | npt.DTypeLike, offset: int = 0, *, into: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """Copy the same bytes of each frame of a span into an array, a row for each frame.

        span: from `ring.reserve()`, before `ring.advance()`. length: bytes, and the result has dtype uint8 and shape
        (len(span), length); or a dtype, such as IPV4 or ">u2", and the result has this dtype and shape (len(span),).
        offset: of the first byte in the frame. into: a C-contiguous array with at least len(span) rows of that many
        bytes, or of that dtype. Its first rows are filled and returned, and nothing is allocated. Bytes after the end
        of a frame are what its buffer had before. A frame of several slots gives a row for each slot.

        Raises ValueError or TypeError for arguments that do not fit, ValueError for a span that the program gave
        back or that is of another port, and RingError when a slot's buf_idx is not a buffer of the region.
        """
        try:
            ring, start = span.ring, span.start
            count = span.stop - start
            if ring.buffers is not self._buffers:
                raise self._not_ours(span)
        except AttributeError:
            raise self._not_ours(span) from None
        if into is None:
            array = self._new(count, length, offset)
        else:
            known = self._intos.get(id(into))
            array = known if known and known[0] == length else keep(self._intos, self._look_at(into, length))
        _, rows, size, address, into = array
        if count > rows:
            raise ValueError(
                f"the span has {count} slots and `into` {rows} rows; make it larger, or reserve({rows}) slots"
            )
        try:
            if not 0 <= offset <= self._size:
                raise self._not_inside(offset, size)
            result = self._read(ring.place, start, count, offset, size, address)
        except (TypeError, ctypes.ArgumentError):
            raise no_offset(offset) from None
        if result:
            raise self._refusal(result, span, offset, size)
        return into if count == rows else into[:count]

    def write(self, span: Span, frames: Rows, offset: int = 0) -> None:
        """Copy rows of an array into the same bytes of each frame of a span: the reverse of read().

        frames: an array with a row for each slot, of any dtype, such as shape (len(span), length) of uint8 or shape
        (len(span),) of IPV4. A single row, or bytes, goes into every frame. offset: of the first byte in the frame.
        The slots' `len` and `flags` stay as they are: set `span.len` for frames to send. Raises as read() does; after a
        RingError the frames before its slot are written.
        """
        try:
            ring, start = span.ring, span.start
            count = span.stop - start
            if ring.buffers is not self._buffers:
                raise self._not_ours(span)
        except AttributeError:
            raise self._not_ours(span) from None
        _, rows, size, address, _ = self._rows.get(id(frames)) or self._look_at_rows(frames)
        if rows == 1:
            stride = 0
        elif rows == count:
            stride = size
        else:
            advice = f"give frames[:{count}]" if rows > count else f"reserve({rows}) slots"
            raise ValueError(f"the span has {count} slots and the array {rows} rows; {advice}, or give one row for all")
        try:
            if not 0 <= offset <= self._size:
                raise self._not_inside(offset, size)
            result = self._write(ring.place, start, count, offset, size, address, stride)
        except (TypeError, ctypes.ArgumentError):
            raise no_offset(offset) from None
        if result:
            raise self._refusal(result, span, offset, size)

    def add(self, span: Span, amount: int, offset: int, length: int = 1) -> None:
        """Add `amount` to the big-endian number of `length` bytes (1, 2 or 4) in each frame of a span.

        A result that does not fit loses its upper bits: -1 in a byte that is 0 gives 255. offset: of the first byte in
        the frame. One call takes less time than a read() and a write(). Raises as write() does.
        """
        try:
            ring, start = span.ring, span.start
            if ring.buffers is not self._buffers:
                raise self._not_ours(span)
            count = span.stop - start
        except AttributeError:
            raise self._not_ours(span) from None
        if length not in (1, 2, 4):
            raise ValueError(f"the length is {length!r}; choose 1, 2 or 4 bytes")
        try:
            if not 0 <= offset <= self._size:
                raise self._not_inside(offset, length)
            result = self._add(ring.place, start, count, offset, length, index(amount))
        except (TypeError, ctypes.ArgumentError):
            raise TypeError(f"add() takes an amount and an offset as int, not {amount!r} and {offset!r}") from None
        if result:
            raise self._refusal(result, span, offset, length)

    # ---- arrays ----

    def _new(self, count: int, length: int | npt.DTypeLike, offset: int) -> Array:
        dtype, size = row_of(length)
        try:
            if not 0 <= offset <= self._size - size:
                raise self._not_inside(offset, size)
        except TypeError:
            raise no_offset(offset) from None
        array = np.empty((count, size), np.uint8) if dtype is None else np.empty(count, dtype)
        return length, count, size, address_of(array), array

    def _look_at(self, into: npt.NDArray[Any], length: int | npt.DTypeLike) -> Array:
        """Check the array, and find its address."""
        dtype, size = row_of(length)
        if not isinstance(into, np.ndarray):
            raise TypeError(f"`into` is of type {type(into).__name__}; give an array, such as {example(dtype, size)}")
        check_plain("into", into)
        if not into.flags.writeable:
            raise ValueError("`into` is read-only; give a copy of it, into.copy()")
        fits = row_bytes(into) == size if dtype is None else into.dtype == dtype and into.ndim == 1
        if not fits:
            raise ValueError(
                f"`into` has dtype {into.dtype} and shape {into.shape}; give an array such as {example(dtype, size)}"
            )
        return length, len(into), size, address_of(into), into

    def _look_at_rows(self, frames: Rows) -> Array:
        """Check the rows, and find their address."""
        if isinstance(frames, np.ndarray) and frames.ndim:
            check_plain("frames", frames)
            return keep(self._rows, (None, len(frames), row_bytes(frames), address_of(frames), frames))
        if not isinstance(frames, bytes | bytearray | memoryview | np.ndarray | np.generic):
            raise TypeError(
                f"write() takes an array with a row for each frame, or bytes for all of them, not "
                f"{type(frames).__name__}; for one byte write bytes([5]), for a header header.tobytes()"
            )
        row = frames.tobytes() if isinstance(frames, np.ndarray | np.generic) else bytes(frames)
        return None, 1, len(row), row, self._buffers

    # ---- errors ----

    def _refusal(self, result: int, span: Span, offset: int, length: int) -> Exception:
        """The error for the result of a call."""
        ring = span.ring
        if result == NOT_IN_A_BUFFER:
            return self._not_inside(offset, length)
        if result < 0:
            ring.owned()  # raises an error if the indices themselves are the reason
            return ValueError(f"{span!r} is not the program's any more; use a span before ring.advance() moves past it")
        low, high = RESERVED_BUFFERS, len(self._buffers) - 1
        return RingError(Rule.BUF_IDX, ring.name, slot=result - 1, value=ring.refused, low=low, high=high)

    def _not_inside(self, offset: int, length: int) -> ValueError:
        return ValueError(
            f"bytes {offset}..{offset + length - 1} are not inside a buffer, which has bytes 0..{self._size - 1}; "
            "choose a smaller offset or length, or open the port with a larger buf_size"
        )

    def _not_ours(self, span: object) -> Exception:
        """The error for an argument that is not a span of this interface's rings."""
        if isinstance(span, Span):
            return ValueError(f"{span!r} is of another port; give it to that port")
        return TypeError(f"the first argument is a span, not {type(span).__name__}; take one by ring.reserve(256)")


def no_offset(offset: object) -> TypeError:
    return TypeError(f"the offset is {offset!r}; give the number of bytes before, as an int")


def keep(arrays: dict[int, Array], array: Array) -> Array:
    """Keep the array's address for the next call. A part of another array is not kept: programs make new ones."""
    kept = array[-1]
    if kept.base is None and 0 < kept.nbytes <= KEPT_BYTES:
        if len(arrays) >= KEPT:
            arrays.clear()
        arrays[id(kept)] = array  # the id stays this array's as long as it is kept
    return array


def row_of(length: int | npt.DTypeLike) -> tuple[np.dtype[Any] | None, int]:
    """The dtype of a row, None for plain bytes, and a row's bytes. Raises TypeError."""
    if isinstance(length, INTEGERS):
        if length < 1:
            raise ValueError(f"the length is {length}; choose 1 byte or more")
        return None, int(length)
    try:
        dtype = np.dtype(length)
    except TypeError:
        raise TypeError(
            f"read() takes a number of bytes or a dtype, not {length!r}; for a header: from ixrings import IPV4"
        ) from None
    if dtype.hasobject or length is None:
        raise TypeError(f"read() takes a number of bytes or a dtype of plain bytes, not {length!r}")
    return dtype, dtype.itemsize


def row_bytes(array: npt.NDArray[Any]) -> int:
    """Bytes of a row: of one element of the first axis."""
    return array.nbytes // len(array) if len(array) else array.itemsize


def check_plain(name: str, array: npt.NDArray[Any]) -> None:
    """Raise ValueError or TypeError for an array that is not rows of bytes, one after the other."""
    if array.dtype.hasobject:
        raise TypeError(f"`{name}` has dtype {array.dtype}: Python objects, not bytes")
    if not array.ndim:
        raise ValueError(f"`{name}` is a single value; give an array with a row for each frame")
    if not array.flags.c_contiguous:
        raise ValueError(f"the rows of `{name}` are not one after the other; make a copy: {name}.copy()")


def example(dtype: np.dtype[Any] | None, size: int) -> str:
    return f"np.empty((256, {size}), np.uint8)" if dtype is None else f"np.empty(256, {dtype.descr})"


def address_of(array: npt.NDArray[Any]) -> object:
    """The array's address as an argument for C. It keeps the array."""
    if not array.nbytes:
        return b""
    if array.flags.writeable:
        try:
            return BYTES.from_buffer(cast(Any, array))
        except (BufferError, ValueError):  # a dtype without a buffer format, such as datetime64
            return BYTES.from_buffer(array.reshape(-1).view(np.uint8).data)
    return ctypes.c_void_p(array.ctypes.data)  # the caller keeps the array
