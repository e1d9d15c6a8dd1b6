"""`ixrings ring`: draw rings with the owner of each slot: of a port that plays a short scene, or of another program."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from ixrings.hw.output import check_kind, open_output
from ixrings.rings.interface import Interface

from ..errors import PortError
from ..names import Kind, parse_port_name
from ..opening import open_port
from ..ring_memory import interfaces_of
from ..ring_view import Owner, Step, view_interface, view_port
from .ring_draw import draw
from .ring_html import HTML, page
from .ring_story import play
from .watch import add_watch, repeat

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SLOTS = 64  # the smallest ring, which is the easiest to read
WORK_S = 0.02  # time that a NIC with its own engine gets for each step
STEPS = 300  # the most that are recorded
EPILOG = """\
PORT emulated (or emulated:WIRE) plays a scene step by step: the program sends, txsync, the NIC works, rxsync, the
program receives. A real NIC plays the scene only with --frames, because the scene sends frames. pid:PID shows the rings
of another program of yours; only its shared memory can be seen.
"""


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "ring",
        help="draw rings, with the owner of each slot",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("port", metavar="PORT", help="a port's name, such as emulated, or pid:PID for another program")
    parser.add_argument("--frames", action="store_true", help="send frames even if the NIC is not emulated")
    parser.add_argument("--steps", action="store_true", help="draw every step of the scene (default: the last step)")
    add_watch(parser, "for another program: draw its rings again")
    parser.add_argument(
        "--html", metavar="FILE", help="write a page that steps through the scene, or through the watched rings"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def run(options: argparse.Namespace) -> int:
    if options.html:
        check_kind(options.html, HTML)  # at the start: a long watch must not be in vain
    if options.port.startswith("pid:"):
        return run_other(options)
    if options.watch is not None:
        raise PortError(
            "--watch is for the rings of another program: ixrings ring pid:PID --watch. The rings of "
            f"{options.port} do not change by themselves"
        )
    steps = scene(options.port, options.frames)
    show(steps if options.steps or options.json else steps[-1:], options.json)
    save(steps, options.html)
    return 0


def scene(name: str, frames: bool) -> list[Step]:
    """The steps of the scene, or one step for a real NIC without --frames.

    Raises PortNameError, PortError, DeviceError.
    """
    parsed = parse_port_name(name)
    if not (parsed.transmits and parsed.receives) or parsed.queue:
        raise PortError(
            f"the scene sends and receives with ring 0; leave /R, /T and -{parsed.queue or 'k'} out of {name}"
        )
    with ExitStack() as undo:
        if parsed.kind is Kind.EMULATED:
            from ixrings.hw.emulator import Emulated82599

            nic = Emulated82599(parsed.target, manual=True)
            undo.callback(nic.close)
            port = undo.enter_context(open_port(nic, tx_slots=SLOTS, rx_slots=SLOTS, promiscuous=True, link_timeout=0))
            return play(port, nic.step)
        port = undo.enter_context(open_port(name, tx_slots=SLOTS, rx_slots=SLOTS))
        if frames:
            return play(port, lambda _: time.sleep(WORK_S))
        return [Step("After open_port().", view_port(port))]


# ---- another program's rings ----


def run_other(options: argparse.Namespace) -> int:
    interfaces = list(interfaces_of(options.port.removeprefix("pid:")))
    steps = look(interfaces, "at first")
    show(steps, options.json)
    if options.watch is not None:
        start = time.monotonic()

        def again() -> None:
            now = look(interfaces, f"after {time.monotonic() - start:.2f} s")
            steps.extend(now[: STEPS - len(steps)])
            if sys.stdout.isatty() and not options.json:
                print("\033[H\033[J", end="")  # replaces the previous drawing
            show(now, options.json)

        repeat(options.watch, again)
    save(steps, options.html)
    return 0


def look(interfaces: Sequence[Interface], when: str) -> list[Step]:
    return [Step(f"{interface.name} {when}", view_interface(interface)) for interface in interfaces]


# ---- output ----


def show(steps: Sequence[Step], as_json: bool) -> None:
    if as_json:
        print(json.dumps([facts(step) for step in steps]), flush=True)
        return
    colour = sys.stdout.isatty()
    for step in steps:
        print(step.caption)
        for ring in step.port.rings:
            print(draw(ring, colour=colour), flush=True)


def facts(step: Step) -> dict[str, object]:
    """A step for JSON."""

    def plain(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {name: value.words if isinstance(value, Owner) else value for name, value in pairs}

    return asdict(step, dict_factory=plain)


def save(steps: Sequence[Step], file: str | None) -> None:
    if file:
        text = page(steps)
        with open(open_output(file, HTML), "w", encoding="utf-8") as html:
            html.write(text)
        print(f"{file}: {len(steps)} steps; open it in a browser", file=sys.stderr)
