"""Posted writes of tail registers: those that wait in the socket act as the last one to each tail.

A driver may write a tail far more often than frames move: again and again while its ring is full, or once a frame. Only
the last value says something to a NIC that has not read the others yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError
from ..registers import BAR0_SIZE, Registers
from . import protocol as p
from .protocol import WORD, Channel, Command, Region
from .regions import Function, access_line

FEW = 4  # messages that are faster handled one at a time than all at once
MANY = 256  # messages that are looked at at once: most of what a socket holds, and a bound for each look
FLOOD = 8  # superseded writes in a turn
GATHER_S = 20e-6

# A posted write of one register: header, place, value.
POSTED_WRITE = np.dtype(
    [
        ("id", "<u2"),
        ("command", "<u2"),
        ("size", "<u4"),
        ("flags", "<u4"),
        ("error", "<u4"),
        ("offset", "<u8"),
        ("region", "<u4"),
        ("count", "<u4"),
        ("value", "<u4"),
    ]
)
POSTED = {
    "command": Command.REGION_WRITE,
    "size": POSTED_WRITE.itemsize,
    "flags": p.NO_REPLY,
    "region": Region.BAR0,
    "count": 4,
}
HEAD, OFFSET = slice(2, 16), slice(16, 24)  # of a message's bytes: its header without the id; offset in the region
POSTED_HEAD = p.HEADER.pack(0, Command.REGION_WRITE, POSTED_WRITE.itemsize, p.NO_REPLY, 0)[HEAD]
TAILS = frozenset(
    row.offset(index) for row in Registers.rows() if row.name in ("RDT", "TDT") for index in range(row.count)
)
IS_TAIL = np.isin(np.arange(0, BAR0_SIZE, 4), list(TAILS))  # by offset / 4


class PostedTails:
    """The last posted value of each tail, until `settle` writes it to the NIC.

    Rules see only this value; the tracer and injected faults, which count accesses, see all. each_tail, trace: as in
    Server.
    """

    def __init__(self, nic: Function, trace: Callable[[str], None] | None, *, each_tail: bool) -> None:
        self._nic, self._trace, self._each_tail = nic, trace, each_tail
        self._last: dict[int, int] = {}
        self._superseded = 0

    def note(self, offset: int, region: int, value: bytes) -> bool:
        """Keep a posted write of a tail. False: it is another write, so it has to be carried out now."""
        if self._each_tail or region != Region.BAR0 or offset not in TAILS or len(value) != WORD.size:
            return False
        self._keep([(offset, int.from_bytes(value, "little"))])
        return True

    def _keep(self, writes: list[tuple[int, int]]) -> None:
        waited = len(self._last)
        self._last.update(writes)
        superseded = len(writes) - (len(self._last) - waited)
        self._nic.injected.count_access(superseded)
        self._superseded += superseded

    def take(self, channel: Channel) -> None:
        """Take the posted writes of tails at the front of the received bytes, all at once."""
        received = channel.received
        count = min(len(received) // POSTED_WRITE.itemsize, MANY)
        # A look at the first message alone: a stream of other messages pays for no more.
        if (
            self._each_tail
            or count < FEW
            or received[HEAD] != POSTED_HEAD
            or int.from_bytes(received[OFFSET], "little") not in TAILS
        ):
            return
        messages = np.frombuffer(received, POSTED_WRITE, count)
        others = np.flatnonzero(~are_posted_tails(messages))
        messages = messages[: others[0] if len(others) else count]
        channel.skip(messages.nbytes)
        writes = list(zip(messages["offset"].tolist(), messages["value"].tolist()))
        if self._trace:
            for offset, value in writes:
                self._trace(access_line("W", Region.BAR0, offset, WORD.size, value))
        self._keep(writes)

    def settle(self) -> None:
        """Write the tails to the NIC. The writes were posted, so nobody is told of an error."""
        while self._last:
            offset, tail = self._last.popitem()
            with suppress(DeviceError):
                self._nic.write32(offset, tail)

    def end_turn(self) -> None:
        """All received messages were handled: write the tails. In a flood, wait a moment while more of it gathers: the
        engine needs the processor now, and reading the flood without end would take it.
        """
        self.settle()
        if self._superseded >= FLOOD:
            time.sleep(GATHER_S)
        self._superseded = 0


def are_posted_tails(messages: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """For each message, whether it is a posted write of one tail register."""
    alike = messages["offset"] < BAR0_SIZE
    for name, value in POSTED.items():
        alike &= messages[name] == value
    alike[alike] = IS_TAIL[messages["offset"][alike] // 4] & (messages["offset"][alike] % 4 == 0)
    return alike
