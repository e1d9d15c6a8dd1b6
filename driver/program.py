"""How a program ends: by a signal, by an error, or because nobody reads its output any more.

The examples and the `ixrings` command end in the same way, because they use this file.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from .errors import ERRORS

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILED, INTERRUPTED = 1, 130
AGAIN_S = 0.001
EXPECTED = (*ERRORS, ValueError, OSError)


def run(main: Callable[[], int | None], name: str = "") -> NoReturn:
    """Run main() as the whole program, and exit with the status that it returns (None: 0).

    name: begins each error's line; default: as the program was called. The status is 1 after an error that a user can
    mend, with one line on stderr, or if the reader of the output has gone (`| head`). It is 130 after Ctrl-C.
    """
    try:
        end_by_signals()
        status = status_of(main, name or sys.argv[0])
    finally:
        # main() has released everything, and the interpreter ends in a moment.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        give_up_output()
    sys.exit(status)


def end_by_signals() -> None:
    """SIGTERM and SIGHUP (a closed terminal) end the program as Ctrl-C does: by KeyboardInterrupt."""
    sys.unraisablehook = interrupt_again
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)


def interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops an exception that leaves a __del__. KeyboardInterrupt comes again a moment later, outside of it."""
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def ending_signals() -> list[signal.Signals]:
    """The signals that end a program. nohup ignores SIGHUP, and it stays ignored."""
    return [each for each in ENDING if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


def status_of(main: Callable[[], int | None], name: str) -> int:
    """The exit status of main(). An expected error becomes one line on stderr."""
    try:
        status = main() or 0
        flush_output()
        return status
    except EXPECTED as error:
        if not reader_has_gone(error):
            say(f"{name}: {sentence_of(error)}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except RuntimeError as error:
        # Up to Python 3.11, Ctrl-C in a __set_name__, while a module loads, becomes the cause of a RuntimeError.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        raise


def flush_output() -> None:
    """Raises OSError with the reason if stdout cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise type(error)(error.errno, f"standard output cannot be written: {error.strerror}") from None


def reader_has_gone(error: BaseException) -> bool:
    """Whether the error means that the reader of a pipe has closed it, as `head` does."""
    return isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError)


def sentence_of(error: BaseException) -> str:
    """An error of the system without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def say(sentence: str) -> None:
    """Print a line on stderr, if anybody reads it: a closed terminal or pipe does not stop the program."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def give_up_output() -> None:
    """Send what stdout still holds. If it cannot be written, drop it: the interpreter would complain at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
