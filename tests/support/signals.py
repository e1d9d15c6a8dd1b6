"""Signals that are ignored when pytest starts: SIGINT in a script's background, SIGHUP under nohup."""

from __future__ import annotations

import signal
from types import FrameType

LEFT_ALONE = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores these, and subprocess restores them for its children


def stop_ignoring_signals() -> None:
    """Give the programs that tests start the default signals: a program inherits only those that are ignored.

    Tests end themselves and programs by SIGINT, which is Ctrl-C from now on. pytest survives the other signals as
    before, by a handler that does nothing.
    """
    for number in signal.Signals:
        if number not in LEFT_ALONE and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else do_nothing)


def do_nothing(number: int, frame: FrameType | None) -> None:
    pass
