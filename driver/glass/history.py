"""The moments: numbered, bounded, and the thread that takes them while somebody looks."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ixrings.hw.errors import DeviceError

from ..errors import ERRORS
from .looks import Look, Moment, Order, since

MOMENTS = 600
BYTES = 16 << 20  # of all moments, as JSON
STOP_S = 5.0


@dataclass
class Kept:
    """rest: the moment as JSON without its rings. rings: as JSON, "" if they are as in the moment before."""

    number: int
    rest: str
    rings: str

    @property
    def size(self) -> int:
        return len(self.rest) + len(self.rings)

    def text(self) -> str:
        rings = f',"rings":{self.rings}' if self.rings else ""
        return f"{self.rest[:-1]}{rings}}}"


class History:
    """Moments of one Look. Any thread may call every method. Nothing is looked at while nobody looks."""

    def __init__(self, look: Look) -> None:
        self.subject = look
        self._start = time.monotonic()
        self._kept: deque[Kept] = deque()
        self._size = 0
        self._next = 1
        self._last: tuple[str, str] | None = None  # rings and state of the last moment
        self._broken = 0
        self.readers = 0
        self._watching = False
        self.ended = ""  # a sentence, when there is nothing to see any more
        self._changed = threading.Condition()
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self.opened = threading.Event()  # somebody has looked
        self._thread = threading.Thread(target=self._run, name="glass", daemon=True)
        self._thread.start()

    # ---- taking moments ----

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self.readers or self._watching)
            if self._stopping:
                return
            if not self.readers:
                self._watch(False)
                continue
            self._watch(True)
            began = time.monotonic()
            self.take()
            self.opened.set()
            took = time.monotonic() - began
            self._wake.wait(max(self.subject.every_s, 4 * took))  # looks take a fifth of the time at most
            self._wake.clear()

    def _watch(self, on: bool) -> None:
        if on != self._watching:
            with self._looking:
                self.subject.watched(on)
            self._watching = on

    def take(self) -> None:
        """Look now, and keep the moment if anything is new."""
        with self._looking:
            if self.ended:
                return
            try:
                self._keep(self.subject.look())
            except (*ERRORS, OSError, ValueError) as error:
                self._end(str(error))
            except Exception as error:  # a defect: the page says so, and the terminal shows where
                self._end(f"ixrings glass has a defect: {error!r}")
                raise

    def _keep(self, moment: Moment) -> None:
        rings = json.dumps(moment.pop("rings"), separators=(",", ":"))
        broken = moment.pop("broken", [])
        assert isinstance(broken, list)
        new_broken = broken[self._broken :] if len(broken) >= self._broken else broken
        state = {**dict(moment.pop("state")), "broken": len(broken)}  # type: ignore[call-overload]
        clockless = json.dumps(state, sort_keys=True)
        if self._last == (rings, clockless) and not any(moment.values()):
            return
        same = self._last is not None and self._last[0] == rings
        self._last, self._broken = (rings, clockless), len(broken)
        moment = {"n": self._next, "s": since(self._start), **moment, "broken": new_broken, "state": state}
        self._append(json.dumps(moment, separators=(",", ":")), "" if same else rings)

    def _append(self, rest: str, rings: str) -> None:
        with self._changed:
            self._kept.append(Kept(self._next, rest, rings))
            self._size += self._kept[-1].size
            self._next += 1
            while len(self._kept) > MOMENTS or (self._size > BYTES and len(self._kept) > 1):
                gone = self._kept.popleft()
                self._size -= gone.size
                first = self._kept[0]
                if not first.rings:
                    first.rings = gone.rings
                    self._size += len(gone.rings)
            self._changed.notify_all()

    def _end(self, why: str) -> None:
        with self._changed:
            self.ended = why or "the port is closed"
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """Take the last moment; there is nothing to see after it."""
        self.take()
        with self._looking:
            self._end(why)

    # ---- readers ----

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Somebody looks inside `with`."""
        with self._changed:
            self.readers += 1
            self._changed.notify_all()
        self._wake.set()
        try:
            yield
        finally:
            with self._changed:
                self.readers -= 1
                self._changed.notify_all()

    def after(self, number: int, timeout_s: float) -> tuple[list[str], int, str]:
        """The moments after `number` as JSON, the number of the last one, and why there will be no more ("").

        Waits up to timeout_s for the first. A reader who has not read for long misses those that were dropped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._next - 1 > number or self.ended or self._stopping, timeout_s)
            found = [each for each in self._kept if each.number > number]
            return [each.text() for each in found], self._next - 1, self.ended

    def act(self, order: Order) -> int:
        """Carry out an order, and take the moment after it. Returns its number. Raises PortError, DeviceError."""
        if self.ended:
            raise DeviceError(f"Nothing can be done any more: {self.ended}")
        with self._looking:
            self.subject.act(order)
        self.take()
        return self._next - 1

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._wake.set()
        self._thread.join(STOP_S)
