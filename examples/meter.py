"""Shared by the examples: options, signals, rates each second, the link's state, a summary in words or JSON."""

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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ixrings import ERRORS, NotOffered, Port, PortTimeout, open_port
from ixrings.driver.config import OnePortOptions
from ixrings.driver.program import EXPECTED, say
from ixrings.driver.program import run as run
from ixrings.driver.statistics import PortStatistics

if TYPE_CHECKING:
    from typing_extensions import Unpack

FRAMES = ("sent", "received", "forwarded")
# Frames with an error that the NIC does not deliver (82599 8.2.3.23). ROC: longer than the port's mtu allows.
FRAME_ERRORS = ("CRCERRS", "RLEC", "RUC", "RFC", "ROC", "RJC")
FLUSH_S = 1.0


class Meter:
    """Prints rates and counters each second on a terminal, and a summary at the end, also after Ctrl-C or an error.

    counters() returns each counter's name and value. Frames are counted as "sent", "received" or "forwarded". ports:
    the ports in use. A link that goes down is said once, and is waited for. At the end their rings are flushed, and the
    summary also has the frames that stayed unsent. receives: the summary also has what the ports' NICs lost. details():
    more members of the summary in JSON. out: where the summary is printed (default: stdout). unwanted: a queue whose
    frames are not missed.
    """

    def __init__(
        self,
        counters: Callable[[], Mapping[str, float]],
        ports: Sequence[Port],
        *,
        receives: bool = True,
        as_json: bool = False,
        details: Callable[[], Mapping[str, object]] | None = None,
        out: TextIO | None = None,
        unwanted: int | None = None,
    ) -> None:
        self._counters, self._ports, self._receives = counters, ports, receives
        self._json, self._details, self._out, self._unwanted = as_json, details, out, unwanted
        self._live = sys.stderr is not None and sys.stderr.isatty() and not as_json
        self._start = self._last = time.monotonic()
        self._before: Mapping[str, float] = {}
        self._down: set[Port] = set()

    def tick(self) -> None:
        """Call it for every batch of the loop. It prints once a second and costs one read of the clock."""
        now = time.monotonic()
        if now - self._last < 1.0:
            return
        for port in self._ports:
            self._look_at_link(port)
        if self._live:
            present = self._counters()
            rates = [
                f"{name} {(value - self._before.get(name, 0)) / (now - self._last) / 1e6:.3f} Mpps"
                if name in FRAMES
                else in_figures(name, value)
                for name, value in present.items()
            ]
            say(f"{now - self._start:6.0f} s  {', '.join(rates)}")
            self._before = dict(present)
        self._last = now

    def _look_at_link(self, port: Port) -> None:
        """Say once that the link went down or came up. If it is down for good, the next wait raises the reason."""
        link = port.link
        if link.up and port in self._down:
            self._down.remove(port)
            say(f"{port.name}: the link is {link}")
        elif not link.up and port not in self._down:
            self._down.add(port)
            say(f"{port.name}: the link is {link}" + "; waiting for it" * (not link.lost))

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool:
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            if error is None:
                self._flush()
        except KeyboardInterrupt:
            interrupted = True
        if interrupted:
            self._flush_briefly()
        if error is None or interrupted or isinstance(error, EXPECTED):
            self._sum_up()
        return interrupted

    def _flush(self) -> None:
        """Wait until every frame is sent, also for a link that comes up again. Raises PortStuck."""
        for port in self._ports:
            waiting = True
            while waiting:
                try:
                    port.flush(FLUSH_S)
                    waiting = False
                except PortTimeout:
                    self.tick()

    def _flush_briefly(self) -> None:
        """After Ctrl-C: whatever is not sent within a second stays unsent."""
        for port in self._ports:
            try:
                port.flush(FLUSH_S)
            except ERRORS:
                pass

    def _sum_up(self) -> None:
        seconds = time.monotonic() - self._start
        counted = dict(self._counters())
        try:
            counted.update(self._not_counted(counted))
        except ERRORS:  # the NIC is gone: what it lost is not known
            pass
        details = self._details() if self._json and self._details else {}
        text = json.dumps({**counted, "seconds": seconds, **details}) if self._json else in_words(counted, seconds)
        print(text, file=self._out or sys.stdout)

    def _not_counted(self, counted: Mapping[str, float]) -> Mapping[str, float]:
        """What the program cannot count: frames in TX rings, and frames that its NICs did not deliver."""
        found: dict[str, float] = {}
        if "sent" in counted or "forwarded" in counted:
            found["unsent"] = sum(ring.num_slots - 1 - ring.space for port in self._ports for ring in port.tx_rings)
        stats = [port.stats() for port in self._ports if self._receives]
        if stats and all("MPC" in each for each in stats):  # a virtual function does not count what it loses
            found["missed"] = sum(each["MPC"] for each in stats)
            found["dropped"] = sum(dropped(each, self._unwanted) for each in stats)
            found["errors"] = sum(each[name] for each in stats for name in FRAME_ERRORS)
        return found


def dropped(stats: PortStatistics, unwanted: int | None = None) -> int:
    """Frames that were dropped because a queue had no free slot. unwanted: a queue that does not count."""
    queues = [queue for index, queue in enumerate(stats.rx) if index != unwanted]
    return sum(queue["QPRDC"] for queue in (*queues, stats.rx_others))


LOSSES = {
    "filtered": "not taken by the filter",
    "unsent": "still unsent",
    "missed": "missed for lack of packet buffer (MPC)",
    "dropped": "dropped for lack of a free slot (QPRDC)",
    "errors": "with errors or too long for the port's mtu",
}


def in_figures(name: str, value: float) -> str:
    return f"{name} {value:{',' if isinstance(value, int) else ',.6g'}}"


def in_words(counted: Mapping[str, float], seconds: float) -> str:
    """The summary. Losses are shown only if there are any."""
    words = [
        f"{name} {value:,.0f} frames ({value / seconds / 1e6:.2f} Mpps)"
        for name, value in counted.items()
        if name in FRAMES
    ]
    words += [in_figures(name, value) for name, value in counted.items() if name not in (*FRAMES, *LOSSES)]
    words += [f"{counted[name]:,.0f} {what}" for name, what in LOSSES.items() if counted.get(name)]
    return f"{', '.join(words)} in {seconds:.2f} s"


def receiving_everything(name: str, **options: Unpack[OnePortOptions]) -> Port:
    """The port, promiscuous from the start. A virtual function cannot be: it receives only what is for it."""
    options["promiscuous"] = True
    try:
        return open_port(name, **options)
    except NotOffered:
        options["promiscuous"] = False
        return open_port(name, **options)


@contextmanager
def signals_wait(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Signals that come inside act at its end. A process started inside never gets them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def options(text: str | None) -> argparse.ArgumentParser:
    """An argument parser with --json and --trace; `text` is the example's docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON and nothing else")
    parser.add_argument(
        "--trace", metavar="FILE", help="write every register access to FILE; `ixrings trace FILE` shows it"
    )
    return parser
