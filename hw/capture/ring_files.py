"""Capture files one after the other, named as tcpdump names those of its options -C, -W and -G."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError
from .writer import CaptureWriter, FrameBytes

MEGABYTE = 1_000_000


class RingFiles:
    """Writes frames to a file until the file is full or old, and then to the next one.

    name: of the files. With `seconds` it goes through strftime; with `size` and from the second file on, or with a
    `most`, a number follows it.
    size: a file that has more bytes (before gzip compresses them) is followed by the next one; 0 for no limit.
    seconds: a file is followed by the next one when the first frame after this time comes; 0 for no limit.
    most: so many files. With `size` the first one is overwritten then. With `seconds` alone the capture ends: `over`.
    open_file: opens the file of a name. A file of an earlier capture is overwritten.
    """

    def __init__(
        self,
        name: str,
        open_file: Callable[[str], CaptureWriter],
        *,
        size: int = 0,
        seconds: int = 0,
        most: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name, self._open_file, self._clock = name, open_file, clock
        self._size, self._seconds, self._most = size, seconds, most
        self._digits = len(str(most - 1)) if size and most > 1 else 0
        self._number, self._periods = 0, 0
        self._frames = 0  # in the files before this one
        self._since = int(clock())
        self._file = open_file(self._file_name())

    def _file_name(self) -> str:
        name = time.strftime(self._name, time.localtime(self._since)) if self._seconds else self._name
        return f"{name}{self._number:0{self._digits}}" if self._number or self._digits else name

    @property
    def frames(self) -> int:
        """Frames in all files."""
        return self._frames + self._file.frames

    @property
    def over(self) -> bool:
        """Whether the last of `most` files is old."""
        ends = self._seconds and self._most and not self._size
        return bool(ends) and self._periods >= self._most - 1 and self._is_old()

    def write_batch(
        self,
        frames: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.integer],
        times_ns: int,
        rows: npt.NDArray[np.integer],
    ) -> None:
        """As CaptureWriter.write_batch(). What comes when `over` is True is not written."""
        lengths, rows = lengths.copy(), rows.copy()
        while len(lengths) and (count := self._that_fit(lengths, frames.shape[1])):
            self._file.write_batch(frames, lengths[:count], times_ns, rows[:count])
            lengths, rows = lengths[count:], rows[count:]

    def write(self, frame: FrameBytes, time_ns: int, wire_length: int | None = None, comment: str = "") -> None:
        """As CaptureWriter.write()."""
        if self._that_fit(np.array([len(frame)]), len(frame)):
            self._file.write(frame, time_ns, wire_length, comment)

    def _is_old(self) -> bool:
        return int(self._clock()) - self._since >= self._seconds

    def _that_fit(self, lengths: npt.NDArray[np.integer], stride: int) -> int:
        """How many frames go to this file: until it has more than `size` bytes. 0: the capture is over.

        If the file is full or old, the next one is begun before.
        """
        if self._seconds and self._is_old():
            if self.over:
                return 0
            self._since, self._number = int(self._clock()), 0
            self._periods += 1
            self._next()
        if not self._size:
            return len(lengths)
        if self._file.size > self._size:
            self._number = (self._number + 1) % self._most if self._most else self._number + 1
            self._next()
        ends = self._file.size + np.cumsum(self._file.sizes_of(lengths, stride))
        return int(np.searchsorted(ends, self._size, side="right")) + 1

    def _next(self) -> None:
        """Go on with the next file. After Ctrl-C here, close() still writes what is buffered."""
        self._file.flush()
        frames = self.frames
        self._file.close()
        try:
            file = self._open_file(self._file_name())
        except KeyboardInterrupt:  # the file may be empty now, and no program opens an empty file
            with suppress(CaptureError):
                self._file = self._open_file(self._file_name())
                self._frames = frames
            raise
        self._frames, self._file = frames, file

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RingFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
