"""What a program sees of a software 82599 without using it, and how it lets its time stand still.

Nothing here is an access of a driver: no register changes, no rule is checked.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..device import Device
from ..registers import QUEUES, Registers
from .engine.library import Engine

SEEN, SEEN_BYTES = 1024, 128  # frames that are kept, and bytes of each: watch.c
RECORD = np.dtype([("time_ns", "<u8"), ("length", "<u4"), ("leaves", "<u4"), ("bytes", "u1", SEEN_BYTES)])


@dataclass(frozen=True)
class SeenFrame:
    """A frame at the wire. time_ns: of the NIC's clock. length: without CRC. data: the first SEEN_BYTES of it."""

    number: int
    time_ns: int
    leaves: bool
    length: int
    data: bytes


class Watching(Device):
    """A part of Emulated82599, which makes everything that is named here."""

    _engine: Engine
    _manual: bool  # as created: time passes only in step(), whether paused or not
    _paused = False

    # ---- time ----

    @property
    def paused(self) -> bool:
        """Whether the NIC stands still until go_on() or step()."""
        return self._paused

    def pause(self) -> None:
        """The NIC's clock stands still. Drivers may still read and write registers; frames move only in step().

        A driver that waits for the NIC waits in its own time: its timeouts go on.
        """
        self._check_open()
        with self._engine.frozen():
            if not self._paused:
                self._paused = True
                if not self._manual:
                    self._engine.call("nic_pause")

    def go_on(self) -> None:
        """End pause(). The clock goes on from where it stands."""
        self._check_open()
        with self._engine.frozen():
            if self._paused:
                self._paused = False
                if not self._manual:
                    self._engine.call("nic_go_on")

    # ---- looking ----

    def watch_wire(self, on: bool) -> None:
        """Keep the last SEEN frames at the wire from now on, or no more. Raises MemoryError."""
        self._check_open()
        with self._engine.frozen():
            kept = self._engine.call("nic_watch", on)
        if not kept:
            raise MemoryError("no memory for the last frames at the wire")

    def frames_seen(self, since: int) -> tuple[int, list[SeenFrame]]:
        """The number of frames since watch_wire(True), and those from number `since` on that are still kept.

        A frame that comes back over the wire `loop` is seen once, when it leaves.
        """
        self._check_open()
        records = np.zeros(SEEN, RECORD)
        with self._engine.frozen():
            count = self._engine.call("nic_seen", records.ctypes.data)
        frames = []
        for number in range(max(since, count - SEEN), count):
            record = records[number % SEEN]
            length = int(record["length"])
            data = record["bytes"].tobytes()[:length]
            frames.append(SeenFrame(number, int(record["time_ns"]), bool(record["leaves"]), length, data))
        return count, frames

    def register_words(self) -> npt.NDArray[np.uint32]:
        """A copy of BAR0, with the counters and the heads as a driver would read them; word i is at offset 4 * i."""
        self._check_open()
        with self._engine.frozen():
            self._engine.call("nic_flush_counters")
            words = np.array(self._engine.registers, dtype=np.uint32)
            for heads, head in ((Registers.TDH, "nic_tx_head"), (Registers.RDH, "nic_rx_head")):
                for queue in range(QUEUES):
                    words[heads.offset(queue) >> 2] = self._engine.call(head, queue)
        return words

    def peek_memory(self, queue: int, iova: int, size: int) -> bytes | None:
        """Memory of the function that has the queue; None where the NIC reaches no memory, or only by messages."""
        self._check_open()
        buffer = ctypes.create_string_buffer(size)
        return buffer.raw if self._engine.call("nic_peek", queue, iova, ctypes.addressof(buffer), size) else None
