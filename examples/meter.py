"""Shared by the examples: options, a line of rates each second, a summary in words or JSON, errors as sentences."""

from __future__ import annotations

import os
import signal
import sys

# In an example (not in a test or at a prompt) Ctrl-C just ends the program while modules load; run() handles it later.
if os.path.dirname(os.path.abspath(sys.argv[0])) == os.path.dirname(os.path.abspath(__file__)):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import json
import time
import types
from collections.abc import Callable, Mapping

from ixrings import ERRORS


class Meter:
    """Prints rates each second on a terminal, and a summary at the end, also after Ctrl-C.

    counters() returns each counter's name and value. Frames are counted as "sent", "received" or "forwarded".
    """

    def __init__(self, counters: Callable[[], Mapping[str, float]], *, as_json: bool = False) -> None:
        self._counters, self._json = counters, as_json
        self._live = sys.stderr.isatty() and not as_json
        self._start = self._last = time.monotonic()
        self._before: Mapping[str, float] = {}

    def tick(self) -> None:
        """Call it for every batch of the loop. It prints once a second and costs one read of the clock."""
        now = time.monotonic()
        if now - self._last < 1.0:
            return
        if self._live:
            present = self._counters()
            rates = [
                f"{name} {(value - self._before.get(name, 0)) / (now - self._last) / 1e6:.3f} Mpps"
                for name, value in present.items()
            ]
            print(f"{now - self._start:6.0f} s  {', '.join(rates)}", file=sys.stderr)
            self._before = dict(present)
        self._last = now

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, KeyboardInterrupt):
            seconds = time.monotonic() - self._start
            counted = dict(self._counters())
            print(json.dumps({**counted, "seconds": seconds}) if self._json else self._in_words(counted, seconds))
        return isinstance(error, KeyboardInterrupt)

    @staticmethod
    def _in_words(counted: Mapping[str, float], seconds: float) -> str:
        frames = {name: value for name, value in counted.items() if name in ("sent", "received", "forwarded")}
        words = [f"{name} {value:,.0f} frames ({value / seconds / 1e6:.2f} Mpps)" for name, value in frames.items()]
        words += [f"{name} {value:,.6g}" for name, value in counted.items() if name not in frames]
        return f"{', '.join(words)} in {seconds:.2f} s"


def options(text: str | None) -> argparse.ArgumentParser:
    """An argument parser with --json and --trace; `text` is the example's docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON and nothing else")
    parser.add_argument(
        "--trace", metavar="FILE", help="write every register access to FILE; `ixrings trace FILE` shows it"
    )
    return parser


def run(main: Callable[[], None]) -> None:
    """Run main(). An error that a user can mend becomes one line on stderr and exit status 1."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except (*ERRORS, ValueError, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the port is closed, and the interpreter ends in a moment
