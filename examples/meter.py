"""What the examples have in common: options, a live rate line, a summary in words or JSON, errors as sentences."""

from __future__ import annotations

import os
import signal
import sys

if os.path.dirname(os.path.abspath(sys.argv[0])) == os.path.dirname(
    os.path.abspath(__file__)
):  # an example, not a test or a prompt
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # while modules load, Ctrl-C just ends the program; run() takes it over

import argparse
import json
import time
import types
from collections.abc import Callable, Mapping

from ixrings import ERRORS


class Meter:
    """Counts, a rate line each second on a terminal, and a summary at the end, also after Ctrl-C.

    counters() gives what is counted: a name and a number each, frames under "sent", "received" or "forwarded".
    """

    def __init__(self, counters: Callable[[], Mapping[str, float]], *, as_json: bool = False) -> None:
        self._counters, self._json = counters, as_json
        self._live = sys.stderr.isatty() and not as_json
        self._start = self._last = time.monotonic()
        self._before: Mapping[str, float] = {}

    def tick(self) -> None:
        """Call it in the loop, every batch: prints once a second, costs a clock read."""
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
        "--trace", metavar="FILE", help="record every register access there; ixrings trace FILE shows it"
    )
    return parser


def run(main: Callable[[], None]) -> None:
    """main(), with everything a user can get wrong as one line on stderr and exit status 1."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except (*ERRORS, ValueError, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # everything is given back, and the interpreter's own end is short
