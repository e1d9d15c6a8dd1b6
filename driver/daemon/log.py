"""The log of the daemon, and of what serves a socket as it does: sentences on stderr."""

from __future__ import annotations

import select
import sys
import threading
import time

LINES_A_SECOND = 20  # about one program
MOST_LINES = 200
MOST_TOLD = 1024  # programs
MOST_LETTERS = 1000  # of a sentence: in UTF-8 they are less than a page, which a pipe with room takes at once


def printable(text: str) -> str:
    """`text` on one line and without control characters: programs choose names that appear in it."""
    return "".join(each if each.isprintable() else "?" for each in text)


class Log:
    """At most LINES_A_SECOND lines about each program, and MOST_LINES of all: programs must not fill the disk with
    their mistakes. While nobody reads stderr, such as a terminal after Ctrl-S, lines are left out: the daemon does not
    wait. name: begins each line.
    """

    def __init__(self, name: str = "ixrings daemon") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._second, self._dropped = 0, 0
        self._lines: dict[tuple[int, int], int] = {}  # of this second, by program
        self._told: dict[tuple[int, int], str] = {}  # the last sentence that is said once, by program

    def __call__(self, sentence: str, pid: int = 0, uid: int = 0, *, once: bool = False) -> None:
        """pid, uid: of the program that the line is about. once: leave a repetition out."""
        with self._lock:
            if once and self._told.get((pid, uid)) == sentence:
                return
            if once:
                if len(self._told) >= MOST_TOLD:
                    self._told.clear()
                self._told[pid, uid] = sentence
            self._add(sentence, (pid, uid))

    def tick(self) -> None:
        """Call it about once a second: it tells how many lines were left out."""
        with self._lock:
            self._begin_second()

    def _begin_second(self) -> None:
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._lines = now, {}
            if self._dropped and self._write(f"{self._dropped} more lines were left out"):
                self._dropped = 0

    def _add(self, sentence: str, program: tuple[int, int]) -> None:
        self._begin_second()
        lines = self._lines.get(program, 0)
        if lines >= LINES_A_SECOND or sum(self._lines.values()) >= MOST_LINES or not self._write(sentence):
            self._dropped += 1
        else:
            self._lines[program] = lines + 1

    def _write(self, sentence: str) -> bool:
        """False if stderr has no room."""
        try:
            room = select.poll()
            room.register(sys.stderr, select.POLLOUT)
            if not room.poll(0):
                return False
            print(f"{self._name}: {printable(sentence[:MOST_LETTERS])}", file=sys.stderr, flush=True)
        except (OSError, ValueError):  # it is closed
            pass
        return True
