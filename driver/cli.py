"""The `ixrings` command: one module a command, listed here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hw.register import DeviceError

from . import cli_emulate, cli_nic, cli_port, cli_trace
from .errors import PortError

COMMANDS = (cli_nic, cli_port, cli_trace, cli_emulate)  # each has `add(subparsers)`; its parser's default `run` does it and gives the exit status


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 with a sentence on stderr when something cannot be done, 2 for wrong usage, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="ixrings", description="An Intel 82599, real or emulated.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (DeviceError, PortError, ValueError, OSError) as error:
        print(f"ixrings: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
