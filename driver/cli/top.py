"""`ixrings top`: rates, drops, link, rings and CPU of ports while programs use them, in a terminal."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..arguments import number
from ..errors import ERRORS, PortClosed, PortError
from ..port import Port
from ..queue import poll_ports
from .terminal import Terminal, can_draw, wants_colour
from .top_rates import Watched, facts
from .top_screen import SORTS, View, screen, text_of_sights
from .top_sources import Opened, every_source, sources_of

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

EPILOG = """\
PORT is pid:PID for all ports of a running program, netmap:NAME for a port of the daemon, an address such as
0000:03:00.0 for a NIC that Linux or a program has, or another port's name, which top then opens itself: it receives
the frames that come, and discards them. Without PORT: every port that programs of yours have open now, as root those
of all users.

A running program is not disturbed. Its rings and the counts of its frames are in memory that top reads. Counters of
the NIC are cleared when they are read, so only the program reads them: while top watches, it does so twice a second,
when it waits, or once in 4096 syncs. What cannot be seen is said in words. Colours: none if NO_COLOR is set.

In the terminal: q ends, h shows the keys. Into a pipe or a file, top writes a block of lines every SECONDS.
"""
TICK_S = 0.1
ANSWER_S = 3.0  # for a program that looks at its NIC twice a second
SHORTEST, LONGEST = 0.1, 60.0


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "top",
        help="watch rates, drops, rings and CPU of ports while programs use them",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("ports", metavar="PORT", nargs="*", help="see below; several are shown one below the other")
    parser.add_argument(
        "-i", "--interval", metavar="SECONDS", type=number(SHORTEST, 3600), default=1.0, help="default: 1"
    )
    parser.add_argument("--once", action="store_true", help="measure for one interval, print it, and end")
    parser.add_argument("--json", action="store_true", help="print an object in a line for each interval")


def run(options: argparse.Namespace) -> int:
    with Opened() as opened:
        for source in (each for text in options.ports for each in sources_of(text)):
            opened.add(source)
        if not options.ports:
            for source in every_source():
                opened.add(source)
        if not opened.sources:
            raise PortError(
                "no program of yours has a port open. Start one, such as examples/pktgen.py, or name a port: ixrings "
                "top emulated:source. As root: the ports of all users"
            )
        watched = [Watched(source) for source in opened.sources]
        try:
            if options.once:
                once(options, opened, watched)
            elif options.json or not can_draw():
                stream(options, opened, watched)
            else:
                draw(options, opened, watched)
        except KeyboardInterrupt:  # the normal end
            pass
    return 0


def look(watched: Sequence[Watched]) -> None:
    """Look at every port that has not ended."""
    for each in watched:
        if not each.ended:
            try:
                each.look()
            except ERRORS as error:
                each.end(str(error))


def wait(opened: Opened, watched: Sequence[Watched], until: float) -> Iterator[float]:
    """Let time pass, and yield the seconds that the caller may spend in each turn, TICK_S at most.

    Frames that arrive at ports of our own are received and discarded: nobody else does it.
    """
    glance_at = 0.0
    while (left := until - time.monotonic()) > 0:
        turn = min(left, TICK_S)
        own = [port for port in opened.own if port.rx_rings]
        if own:
            with suppress(*ERRORS):  # the next look says what is wrong
                discard(own, turn)
            yield 0.0
        else:
            yield turn
        if time.monotonic() >= glance_at:
            glance_at = time.monotonic() + TICK_S
            for each in watched:
                with suppress(*ERRORS):
                    each.glance()


def discard(ports: Sequence[Port], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for port, _ in poll_ports(ports, left):
            for ring in port.rx_rings:
                ring.advance(ring.space)


def pause(opened: Opened, watched: Sequence[Watched], until: float) -> None:
    for turn in wait(opened, watched, until):
        time.sleep(turn)


# ---- without a terminal ----


def once(options: argparse.Namespace, opened: Opened, watched: Sequence[Watched]) -> None:
    """Raises PortClosed if a port that was named, or every port, has ended meanwhile."""
    end = time.monotonic() + ANSWER_S
    while not all(each.source.answered() for each in watched) and time.monotonic() < end:
        pause(opened, watched, time.monotonic() + TICK_S)
    look(watched)
    first = [each.sight.look.drops_at_s if each.sight else 0.0 for each in watched]
    pause(opened, watched, time.monotonic() + options.interval)
    end = time.monotonic() + ANSWER_S
    look(watched)
    while any(old_answer(each, at) for each, at in zip(watched, first)) and time.monotonic() < end:
        pause(opened, watched, time.monotonic() + TICK_S)
        look([each for each, at in zip(watched, first) if old_answer(each, at)])
    ended = [each.sight.ended for each in watched if each.sight and each.sight.ended]
    if ended and (options.ports or len(ended) == len(watched)):
        raise PortClosed(ended[0])
    show(options, [each for each in watched if not each.ended])


def old_answer(watched: Watched, at_s: float) -> bool:
    """Whether a program that answers has not looked at its NIC since `at_s`."""
    sight = watched.sight
    return sight is not None and not sight.ended and sight.look.drops is not None and sight.look.drops_at_s <= at_s


def stream(options: argparse.Namespace, opened: Opened, watched: Sequence[Watched]) -> None:
    """Until Ctrl-C, or until every port has ended."""
    look(watched)
    due = time.monotonic()
    while not all(each.ended for each in watched):
        due = max(due + options.interval, time.monotonic())
        pause(opened, watched, due)
        look(watched)
        show(options, watched)


def show(options: argparse.Namespace, watched: Sequence[Watched]) -> None:
    sights = [each.sight for each in watched if each.sight]
    if options.json:
        print(json.dumps({"seconds": options.interval, "ports": [facts(sight) for sight in sights]}), flush=True)
    else:
        print("\n".join(text_of_sights(sights)), flush=True)


# ---- in a terminal ----


def draw(options: argparse.Namespace, opened: Opened, watched: Sequence[Watched]) -> None:
    """Until q."""
    view = View(options.interval, colour=wants_colour())
    with Terminal() as terminal, suppress(EOFError):
        look(watched)
        sights = [each.sight for each in watched if each.sight]
        size = terminal.size
        terminal.draw(screen(sights, view, *size))
        due = time.monotonic() + min(view.interval_s, 0.5)  # the first rates come soon
        while True:
            for turn in wait(opened, watched, due):
                keys = terminal.keys(turn)
                if "q" in keys or "Q" in keys:
                    return
                before = view.interval_s
                for key in keys:
                    press(view, key, len(sights))
                if keys or terminal.size != size:
                    if terminal.size != size:
                        size = terminal.size
                        terminal.redraw()
                    terminal.draw(screen(sights, view, *size))
                if view.interval_s != before:
                    due = time.monotonic() + view.interval_s
                    break
            if time.monotonic() < due:
                continue
            due = max(due + view.interval_s, time.monotonic())
            look(watched)
            if not view.paused:
                sights = [each.sight for each in watched if each.sight]
                terminal.draw(screen(sights, view, *size))


def press(view: View, key: str, ports: int) -> None:
    """What a key does."""
    if key in ("h", "?"):
        view.help = not view.help
    elif key == "escape" or (view.help and key == "enter"):
        view.help = False
    elif key in ("p", " "):
        view.paused = not view.paused
    elif key in ("n", "down"):
        view.chosen = (view.chosen + 1) % ports
    elif key in ("N", "up"):
        view.chosen = (view.chosen - 1) % ports
    elif key == "s":
        view.sort = (view.sort + 1) % len(SORTS)
    elif key == "t":
        view.threads = not view.threads
    elif key == "+":
        view.interval_s = min(LONGEST, view.interval_s * 2)
    elif key == "-":
        view.interval_s = max(SHORTEST, view.interval_s / 2)
