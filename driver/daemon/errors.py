"""What the daemon tells a program that it refuses."""

from __future__ import annotations

import os


class Refused(Exception):
    """A request is refused. number: the errno that netmap would give. sentence: why, for the daemon's log and the
    program."""

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(sentence)
        self.number, self.sentence = number, sentence

    def __str__(self) -> str:
        return f"{self.sentence} ({os.strerror(self.number)})"


class NothingToWatch(Refused):
    """No program uses the port that a monitor should watch. Its program may try again."""
