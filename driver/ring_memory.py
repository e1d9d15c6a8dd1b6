"""The rings of another program: its ports are in shared memory that its open files lead to."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ixrings.rings.errors import RegionError
from ixrings.rings.interface import Interface, attach
from ixrings.rings.layout import ring_size

from .errors import PortError
from .window import files_of

REGION = "netmap-region"  # the name of the memory file


def interfaces_of(pid: str) -> Iterator[Interface]:
    """Every port of that program. Raises PortError."""
    try:
        regions = list(files_of(int(pid), REGION))
    except (FileNotFoundError, ValueError):
        raise PortError(f"there is no program with the number {pid}. To list yours: pgrep -fa python") from None
    except PermissionError:
        raise PortError(f"program {pid} is not yours. Run as its user, or as root (sudo)") from None
    found = 0
    for path in regions:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for interface in ports_in(fd):
                found += 1
                yield interface
        finally:
            os.close(fd)
    if not found:
        raise PortError(f"program {pid} has no port open")


def ports_in(fd: int) -> Iterator[Interface]:
    """The ports in a region, one after the other."""
    offset = 0
    while True:
        try:
            interface = attach(fd, offset)
        except RegionError:
            return
        yield interface
        rings = [*interface.tx_rings, *interface.rx_rings]
        if not rings:
            return
        end = max(ring.offset + ring_size(ring.num_slots) for ring in rings)
        if end <= offset:  # shared memory may hold any value
            return
        offset = end
