"""`ixrings glass`: a page in the browser that shows a NIC live: rings, registers, frames, broken rules."""

from __future__ import annotations

import argparse
import shlex
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ..arguments import checked
from ..errors import PortError
from ..names import Kind, PortName, parse_port_name
from ..program import say

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..glass.looks import Look

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

LISTEN = "127.0.0.1:8082"
EPILOG = """\
PORT emulated or emulated:WIRE: an emulated NIC with every part of the page. PROGRAM is started when somebody opens the
page; a port that it opens by open_port() with the same WIRE is the one that is shown. Without PROGRAM, a small one
sends a few frames a second. pid:PID shows the rings of another program of yours, and a PCI address the registers of a
NIC that a driver owns. Both are only looked at.

The address that is printed has a token: who has it sees the page, and may pause the NIC and inject faults.
  ixrings glass emulated:loop
  ixrings glass --paused emulated:loop -- python my_script.py
"""


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "glass",
        help="show a NIC live in a browser",
        description=__doc__,
        usage="ixrings glass [-h] [--listen ADDRESS:PORT] [--paused] [--now] PORT [-- PROGRAM ...]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, program=[])
    parser.add_argument(
        "--listen",
        type=checked(listen_address),
        default=LISTEN,
        metavar="ADDRESS:PORT",
        help=f"where the page is served (default: {LISTEN}, which only this machine reaches); port 0 is any free one",
    )
    parser.add_argument("--paused", action="store_true", help="pause the emulated NIC before the program starts")
    parser.add_argument("--now", action="store_true", help="start PROGRAM at once; do not wait for a reader")
    parser.add_argument("port", metavar="PORT", help="emulated, emulated:WIRE, pid:PID, or a PCI address")


def listen_address(text: str) -> tuple[str, int]:
    from ..glass.server import parse_listen

    return parse_listen(text)


def run(options: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    command: list[str] = options.program
    with ExitStack() as undo:
        from ..glass.server import served

        start: Callable[[], None] | None = None
        name = None if options.port.startswith("pid:") else parse_port_name(options.port)
        if name is not None and name.is_emulated:
            from ..glass.stage import staged

            stage = undo.enter_context(staged(name, options.paused))
            called = shlex.join(command) or "the demo"
            command = command or [sys.executable, "-m", "ixrings.driver.glass.demo", name.text]

            def start_program() -> None:
                stage.start(command, called)

            look: Look = stage.look
            start = start_program
        else:
            if command or options.paused or options.now:
                raise PortError(
                    f"{options.port} is only looked at: leave out --paused, --now and PROGRAM. A program is started on "
                    "an emulated NIC: ixrings glass emulated:loop -- PROGRAM"
                )
            look = look_at(undo, options.port, name)
        history, url = undo.enter_context(served(look, options.listen))
        with suppress(KeyboardInterrupt):  # the normal end
            print(f"Open {url}", flush=True)
            if start is not None:
                if not options.now:
                    say("The program starts when the page is open.")
                    wait(history.opened)
                start()
            wait(threading.Event())
    return 0


def wait(event: threading.Event) -> None:
    """Until the event is set, or Ctrl-C."""
    while not event.wait(1.0):
        pass


def look_at(undo: ExitStack, text: str, name: PortName | None) -> Look:
    """What is shown of another program's port, or of a NIC that a driver owns. Raises PortError, DeviceError."""
    from ..glass.looks import ProgramLook, RegistersLook
    from ..ring_memory import interfaces_of

    if name is None:
        pid = text.removeprefix("pid:")
        return ProgramLook(text, list(interfaces_of(pid)), pid)
    if name.kind in (Kind.NETMAP, Kind.VFIO_USER):
        raise PortError(
            f"the registers of {text} belong to another program. Show its rings: ixrings glass pid:PID (pgrep -fa "
            "python lists your programs)"
        )
    from ixrings.hw.pci.discovery import look_up

    from .peek import held_by, peek

    function = look_up(name.target)
    if not held_by(function):
        raise PortError(
            f"no driver owns {function.address}, and ixrings glass opens no real NIC, because that would reset it. "
            "Start a program on it, then run this again"
        )
    seen = undo.enter_context(peek(text))
    from .regs import everything

    table = type(seen.registers)
    offsets = [entry.offset for entry in everything(table)]

    def words() -> npt.NDArray[np.uint32]:
        import numpy as np

        seen.registers.check_present("the NIC")
        found = np.zeros(max(offsets) // 4 + 1, np.uint32)
        for offset in offsets:
            found[offset >> 2] = seen.registers.space.read32(offset)
        return found

    return RegistersLook(text, seen.holder, table, words)
