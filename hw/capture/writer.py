"""Write capture files: pcap or pcapng, compressed by gzip or not, with nanosecond timestamps. Link type Ethernet."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError
from ..output import open_output
from .compressed import compressed
from .frames import CAPTURE, MAX_FRAME, NS
from .records import Counts, Origin, PcapngRecords, PcapRecords, size_of

Path: TypeAlias = str | os.PathLike[str]
FrameBytes: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]
Format: TypeAlias = Literal["pcap", "pcapng"]

# Bytes: the longest record. A larger buffer would leave the cache before the kernel copies it.
WRITE_BUFFER = MAX_FRAME + 32
STREAM_BUFFER = WRITE_BUFFER + 4096  # gzip makes what it cannot compress a little longer


def format_of(target: Path | BinaryIO) -> tuple[Format, bool]:
    """What a file of this name has in it, and whether gzip compresses it: x.pcap, x.pcapng, x.pcap.gz, x.pcapng.gz."""
    name = os.fspath(target) if isinstance(target, (str, os.PathLike)) else ""
    found = re.search(r"(\.pcapng)?(\.gz)?$", name)
    return "pcapng" if found and found[1] else "pcap", bool(found and found[2])


class CaptureWriter:
    """Writes captured frames to a file.

    target: a path, "-" for standard output, or an open binary file (which close() flushes but does not close).
    snaplen: the most bytes kept of a frame, 1..262144. format, gzip: by default what the name's end says (format_of()).
    origin, counts: what a pcapng file tells about its frames, and at its end. counts is called by close().
    Complete records are buffered, up to 256 KiB; see flush(). After an error or Ctrl-C a regular file still ends with a
    complete record, also a compressed one. Raises CaptureError with the reason and the number of saved frames.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        snaplen: int = 65535,
        *,
        format: Format | None = None,
        gzip: bool | None = None,
        origin: Origin | None = None,
        counts: Callable[[], Counts] = Counts,
    ) -> None:
        if not 0 < snaplen <= MAX_FRAME:
            raise ValueError(f"snaplen is {snaplen}; it must be 1..{MAX_FRAME}")
        by_name = format_of(target)
        self._records = PcapngRecords(origin) if (format or by_name[0]) == "pcapng" else PcapRecords()
        self._gzip = by_name[1] if gzip is None else gzip
        self._counts, self._start_ns = counts, time.time_ns()
        self.snaplen = snaplen
        self.frames = 0
        self._buffer = bytearray(WRITE_BUFFER)
        self._bytes = np.frombuffer(self._buffer, np.uint8)
        self._used = 0
        self._before = 0  # bytes of the records written before those in the buffer
        self._saved_frames = 0
        self._file, self._mine, self._name = open_target(target)
        self._open = True
        # None: a stream, whose buffer keeps what Ctrl-C has left unwritten
        self._position = None if not self._mine or isinstance(self._file, io.BufferedWriter) else 0
        try:
            self._append(self._records.begin(snaplen))
            self.flush()  # from now on the file is a valid capture
        except BaseException:
            self._give_up()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file, with what is still buffered, before gzip compresses them."""
        return self._before + self._used

    def sizes_of(self, lengths: npt.NDArray[np.integer], stride: int) -> npt.NDArray[np.int64]:
        """Bytes that write_batch() adds to the file for each of these frames."""
        captured = np.minimum(lengths.astype(np.int64), min(self.snaplen, stride))
        return np.asarray(size_of(self._records, captured))

    def write(self, frame: FrameBytes, time_ns: int, wire_length: int | None = None, comment: str = "") -> None:
        """Write one frame. wire_length: its length on the wire, if `frame` is only a part of it. comment: in pcapng.

        Raises CaptureError, ValueError for a value that does not fit a record.
        """
        data = memoryview(frame.tobytes()) if isinstance(frame, np.ndarray) else memoryview(frame)
        length = data.nbytes
        wire = max(length, wire_length or 0)
        self._check_open()
        if not length or wire >= 2**32 or not 0 <= time_ns < 2**32 * NS:
            raise ValueError(
                f"frame of {length} bytes at {time_ns} ns: a record has at least 1 byte and a time from 1970 to 2106"
            )
        record = self._records.record(data.cast("B")[: self.snaplen], wire, time_ns, comment)
        if len(record) > WRITE_BUFFER:
            raise ValueError(f"a comment of {len(comment)} characters does not fit beside a frame of {length} bytes")
        if self._used + len(record) > WRITE_BUFFER:
            self.flush()
        self._buffer[self._used : self._used + len(record)] = record
        self._used += len(record)  # no call between this and the next line, so Ctrl-C cannot come between them
        self.frames += 1

    def _append(self, data: bytes) -> None:
        """Put what is not a frame into the buffer."""
        if self._used + len(data) > WRITE_BUFFER:
            self.flush()
        self._buffer[self._used : self._used + len(data)] = data
        self._used += len(data)

    def write_batch(
        self,
        frames: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.integer],
        times_ns: npt.NDArray[np.integer] | int,
        rows: npt.NDArray[np.integer] | None = None,
    ) -> None:
        """Write many frames: frames uint8 (n, stride), lengths (n,) bytes on the wire, times_ns (n,) or one for all.

        rows: row of each frame in `frames`, which may then have more rows, such as the buffers of a port. Only the
        first `stride` bytes of a longer frame are kept. If shapes differ or a value does not fit, raises ValueError and
        writes nothing.
        """
        self._check_open()
        # Copies, because the arrays may be shared memory: check the same values that are used.
        lengths, rows = lengths.astype(np.int64), None if rows is None else rows.copy()
        check_batch(frames, lengths, times_ns, rows)
        if not len(lengths):
            return
        captured = np.minimum(lengths, min(self.snaplen, frames.shape[1]))
        longest = int(captured.max())
        equal = int(captured.min()) == longest
        headers = self._records.headers(times_ns, captured, lengths)
        # One item per row, so that numpy copies each row in one piece.
        whole = np.ascontiguousarray(frames[:, :longest]) if frames.strides[1] != 1 else frames[:, :longest]
        items = whole.view(f"V{longest}")[:, 0]
        rest = self._records.rest(longest)
        record = np.dtype(
            [("header", headers.dtype), ("frame", items.dtype), *([("rest", f"V{len(rest)}")] if rest else [])]
        )
        done = 0
        while done < len(lengths):
            room = (WRITE_BUFFER - self._used) // record.itemsize
            if not room:
                self.flush()
                continue
            part = slice(done, min(done + room, len(lengths)))
            count = part.stop - done
            records = np.ndarray((count,), record, self._buffer, self._used)
            records["header"] = headers if len(headers) == 1 else headers[part]
            records["frame"] = items[part] if rows is None else items[rows[part]]
            if rest:
                records["rest"] = np.void(rest)
            self._used += count * record.itemsize if equal else self._close_gaps(count, record.itemsize, captured[part])
            self.frames += count
            done += count

    def _close_gaps(self, count: int, stride: int, captured: npt.NDArray[np.integer]) -> int:
        """Pack records that were written `stride` bytes apart, by a mask. Returns their total size in bytes."""
        align = self._records.align
        area = self._bytes[self._used : self._used + count * stride].reshape(count, stride)
        self._records.finish(area, captured)
        units = area.view(f"u{align}")
        sizes = np.asarray(size_of(self._records, captured)) // align
        packed = units[np.arange(stride // align, dtype=np.uint32) < sizes[:, None]].view(np.uint8)
        self._bytes[self._used : self._used + len(packed)] = packed
        return len(packed)

    def flush(self) -> None:
        """Write the buffered records. Raises CaptureError if that fails or the writer is closed."""
        self._check_open()
        try:
            self._write_out()
        except (OSError, ValueError) as error:  # ValueError: a file object that its owner closed
            reason = getattr(error, "strerror", None) or error
            raise CaptureError(
                f"{self._name} cannot be written: {reason}; {self._saved_frames} frames are in it"
            ) from error

    def _check_open(self) -> None:
        if not self._open:
            raise CaptureError(f"{self._name} is closed; {self._saved_frames} frames are in it")

    def _write_out(self) -> None:
        """Write the buffer and update the counts.

        The last assignments have no call between them, so Ctrl-C cannot come between them.
        """
        used, position, before = self._used, self._position, self._before
        with memoryview(self._buffer) as whole, whole[:used] as gathered:
            data = memoryview(compressed(gathered)) if self._gzip and used else gathered
            if position is None and self._mine:
                self._write_stream(data)
            elif position is None:
                write_all(self._file, data)
                self._file.flush()
            else:
                self._write_at(position, data)
                position += len(data)
        self._position, self._used, self._before, self._saved_frames = position, 0, before + used, self.frames

    def _write_stream(self, gathered: memoryview) -> None:
        """Write to a pipe. After Ctrl-C the next call writes the rest: no byte is lost, and none is written twice."""
        self._file.flush()  # the rest of an earlier call; then the file's buffer has room for all of `gathered`
        write = self._file.write
        self._used = 0  # before the copy: no signal is handled between these two lines
        write(gathered)
        self._file.flush()

    def _write_at(self, position: int, gathered: memoryview) -> None:
        try:
            self._file.seek(position)
            write_all(self._file, gathered)
        except BaseException:
            with suppress(OSError):  # the exception in flight is the more useful one
                self._file.truncate(position)
            raise

    def close(self) -> None:
        """Write the rest, and close the file if this writer opened it. Idempotent."""
        if not self._open:
            return
        try:
            self._append(self._records.end(self._counts(), self._start_ns, time.time_ns(), self.frames))
            self.flush()
        except BaseException:
            self._give_up()
            raise
        self._close_file()

    def _give_up(self) -> None:
        """Close after an error. The rest of a stream goes nowhere: its reader may never take it."""
        if self._mine and isinstance(self._file, io.BufferedWriter):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)
        with suppress(OSError):
            self._close_file()

    def _close_file(self) -> None:
        self._open = False
        if self._mine:
            self._file.close()

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_target(target: Path | BinaryIO) -> tuple[BinaryIO, bool, str]:
    """The file, whether the writer has to close it, and its name for messages.

    A regular file is unbuffered, because the writer's own buffer ends with a complete record. A stream (a pipe, a
    terminal) is an io.BufferedWriter with room for all of the writer's buffer.
    """
    if not isinstance(target, (str, os.PathLike)):
        return target, False, str(getattr(target, "name", "the given file"))
    if os.fspath(target) == "-":
        return open(1, "wb", buffering=STREAM_BUFFER, closefd=False), True, "standard output"
    try:
        file = open(open_output(target, CAPTURE), "wb", buffering=0)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file, True, os.fspath(target)
        return io.BufferedWriter(file, STREAM_BUFFER), True, os.fspath(target)
    except OSError as error:
        raise CaptureError(f"{os.fspath(target)} cannot be written: {error.strerror}") from error


def write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all of `data`: a raw file may accept only a part of it at a time. Raises OSError."""
    while data:
        written = file.write(data)
        if written is None:
            raise BlockingIOError(errno.EAGAIN, "it accepts no bytes now; give a blocking file")
        data = data[written:]


def check_batch(
    frames: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.integer],
    times_ns: npt.NDArray[np.integer] | int,
    rows: npt.NDArray[np.integer] | None,
) -> None:
    """Raises ValueError if shapes differ or a value fits no record."""
    count = len(lengths)
    times = np.asarray(times_ns)
    there = len(frames) if rows is None else len(rows)
    if frames.dtype != np.uint8 or frames.ndim != 2 or there != count or times.shape not in ((), (count,)):
        raise ValueError(
            f"frames {frames.dtype}{frames.shape}, lengths {lengths.shape}, times_ns {times.shape}, {there} rows; "
            "they must be uint8 (n, stride), (n,) and (n,)"
        )
    if rows is not None and (
        rows.ndim != 1
        or rows.dtype.kind not in "iu"
        or (count and not 0 <= int(rows.min()) <= int(rows.max()) < len(frames))
    ):
        raise ValueError(f"rows {rows.dtype}{rows.shape} must be row numbers of frames, 0..{len(frames) - 1}")
    if count and (lengths.min() < 1 or lengths.max() >= 2**32 or not frames.shape[1]):
        raise ValueError(
            f"lengths {lengths.min()}..{lengths.max()} of frames of {frames.shape[1]} bytes: a record has at least 1 "
            "byte"
        )
    if count and (times.min() < 0 or times.max() >= 2**32 * NS):
        raise ValueError(f"times_ns {times.min()}..{times.max()}: a record has a time from 1970 to 2106")
