"""What a transport hands to another process of the same user: a file with the tail registers of the NIC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

BAR_PAGE = 0x1000
# Emulated NICs keep the pages with tail registers in a file of their own (emulator/engine/doorbells.c).
# Page of BAR0 -> page of that file: RX queues 0..63, RX 64..127, TX 0..63, TX 64..127.
PAGES = {0x01: 0, 0x0D: 1, 0x06: 2, 0x07: 3}


@dataclass(frozen=True)
class DoorbellFile:
    """A file to map, in which a 32-bit store at `place(offset)` writes the tail register at `offset` of BAR0.

    fd: owned by the caller. kept: further descriptors, also the caller's. As long as a process has one of them, no
    other program can open the NIC.
    """

    fd: int
    place: Callable[[int], int]
    kept: tuple[int, ...] = ()


def in_pages(offset: int) -> int:
    """The place of a tail register in the file of an emulated NIC."""
    return PAGES[offset // BAR_PAGE] * BAR_PAGE + offset % BAR_PAGE
