"""The rate of a transmit queue, which the NIC keeps: one way to write it, for a port's queues and for those of VFs."""

from __future__ import annotations

from .registers import Registers

SPEEDS_MBPS = {1: 100, 2: 1_000, 3: 10_000}  # LINKS.SPEED: the link's speed, which a rate is a part of
FACTOR_ONE = 1 << 14  # RF_INT counts whole links per rate, RF_DEC 1/16384
MOST_FACTOR = 1024 * FACTOR_ONE - 1
MAKES_UP_KB = 4  # RTTBCNRM.MMW_SIZE for frames of usual length, as Linux and DPDK have it


def write_rate(nic: Registers, queue: int, mbps: float | None, link_mbps: int) -> None:
    """At most mbps from this queue; None, or the link's speed and more: no limit (82599 8.2.3.10.13, 8.2.3.10.16).

    The queue is chosen in one register and its rate is written to another, so one thread at a time may call it.
    """
    nic.RTTDQSEL.write(TXDQ_IDX=queue)
    if mbps is None or mbps >= link_mbps:
        nic.RTTBCNRC.write(0)
    else:
        factor = min(int(link_mbps / mbps * FACTOR_ONE), MOST_FACTOR)
        nic.RTTBCNRC.write(RS_ENA=1, RF_INT=factor // FACTOR_ONE, RF_DEC=factor % FACTOR_ONE)
