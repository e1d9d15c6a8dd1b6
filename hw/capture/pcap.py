"""Read pcap and pcapng files; write pcap files with nanosecond timestamps. Link type Ethernet only.

Formats: draft-ietf-opsawg-pcap (classic), draft-ietf-opsawg-pcapng (see pcapng.py).
A capture is read, not mapped: if another program truncated a mapped file, its readers would die by SIGBUS.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
from array import array
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError, CaptureTruncated
from ..output import FileKind, open_output
from .frames import (
    LINKTYPE_ETHERNET,
    MAX_FRAME,
    NS,
    Capture,
    bad_length,
    gather,
    linktype_refusal,
    to_capture,
    truncated,
)
from .pcapng import PCAPNG_MAGIC, read_pcapng

__all__ = ["Capture", "CaptureError", "CaptureTruncated", "CaptureWriter", "read_capture"]

Path: TypeAlias = str | os.PathLike[str]
FrameBytes: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

MAX_FILE = 2**31 - 1
PCAP_HEADER = 24
RECORD_HEADER = 16
MODIFIED_HEADER = 24  # Kuznetzov's modified pcap: interface, protocol and kind of packet follow the usual header
PCAP_MAGICS = {  # first four bytes: byte order, nanoseconds per unit of the timestamp, bytes of a record's header
    b"\xd4\xc3\xb2\xa1": ("<", 1000, RECORD_HEADER),
    b"\xa1\xb2\xc3\xd4": (">", 1000, RECORD_HEADER),
    b"\x4d\x3c\xb2\xa1": ("<", 1, RECORD_HEADER),
    b"\xa1\xb2\x3c\x4d": (">", 1, RECORD_HEADER),
    b"\x34\xcd\xb2\xa1": ("<", 1000, MODIFIED_HEADER),
    b"\xa1\xb2\xcd\x34": (">", 1000, MODIFIED_HEADER),
}
COMPRESSED = {  # first bytes: the program that decompresses to its standard output
    b"\x1f\x8b": "gunzip -c",
    b"\x28\xb5\x2f\xfd": "unzstd -c",
    b"\x04\x22\x4d\x18": "lz4 -dc",
    b"\xfd7zXZ": "xz -dc",
    b"BZh": "bunzip2 -c",
}
CAPTURE = FileKind("a capture", (*PCAP_MAGICS, PCAPNG_MAGIC))
# The link type word (draft-ietf-opsawg-pcap 4): bit 26 (P) says that bits 28 to 31 give the length of the FCS.
LINKTYPE_MASK, FCS_PRESENT, FCS_LENGTH_SHIFT = 0xFFFF, 1 << 26, 28
# Bytes: the longest record. A larger buffer would leave the cache before the kernel copies it.
WRITE_BUFFER = RECORD_HEADER + MAX_FRAME


def read_capture(path: Path, *, allow_truncated: bool = False) -> Capture:
    """All frames of a pcap or pcapng file.

    allow_truncated: skip an incomplete record at the end of the file instead of raising CaptureTruncated.
    Raises CaptureTruncated, and CaptureError if the file is missing, is not a capture, has more than 2 GiB, is damaged,
    or has another link type than Ethernet.
    """
    data = read_file(path)
    name = os.fspath(path)
    try:
        return (read_pcap if data[:4] in PCAP_MAGICS else read_pcapng)(data, allow_truncated)
    except CaptureTruncated as error:
        raise CaptureTruncated(
            f"{name}: {error}; to keep the complete frames, run: tcpdump -r {name} -w whole.pcap"
        ) from None
    except CaptureError as error:
        raise CaptureError(f"{name}: {error}") from None


def read_file(path: Path) -> bytes:
    """The bytes of a capture file. Raises CaptureError."""
    name = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # reading a pipe could wait without bound
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise CaptureError(f"{name} is {what}; give the path of a pcap or pcapng file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE:
                raise CaptureError(
                    f"{name} has {size} bytes, and at most {MAX_FILE} can be read; run: editcap -c 1000000 {name} "
                    "part.pcap"
                )
            check_magic(name, file.read(6))
            file.seek(0)
            return file.read(size)
    except OSError as error:
        raise CaptureError(f"{name} cannot be read: {error.strerror}") from error


def check_magic(name: str, first: bytes) -> None:
    """Raises CaptureError unless a file that begins with the bytes `first` is pcap or pcapng."""
    if not first:
        raise CaptureError(f"{name} is empty: it has no capture header")
    for magic, command in COMPRESSED.items():
        if first.startswith(magic):
            raise CaptureError(f"{name} is compressed; run: {command} {name} > plain.pcap")
    if not first.startswith(CAPTURE.begins):
        raise CaptureError(
            f"{name} is not a pcap or pcapng file: it begins with the bytes {first[:4].hex(' ')}. If it is a capture "
            f"in another format, run: editcap -F pcap {name} plain.pcap"
        )


def read_pcap(data: bytes, allow_truncated: bool) -> Capture:
    """Frames of a classic pcap file. Raises CaptureError, CaptureTruncated."""
    order, unit_ns, header = PCAP_MAGICS[data[:4]]
    if len(data) < PCAP_HEADER:
        raise CaptureError(f"the file header is truncated: it needs {PCAP_HEADER} bytes and the file has {len(data)}")
    major, minor, linktype = struct.unpack_from(order + "HH12xI", data, 4)
    if major != 2:
        raise CaptureError(f"pcap version {major}.{minor} is not supported; current programs write 2.4")
    if linktype & FCS_PRESENT and linktype >> FCS_LENGTH_SHIFT:
        raise CaptureError(
            f"the link type word {linktype:#010x} means that frames include their FCS; capture without FCS"
        )
    if refusal := linktype_refusal(linktype & LINKTYPE_MASK, "the file"):
        raise CaptureError(refusal)
    positions = scan_records(data, order, header, allow_truncated)
    layout = np.dtype(
        [("seconds", order + "u4"), ("fraction", order + "u4"), ("captured", order + "u4"), ("wire", order + "u4")]
    )
    records = gather(data, layout, positions)
    times = records["seconds"].astype(np.int64) * NS + records["fraction"].astype(np.int64) * unit_ns
    return to_capture(data, positions + header, records["captured"], records["wire"], times)


def scan_records(data: bytes, order: str, header: int, allow_truncated: bool) -> npt.NDArray[np.int64]:
    """Byte positions of the record headers, each of `header` bytes."""
    found = array("q")
    captured_at = struct.Struct(order + "8xI4x").unpack_from
    at, size = PCAP_HEADER, len(data)
    while at + header <= size:
        (captured,) = captured_at(data, at)
        if captured > MAX_FRAME:
            raise CaptureError(f"record {len(found) + 1} at byte {at} {bad_length(captured)}")
        if at + header + captured > size:
            break
        found.append(at)
        at += header + captured
    if at < size and not allow_truncated:
        needs = header + (captured_at(data, at)[0] if at + header <= size else 0)
        raise truncated(f"record {len(found) + 1}", at, needs, size - at, len(found))
    return np.array(found, np.int64)


class CaptureWriter:
    """Writes classic pcap with nanosecond timestamps, little-endian, Ethernet.

    target: a path, "-" for standard output, or an open binary file (which close() flushes but does not close).
    snaplen: the most bytes kept of a frame, 1..262144. Complete records are buffered, up to 256 KiB; see flush().
    After an error or Ctrl-C a regular file still ends with a complete record. Raises CaptureError with the reason and
    the number of saved frames.
    """

    def __init__(self, target: Path | BinaryIO, snaplen: int = 65535) -> None:
        if not 0 < snaplen <= MAX_FRAME:
            raise ValueError(f"snaplen is {snaplen}; it must be 1..{MAX_FRAME}")
        self.snaplen = snaplen
        self.frames = 0
        self._buffer = bytearray(WRITE_BUFFER)
        self._bytes = np.frombuffer(self._buffer, np.uint8)
        self._used = 0
        self._saved_frames = 0
        self._file, self._mine, self._name = open_target(target)
        self._open = True
        # None: a stream, whose buffer keeps what Ctrl-C has left unwritten
        self._position = None if not self._mine or isinstance(self._file, io.BufferedWriter) else 0
        struct.pack_into("<IHHiIII", self._buffer, 0, 0xA1B23C4D, 2, 4, 0, 0, snaplen, LINKTYPE_ETHERNET)
        self._used = PCAP_HEADER
        try:
            self.flush()  # from now on the file is a valid capture
        except BaseException:
            self._give_up()
            raise

    def write(self, frame: FrameBytes, time_ns: int, wire_length: int | None = None) -> None:
        """Write one frame. wire_length: its length on the wire, if `frame` is only a part of it.

        Raises CaptureError, ValueError for a value that does not fit a record.
        """
        data = frame.data if isinstance(frame, np.ndarray) else memoryview(frame)
        length = data.nbytes
        wire = max(length, wire_length or 0)
        captured = min(length, self.snaplen)
        seconds, nanoseconds = divmod(time_ns, NS)
        self._check_open()
        if not length or wire >= 2**32 or not 0 <= seconds < 2**32:
            raise ValueError(
                f"frame of {length} bytes at {time_ns} ns: a record has at least 1 byte and a time from 1970 to 2106"
            )
        if self._used + RECORD_HEADER + captured > WRITE_BUFFER:
            self.flush()
        at = self._used
        struct.pack_into("<IIII", self._buffer, at, seconds, nanoseconds, captured, wire)
        at += RECORD_HEADER
        self._buffer[at : at + captured] = data[:captured]
        self._used = at + captured
        self.frames += 1

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
        headers = headers_of(times_ns, captured, lengths)
        # One item per row, so that numpy copies each row in one piece.
        whole = np.ascontiguousarray(frames[:, :longest]) if frames.strides[1] != 1 else frames[:, :longest]
        items = whole.view(f"V{longest}")[:, 0]
        record = np.dtype([("header", headers.dtype), ("frame", items.dtype)])
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
            self._used += count * record.itemsize if equal else self._close_gaps(count, record.itemsize, captured[part])
            self.frames += count
            done += count

    def _close_gaps(self, count: int, stride: int, captured: npt.NDArray[np.integer]) -> int:
        """Pack records that were written `stride` bytes apart, by a mask. Returns their total size in bytes."""
        rows = self._bytes[self._used : self._used + count * stride].reshape(count, stride)
        packed = rows[np.arange(stride, dtype=np.uint32) < (captured + RECORD_HEADER)[:, None]]
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
        used, position = self._used, self._position
        with memoryview(self._buffer) as whole, whole[:used] as gathered:
            if position is None and self._mine:
                self._write_stream(gathered)
            elif position is None:
                write_all(self._file, gathered)
                self._file.flush()
            else:
                self._write_at(position, gathered)
                position += used
        self._position, self._used, self._saved_frames = position, 0, self.frames

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
        return open(1, "wb", buffering=WRITE_BUFFER, closefd=False), True, "standard output"
    try:
        file = open(open_output(target, CAPTURE), "wb", buffering=0)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file, True, os.fspath(target)
        return io.BufferedWriter(file, WRITE_BUFFER), True, os.fspath(target)
    except OSError as error:
        raise CaptureError(f"{os.fspath(target)} cannot be written: {error.strerror}") from error


def write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all of `data`: a raw file may accept only a part of it at a time. Raises OSError."""
    while data:
        written = file.write(data)
        if written is None:
            raise BlockingIOError(errno.EAGAIN, "it accepts no bytes now; give a blocking file")
        data = data[written:]


def headers_of(
    times_ns: npt.NDArray[np.integer] | int, captured: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]
) -> npt.NDArray[np.void]:
    """The record headers of a batch, each as one item.

    If all are equal, there is only one item. This saves a tenth of the time of examples/capture.py.
    """
    same = np.ndim(times_ns) == 0 and int(lengths.min()) == int(lengths.max())
    headers = np.empty(
        1 if same else len(lengths), [(name, "<u4") for name in ("seconds", "fraction", "captured", "wire")]
    )
    headers["seconds"], headers["fraction"] = divmod(times_ns, NS)
    headers["captured"], headers["wire"] = captured[: len(headers)], lengths[: len(headers)]
    return headers.view(f"V{RECORD_HEADER}")


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
