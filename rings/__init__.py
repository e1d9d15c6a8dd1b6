"""netmap-shaped packet rings in shared memory, and the C loop that syncs them with an 82599's queues.

`Region` is the memory, and `Interface` is a port's rings in it. An application works with `TxRing`, `RxRing` and
`Span`. `hotloop` turns slots into descriptors and back. Nothing here reaches a device: the driver passes addresses in.
"""

if __name__ != "ixrings.rings":  # the root of a checkout is on sys.path
    raise ImportError("import ixrings, not rings: the folder rings/ is the package ixrings.rings")

from .context import L4, Context
from .copying import Add, Read, Write
from .errors import RegionError, RingError
from .interface import Interface, attach
from .region import Region
from .ring import Ring, RxRing, Span, TxRing
from .rules import Rule

__all__ = [
    "L4",
    "Add",
    "Context",
    "Interface",
    "Read",
    "Region",
    "RegionError",
    "Ring",
    "RingError",
    "Rule",
    "RxRing",
    "Span",
    "TxRing",
    "Write",
    "attach",
]
