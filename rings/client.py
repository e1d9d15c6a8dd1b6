"""A program's side of a handle of the daemon: syncs and polls through its control pages (control.h, client.h).

A request is a word in shared memory, which the daemon's service thread answers. A quick call spins for the answer and
keeps the GIL. If the daemon sleeps or is busy, a patient call waits in the kernel, without the GIL; it returns a few
times a second, so that signals are handled.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import cast

import numpy as np

from .errors import LibraryError, RingError
from .library import another_version
from .queue import RULES, pointers, without_gil
from .ring import RxRing, TxRing
from .service import CONTROL_VERSION, EVENT_ERROR, EVENT_RX, EVENT_TX, PAGE, Answer, Answers, service_library

__all__ = ["EVENT_ERROR", "EVENT_RX", "EVENT_TX", "Client", "ClientForward"]

SPINS, RETURNS = 1, 2  # CLIENT_ of client.h
AGAIN = (errno.EAGAIN, errno.EINTR)


class ClientState(ctypes.Structure):
    """struct client in client.h."""

    _fields_ = [
        ("asks", ctypes.c_uint64),
        ("answers", ctypes.c_uint64),
        ("kick", ctypes.c_int),
        ("spin_ns", ctypes.c_uint64),
        ("socket", ctypes.c_int),
        ("patience", ctypes.c_uint32),
    ]


class RingPair(ctypes.Structure):
    """struct client_pair in client_rings.c."""

    _fields_ = [
        ("rx", ctypes.c_uint64),
        ("tx", ctypes.c_uint64),
        ("rx_slots", ctypes.c_uint32),
        ("tx_slots", ctypes.c_uint32),
    ]


class Client:
    """The control pages of one handle. asks, answers: their memfds, mapped here; the caller may close them.

    kick, socket: descriptors of the handle, which stay the caller's. rings: to name a ring that broke a rule. Every
    call raises `ended()` when the daemon has ended or has taken the port away. Raises OSError, ValueError for a page of
    another version.
    """

    def __init__(
        self, asks: int, answers: int, kick: int, socket: int, spin_ns: int, ended: Callable[[], Exception]
    ) -> None:
        self._asks = mmap.mmap(asks, PAGE)
        self._answers = mmap.mmap(answers, PAGE, prot=mmap.PROT_READ)
        self.page = Answers.from_buffer_copy(self._answers)
        if self.page.version != CONTROL_VERSION:
            raise ValueError(f"the control page has version {self.page.version}, not {CONTROL_VERSION}")
        places = [int(np.frombuffer(page, np.uint8).ctypes.data) for page in (self._asks, self._answers)]
        self._states = [ClientState(*places, kick, spin_ns, socket, patience) for patience in (SPINS, RETURNS)]
        self.quick, self.patient = (ctypes.byref(state) for state in self._states)
        self.words = memoryview(self._answers).cast("Q")
        self._ended = ended
        self._poll = patient("client_poll")

    @property
    def closed(self) -> bool:
        """Whether the daemon has taken the port away, or has ended in order."""
        return bool(self.words[Answers.closed.offset // 8] >> 8 * (Answers.closed.offset % 8) & 0xFFFF_FFFF)  # type: ignore[attr-defined]

    def end(self) -> None:
        """Use the descriptors no more: they are about to be closed."""
        for state in self._states:
            state.kick = state.socket = -1

    def check(self, error: int) -> None:
        """Raise the error that a call returned. Returns if the call should be made again."""
        if error not in AGAIN:
            raise self._ended()

    def poll(self, events: int) -> int:
        """netmap's poll() without its wait: sync, return which of `events` are ready, and arm the others."""
        while True:
            ready = self._poll(self.patient, events)
            if ready >= 0:
                return ready
            self.check(-ready)

    @property
    def violations(self) -> tuple[int, ...]:
        """Other values after each broken rule of this handle."""
        return tuple(self.words[place] for place in VIOLATIONS_AT.values())

    def last_violation(self, side: str) -> Answer:
        """What the daemon last wrote about a broken rule of a direction, "tx" or "rx"."""
        return cast(Answer, getattr(Answers.from_buffer_copy(self._answers), side))


class ClientSync:
    """Syncs all rings of one direction of a handle. A call returns False: there is nothing to look after.

    Raises RingError if the program has broken a rule: that ring was reset. Raises LibraryError for an unknown rule.
    """

    side = ""
    function = ""

    def __init__(
        self, client: Client, rings: Sequence[TxRing | RxRing], inside: AbstractContextManager[object]
    ) -> None:
        """inside: is entered while a call waits without the GIL, so that nobody closes the descriptors meanwhile."""
        self._inside = inside
        self._client, self._rings = client, {ring.ringid: ring for ring in rings}
        self._place = client.quick
        self._quick = getattr(client_library(), self.function)
        self._words = client.words
        self._violations_at = VIOLATIONS_AT[self.side]
        self._seen = self._words[self._violations_at]

    def __call__(self) -> bool:
        error = self._quick(self._place)
        if error:
            self._wait(error)
        if self._words[self._violations_at] != self._seen:
            self.raise_violation()
        return False

    def _wait(self, error: int) -> None:
        client = self._client
        call = patient(self.function)
        with self._inside:
            while error:
                client.check(error)
                error = call(client.patient)

    def raise_violation(self) -> None:
        """Raise the last violation of this direction that was not raised yet, if there is one."""
        if self._words[self._violations_at] == self._seen:
            return
        self._seen = self._words[self._violations_at]
        last = self._client.last_violation(self.side)
        if last.rule not in RULES:
            raise LibraryError(f"the daemon reports rule {last.rule}, which this program does not know; update ixrings")
        ring = self._rings.get(last.ringid)
        name = ring.name if ring is not None else f"{self.side.upper()} ring {last.ringid}"
        raise RingError(RULES[last.rule], name, value=last.value, low=last.low, high=last.high, slot=last.slot)

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """Raise `refusal()` in every further call."""

        self._quick = refused_by(refusal)


class ClientTxSync(ClientSync):
    """NIOCTXSYNC."""

    side, function = "tx", "client_sync_tx"


class ClientRxSync(ClientSync):
    """NIOCRXSYNC."""

    side, function = "rx", "client_sync_rx"


class ClientSpin:
    """Sync, without the GIL, until a ring has slots for the program. A call returns whether one has, after some ns."""

    def __init__(self, client: Client, rx: Sequence[RxRing], tx: Sequence[TxRing]) -> None:
        self._client, self._kept = client, (*rx, *tx)
        self._rx, self._tx = addresses(rx), addresses(tx)
        self._counts = len(rx), len(tx)
        self._call = patient("client_spin")

    def __call__(self, timeout_ns: int) -> bool:
        found = self._call(
            self._client.patient, self._rx, self._counts[0], self._tx, self._counts[1], ctypes.c_uint64(timeout_ns)
        )
        if found < 0:
            self._client.check(-found)
        return bool(found > 0)

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """Raise `refusal()` in every further call."""
        self._call = refused_by(refusal)


class ClientForward:
    """Zero-copy forwarding between handles in one C call: rxsync, swap of buffers, txsync.

    pairs: (from, to); all in one region, all `from` of one handle, and all `to` of another or the same.
    """

    attention = False

    def __init__(self, receive: ClientRxSync, transmit: ClientTxSync, pairs: Sequence[tuple[RxRing, TxRing]]) -> None:
        self._receive, self._transmit, self._kept = receive, transmit, tuple(pairs)
        self._pairs = [RingPair(rx.address, tx.address, rx.num_slots, tx.num_slots) for rx, tx in pairs]
        self._table, self._count = pointers(self._pairs), len(self._pairs)
        self._quick = client_library().client_forward

    def __call__(self, limit: int = 256) -> int:
        if not 0 <= limit <= 0xFFFF_FFFF:  # ctypes would drop the upper bits
            raise ValueError(f"limit is {limit}; choose 0 to {0xFFFF_FFFF}")
        source, target = self._receive._client, self._transmit._client
        moved = int(self._quick(source.quick, target.quick, self._table, self._count, limit))
        if moved < 0:
            moved = self._wait(moved, limit)
        self._receive.raise_violation()
        self._transmit.raise_violation()
        return moved

    def _wait(self, moved: int, limit: int) -> int:
        receive, transmit = self._receive, self._transmit
        call = patient("client_forward")
        with receive._inside, transmit._inside:
            while moved < 0:
                receive._client.check(-moved)
                moved = call(receive._client.patient, transmit._client.patient, self._table, self._count, limit)
        return moved


def refused_by(refusal: Callable[[], Exception]) -> Callable[..., int]:
    """A function that raises `refusal()`."""

    def refused(*_: object) -> int:
        raise refusal()

    return refused


def addresses(rings: Sequence[TxRing | RxRing]) -> object:
    """For C: the addresses of these rings."""
    return (ctypes.c_void_p * max(1, len(rings)))(*(ring.address for ring in rings))


VIOLATIONS_AT = {
    side: (getattr(Answers, side).offset + Answer.violations.offset) // 8  # type: ignore[attr-defined]
    for side in ("tx", "rx")
}


def patient(function: str) -> Callable[..., int]:
    """A function of the library that releases the GIL."""
    client_library()
    return without_gil(function)


@lru_cache(maxsize=1)
def client_library() -> ctypes.PyDLL:
    """The C library, after a check of the layout of the structures here. Raises LibraryError."""
    loaded = service_library()
    if ctypes.c_uint32.in_dll(loaded, "client_size").value != ctypes.sizeof(ClientState):
        raise another_version()
    return loaded
