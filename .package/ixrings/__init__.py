"""A Python driver for the Intel 82599: open_port() gives netmap-shaped rings.

    from ixrings import open_port

    with open_port("emulated") as port:
        port.send([bytes(60)])

This folder gives the packages their installed names: ixrings.driver is the folder driver/, ixrings.hw is hw/, and
ixrings.rings is rings/.
"""

from pathlib import Path

__version__ = "0.2.0"  # pyproject.toml reads it from here

# In a checkout, the folders driver, hw and rings here are links. Modules are loaded from the targets of the links, so
# that tracebacks and debuggers name the real files.
__path__.insert(0, str(Path(__file__).with_name("driver").resolve().parent))

from ixrings.driver import *  # noqa: E402, F403  # after __path__; the exported names are those of __all__
from ixrings.driver import __all__ as __all__  # noqa: E402
