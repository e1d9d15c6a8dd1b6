"""The frames that a port receives, however late a busy machine delivers them."""

from __future__ import annotations

from itertools import islice

from ixrings import Port

PATIENCE_S = 30.0
MORE_S = 0.05


def came(port: Port, count: int) -> list[bytes]:
    """Wait for `count` frames, then a moment for frames that should not come. Returns all of them."""
    return [*islice(port.recv(PATIENCE_S), count), *port.recv(MORE_S)]
