"""Why nothing moves. Waits that end with nothing look for the cause once a second (driver/README.md, contract 3).

A cause that lasts until the port is opened again ends the wait with PortStuck. A cause that may pass (the cable is
out, the other end pauses) does not: Port.link and the error of flush() name it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeAlias

from ixrings.rings.queue import RxQueue, TxQueue

from .errors import PortStuck
from .function import Function
from .queue_registers import QueueRegisters

LOOK_S = 1.0
State: TypeAlias = "tuple[tuple[int, int], ...]"


class Standstill:
    """Looks at some queues of one port while nothing moves. For the thread that waits for them."""

    def __init__(self, function: Function, queues: Sequence[TxQueue | RxQueue]) -> None:
        self._function, self._queues = function, queues
        self._due_at = 0.0
        self._state: State = ()
        self._suspicion = ""

    def look(self) -> None:
        """Call it after a wait that found nothing. It costs one read of the clock, except once a second.

        Raises PortStuck, DeviceGone.
        """
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + LOOK_S
        before, self._state = self._state, self._now()
        if before != self._state:
            self._suspicion = ""
            return
        device, link = self._function.device, self._function.link()
        if link.lost:
            raise PortStuck(f"{device.name} carries no more frames: {link.reason}. {AGAIN}")
        # A write-back may be on its way at one look, but not at two looks a second apart.
        suspected, self._suspicion = self._suspicion, missing_write_back(self._function.queues, self._queues)
        if suspected and suspected == self._suspicion:
            raise PortStuck(f"{device.name} sends no more frames: {suspected}")

    def _now(self) -> State:
        """What changes when a frame moves, or when the program sends."""
        return tuple((int(queue.packets), int(queue.ring.head)) for queue in self._queues)


AGAIN = "Close the port and open it again"


def missing_write_back(nic: QueueRegisters, queues: Sequence[TxQueue | RxQueue]) -> str:
    """The queue whose head write-back does not arrive, in words, or "".

    The word in memory is read, because a program that only receives leaves sent slots on the ring: they are pending
    until its next txsync. ASSUMPTION (datasheet silent): head write-back follows TDH within a second, also while the
    other end pauses.
    """
    for queue in queues:
        if not isinstance(queue, TxQueue) or queue.held or not queue.ring.pending:
            continue
        ring = queue.ring
        if nic.TDH[ring.ringid].read() == nic.TDT[ring.ringid].read() != queue.written_head:
            return (
                f"queue {ring.ringid} has sent them (TDH is TDT), but its head write-back does not arrive (82599 "
                f"7.2.3.5.2). {AGAIN}"
            )
    return ""
