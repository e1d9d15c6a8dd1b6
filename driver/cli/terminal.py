"""A terminal that a program draws on and takes keys from, as it was before after every end that a program can see."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import FrameType

ENTER, LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"  # the other screen, without a cursor; and back
BEGIN, TO_END_OF_LINE, TO_END = "\033[H", "\033[K", "\033[J"
KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"\t": "down", b"\x1b[Z": "up",
    b"\x1b": "escape", b"\r": "enter", b"\n": "enter",
}  # fmt: skip
SMALLEST = (20, 4)


def can_draw() -> bool:
    """Whether stdout is a terminal that can place the cursor."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def wants_colour() -> bool:
    """See no-color.org."""
    return can_draw() and not os.environ.get("NO_COLOR")


class Terminal:
    """A context manager. At its end, also by Ctrl-C, SIGTERM, SIGHUP or SIGQUIT, the terminal is as it was before.

    Ctrl-Z gives the terminal back, and `fg` takes it again. Keys need a terminal at stdin.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._keys = sys.stdin is not None and sys.stdin.isatty()
        self._before: list[object] | None = None
        self._shown = ""

    def __enter__(self) -> Terminal:
        try:
            self._undo.callback(self._leave)
            self._enter()
            self._handle(signal.SIGQUIT, signal.default_int_handler)  # Ctrl-\ would end us at once
            self._handle(signal.SIGTSTP, self._stop)
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _handle(self, number: signal.Signals, handler: Callable[[int, FrameType | None], object]) -> None:
        self._undo.callback(signal.signal, number, signal.signal(number, handler))

    def _enter(self) -> None:
        if self._keys:
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSADRAIN)
        self._write(ENTER)
        self._shown = ""

    def _leave(self) -> None:
        """A terminal that is gone needs nothing."""
        with suppress(OSError, termios.error):
            if self._before is not None:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]
        self._before = None
        with suppress(OSError):
            self._write(LEAVE)

    def _stop(self, *_: object) -> None:
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)  # returns after SIGCONT
        self._enter()

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            columns, lines = 0, 0
        if columns <= 0 or lines <= 0:  # a terminal that does not know its size
            columns, lines = 80, 24
        return max(columns, SMALLEST[0]), max(lines, SMALLEST[1])

    def draw(self, lines: list[str]) -> None:
        """Replace the screen's content. The lines fit the size."""
        text = BEGIN + "\r\n".join(line + TO_END_OF_LINE for line in lines) + TO_END
        if text != self._shown:
            self._write(text)
            self._shown = text

    def redraw(self) -> None:
        """Write the next lines even if they are the same: the size has changed."""
        self._shown = ""

    def keys(self, timeout_s: float) -> list[str]:
        """The keys that were pressed, after at most `timeout_s`. Raises EOFError if the terminal has gone."""
        if not self._keys:
            select.select([], [], [], timeout_s)
            return []
        if not select.select([sys.stdin], [], [], timeout_s)[0]:
            return []
        data = os.read(sys.stdin.fileno(), 1024)
        if not data:
            raise EOFError
        return list(keys_in(data))


def keys_in(data: bytes) -> list[str]:
    """Bytes of a terminal as keys: "up", "down", "enter", "escape", or a character. Others are left out."""
    found = []
    while data:
        sequence = next((each for each in sorted(KEYS, key=len, reverse=True) if data.startswith(each)), b"")
        if sequence == b"\x1b" and len(data) > 1 and data[1:2] in b"[O":  # a sequence that has no name here
            end = next((i for i in range(2, len(data)) if 0x40 <= data[i] <= 0x7E), len(data) - 1)
            data = data[end + 1 :]
            continue
        if sequence:
            found.append(KEYS[sequence])
        elif 0x20 <= data[0] < 0x7F:
            found.append(chr(data[0]))
        data = data[len(sequence) or 1 :]
    return found
