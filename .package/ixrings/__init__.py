"""A Python driver for the Intel 82599: open_port() gives netmap-shaped rings.

    from ixrings import open_port

    with open_port("emulated") as port:
        port.send([bytes(60)])

This folder gives the packages their installed names: ixrings.driver is the folder driver/, ixrings.hw is hw/, and
ixrings.rings is rings/.
"""

import signal
import sys

# While the `ixrings` command loads its modules, Ctrl-C ends it without a traceback; driver/program.py handles it later.
# A program that imports this package keeps its signals. `python -m` has the name of the module in orig_argv only.
if sys.argv[0].rpartition("/")[2] == "ixrings" or (sys.argv[0] == "-m" and "ixrings" in sys.orig_argv):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path  # after the lines above: it takes milliseconds to load

__version__ = "0.2.0"  # pyproject.toml reads it from here

# In a checkout, the folders driver, hw and rings here are links. Modules are loaded from the targets of the links, so
# that tracebacks and debuggers name the real files.
__path__.insert(0, str(Path(__file__).with_name("driver").resolve().parent))

from ixrings.driver import *  # noqa: E402, F403  # after __path__; the exported names are those of __all__
from ixrings.driver import __all__ as __all__  # noqa: E402
