"""`ixrings run`: start a netmap program that uses the daemon's ports through /dev/netmap."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import ixrings.rings
from ixrings.rings.errors import LibraryError

from ..daemon.ask import default_socket
from ..errors import PortError
from ..program import say
from .executable import Executable, examine

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

LIBRARY = Path(ixrings.rings.__path__[0]) / "shim" / "libnetmap_shim.so"
EPILOG = """\
PROGRAM is a program for netmap, unchanged: ixrings run pkt-gen -i netmap:ix0 -f tx. The programs that it starts use
the daemon, too. A library that answers in place of netmap is preloaded, so PROGRAM cannot be statically linked.
"""


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "run",
        help="run a netmap program on the daemon's ports",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--socket", metavar="PATH", default="", help="the daemon's socket (default: as for ixrings daemon)"
    )
    parser.add_argument("program", metavar="PROGRAM", help="a program's name or path")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments")


def run(options: argparse.Namespace) -> int:
    """Becomes the program. Raises PortError, LibraryError, OSError."""
    if not LIBRARY.exists():
        raise LibraryError(f"{LIBRARY.name} is not built for this machine. Run: pip install -e .")
    path = shutil.which(options.program)
    if path is None:
        raise PortError(
            f"{options.program} was not found as a program that may be executed. Write its path, such as ./pkt-gen"
        )
    refuse_or_warn(examine(path))
    socket = os.path.abspath(options.socket or default_socket())
    check_daemon(socket)
    os.environ["IXRINGS_SOCKET"] = socket
    # Last: some libraries, such as libasan, must be the first.
    os.environ["LD_PRELOAD"] = ":".join(filter(None, (os.environ.get("LD_PRELOAD"), preloadable(LIBRARY))))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec() would keep that
        signal.signal(number, signal.SIG_DFL)
    os.execv(path, [options.program, *options.arguments])


def refuse_or_warn(program: Executable) -> None:
    """Raises PortError for a program into which nothing can be preloaded."""
    if program.why_not:
        raise PortError(f"{program.why_not}. Only a dynamically linked program can use the daemon's netmap this way")
    if program.is_go:
        say(
            f"ixrings run: {program.path} is a Go program: its own system calls do not reach the daemon, only those "
            "of C libraries that it uses"
        )


def check_daemon(socket: str) -> None:
    """Raises PortError unless a daemon listens at `socket`, and lets this user in."""
    from ..daemon.ask import connect

    connect(socket).close()


def preloadable(library: Path) -> str:
    """A path without spaces and colons to the library. Raises LibraryError."""
    if not any(character in " :" for character in str(library)):
        return str(library)
    raise LibraryError(
        f"LD_PRELOAD takes no path with a space or a colon, and the library is at {library}. "
        "Install ixrings at another path"
    )
