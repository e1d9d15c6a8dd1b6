"""When frames leave the software 82599, in byte times of its wire: `nic.record_departures()`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..device import Device
from .engine.library import Engine

DEPARTURE = np.dtype([("position", "<u8"), ("bytes", "<u4"), ("queue", "<u2"), ("damaged", "<u2")])  # as in nic.h


class Departures:
    """A record of the next `room` frames that one NIC's queues put on its wire. The engine writes it.

    On a paced wire a position is the NIC's clock, in byte times of 0.8 ns. An unpaced wire has no time of its own:
    there each frame begins where the frame before it ended. Pause frames, which the MAC sends, are not in the record.
    """

    def __init__(self, engine: Engine, room: int) -> None:
        if room < 1:
            raise ValueError(f"a record has room for 1 frame or more, not {room}")
        self._engine = engine
        self._records = np.zeros(room, DEPARTURE)
        self._count: int | None = None  # of a record that has ended
        with engine.frozen():
            engine.call("nic_record_departures", self._records.ctypes.data, room)

    def frames(self) -> npt.NDArray[np.void]:
        """The frames so far in the order of the wire, one row each.

        position: where its preamble began, in bytes since the first frame's preamble. bytes: its length with CRC;
        preamble and the least gap add 20 bytes of wire. queue: that sent it. damaged: 1 if its CRC is wrong, else 0.
        """
        frames: npt.NDArray[np.void] = self._records[: min(self.count, len(self._records))]
        frames = frames[np.argsort(frames["position"], kind="stable")]  # a queue with a rate may use earlier wire time
        if len(frames):
            frames["position"] -= frames["position"][0]
        return frames

    @property
    def count(self) -> int:
        """Frames that have left, also those that the record had no room for."""
        if self._count is not None:
            return self._count
        with self._engine.frozen():
            return self._engine.call("nic_departure_count")

    @property
    def lost(self) -> int:
        """Frames that have left after the record was full."""
        return max(0, self.count - len(self._records))

    def end(self) -> None:
        """Record nothing any more. The frames stay."""
        if self._count is None:
            self._count = self.count
            with self._engine.frozen():
                self._engine.call("nic_record_departures", None, 0)


class RecordsDepartures(Device):
    """A part of Emulated82599, which makes the engine."""

    _engine: Engine
    _departures: Departures | None = None  # the engine writes it

    def record_departures(self, room: int = 1 << 16) -> Departures:
        """Record when the next `room` frames leave. A record that was begun before ends. Raises ValueError."""
        self._check_open()
        self._end_departures()
        self._departures = Departures(self._engine, room)
        return self._departures

    def _end_departures(self) -> None:
        if self._departures is not None:
            self._departures.end()
