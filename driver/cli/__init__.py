"""The `ixrings` command. Each subcommand is a module, listed here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..program import run as run_to_its_end
from ..program import status_of
from . import daemon, emulate, extcap, glass, nic, port, regs, ring, run, sfp, stats, top, trace, vf

NAME = "ixrings"
# Each module has add(subparsers). It sets `run` of its parser: run(options) does the work and returns the exit status.
COMMANDS = (nic, port, regs, stats, top, sfp, ring, glass, trace, emulate, vf, daemon, run, extcap)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, 1 after an error (one sentence on stderr), 2 for wrong usage, 130 after Ctrl-C."""
    return status_of(lambda: command(arguments), NAME)


def program() -> NoReturn:
    """The `ixrings` command as a process. Signals end it, and it may lose the reader of its output."""
    run_to_its_end(command, NAME)


def command(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments ask for. Returns the exit status; raises the errors of driver/program.py."""
    parser = argparse.ArgumentParser(prog=NAME, description="An Intel 82599, real or emulated.")
    parser.add_argument("--version", action="version", version=f"ixrings {sys.modules['ixrings'].__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for each in COMMANDS:
        each.add(subparsers)
    words = list(sys.argv[1:] if arguments is None else arguments)
    program: list[str] = []
    if words[:1] == ["glass"] and "--" in words:  # argparse would take options between PORT and -- for PROGRAM's
        at = words.index("--")
        words, program = words[:at], words[at + 1 :]
    options, rest = parser.parse_known_args(words)
    if rest:  # argparse takes a list of names only in one piece; in `regs emulated --diff RX*` an option splits it
        if not hasattr(options, "names") or any(word.startswith("-") for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.names += rest
    if program:
        options.program = program
    return int(options.run(options))
