"""The `ixrings` command: one module a command, listed here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ixrings.driver.errors import PortError
from ixrings.hw.errors import DeviceError
from ixrings.rings import RegionError, RingError
from ixrings.rings.errors import LibraryError

from . import emulate, nic, port, regs, ring, sfp, stats, trace

# Each has `add(subparsers)`; its parser's default `run` does it and gives the exit status.
COMMANDS = (nic, port, regs, stats, sfp, ring, trace, emulate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 with a sentence on stderr when something cannot be done, 2 for wrong usage, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="ixrings", description="An Intel 82599, real or emulated.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers)
    options, rest = parser.parse_known_args(arguments)
    if rest:  # argparse takes a list of names in one piece only: `regs emulated --diff RX*` has an option in between
        if not hasattr(options, "names") or any(word.startswith("-") for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.names += rest
    try:
        return int(options.run(options))
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return 1
    except (DeviceError, PortError, RegionError, RingError, LibraryError, ValueError, OSError) as error:
        print(f"ixrings: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
