"""How many queues the 82599 has, and where the registers of each queue are."""

from __future__ import annotations

from ..register import Run

QUEUES = 128  # receive queues, and as many transmit queues
COUNTERS = 16  # sets of statistics counters that queues are mapped to


def rx_queue(first: int) -> tuple[Run, Run]:
    """Receive queues 0 to 63 have their registers from 0x1000 on, queues 64 to 127 from 0xD000 on."""
    return Run(first, 0x40, 64), Run(first + 0xC000, 0x40, 64, index=64)


def tx_queue(first: int) -> Run:
    """Transmit queues have their registers in one array from 0x6000 on."""
    return Run(first, 0x40, QUEUES)
