"""Where in their buffers the bytes of a ring's slots begin: netmap's offsets (NETMAP_REQ_OPT_OFFSETS)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Offsets:
    """Offsets of one ring. mask: the bits of a slot's `ptr` that hold its offset. most: the largest offset, in bytes.

    initial: the offset in each slot of a new ring. received: how many bytes of a frame one buffer takes.
    """

    mask: int
    most: int
    initial: int
    received: int
