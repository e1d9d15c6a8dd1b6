"""An emulated 82599 that records every register access (record.py)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.fields import CTRL
from ixrings.hw.register import ALL_ONES
from ixrings.hw.registers import Registers

from .record import Record


@dataclass(frozen=True)
class Pace:
    """How fast a slow NIC works: a step of at most `frames` frames each `every_s`, and none within `after_tail_s` after
    a tail write."""

    every_s: float
    frames: int = 64
    after_tail_s: float = 0.0


class WatchedNic(Emulated82599):
    """record: of its accesses. received: frames by queue, over all resets."""

    def __init__(self, wire: str, *, mac: bytes, link_up_s: float, pace: Pace | None) -> None:
        self.record = Record(self, super().read32)
        self.received: list[int] = [0] * 16
        self._stopping = threading.Event()
        self._pump: threading.Thread | None = None
        super().__init__(wire, mac=mac, link_up_s=link_up_s, manual=pace is not None)
        if pace is not None:
            self._pump = threading.Thread(target=self._run, args=(pace,), name="pace")
            self._pump.start()

    def _run(self, pace: Pace) -> None:
        before = time.monotonic()
        while not self._stopping.wait(pace.every_s):
            now = time.monotonic()
            if now - self.record.last_tail >= pace.after_tail_s and not self.paused:
                self.step(pace.frames, int((now - before) * 1e9))
                before = now

    def read32(self, offset: int, /) -> int:
        value = super().read32(offset)
        place = Registers.find(offset)
        if place is not None and place.row.name == "QPRC":
            self.received[place.index] += value  # reading clears it
        self.record.note(False, offset, value)
        return value

    def write32(self, offset: int, value: int, /) -> None:
        if offset == Registers.CTRL.offset() and CTRL(value & ALL_ONES).RST | CTRL(value & ALL_ONES).LRST:
            self._save_counters()
        self.record.note(True, offset, value)
        super().write32(offset, value)

    def reset(self) -> None:
        """Called by the server when the script has closed the NIC."""
        self._save_counters()
        super().reset()

    def _save_counters(self) -> None:
        """Add the queue counters to `received` before a reset clears them."""
        for queue in range(len(self.received)):
            self.received[queue] += super().read32(Registers.QPRC.offset(queue))

    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        self.record.check_room(size)
        super().map_dma_at(iova, size, fd, offset, readable=readable, writable=writable)
        self.record.mapped(iova, size, fd, offset)

    def unmap_dma_range(self, iova: int, size: int) -> None:
        super().unmap_dma_range(iova, size)
        self.record.unmapped(iova, size)

    def unmap_dma_all(self) -> None:
        super().unmap_dma_all()
        self.record.unmapped()

    def close(self) -> None:
        self._stopping.set()
        if self._pump is not None:
            self._pump.join()
            self._pump = None
        super().close()
        self.record.unmapped()
