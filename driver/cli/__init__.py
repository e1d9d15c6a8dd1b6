"""The `ixrings` command. Each subcommand is a module, listed here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import ERRORS
from . import emulate, nic, port, regs, ring, sfp, stats, trace

# Each module has add(subparsers). It sets `run` of its parser: run(options) does the work and returns the exit status.
COMMANDS = (nic, port, regs, stats, sfp, ring, trace, emulate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, 1 after an error (one sentence on stderr), 2 for wrong usage, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="ixrings", description="An Intel 82599, real or emulated.")
    parser.add_argument("--version", action="version", version=f"ixrings {sys.modules['ixrings'].__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers)
    options, rest = parser.parse_known_args(arguments)
    if rest:  # argparse takes a list of names only in one piece; in `regs emulated --diff RX*` an option splits it
        if not hasattr(options, "names") or any(word.startswith("-") for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.names += rest
    try:
        return int(options.run(options))
    except BrokenPipeError:  # the reader, such as `| head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except (*ERRORS, ValueError, OSError) as error:
        print(f"ixrings: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
