"""Waiting for rings: asleep on interrupts, or spinning; and what keeps fileno() true to the rings."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Sequence
from enum import Flag

from .bringup import Session

QUIET_S = 1.0  # a device that is gone sends no interrupt: look after that long without one
SPIN_NS = 20_000_000  # a signal is handled between two spins, so this bounds Ctrl-C
TURN_NS = 2_000  # of spinning for one of several ports
PATIENCE_S = 50e-6  # at most, however seldom interrupts may come


class Side(Flag):
    """Whose interrupts can make a difference to what is waited for."""

    NONE = 0
    RX = 1
    TX = 2
    BOTH = 3


def wait_until(
    sessions: Sequence[Session], ready: Callable[[], int], side: Side, timeout_s: float | None, busy: bool
) -> int:
    """`ready()` until it is not 0 or `timeout_s` has passed (None: for ever); returns its last value.

    `ready` syncs the rings it looks at. Two threads may wait, if one waits for RX and the other for TX. Raises DeviceGone.
    """
    found = ready()
    if found or timeout_s == 0:
        return found
    now = time.monotonic()
    end = math.inf if timeout_s is None else now + timeout_s
    if not busy:
        found = _spin(sessions, ready, side, min(end, now + patience_s(sessions)))
    if not found:
        found = _spin(sessions, ready, side, end) if busy else _sleep(sessions, ready, side, end)
    if not found:
        check(sessions)
    return found


def patience_s(sessions: Sequence[Session]) -> float:
    """How long to spin before a sleep: no message comes sooner after the last, and to be woken costs more than that."""
    return min(PATIENCE_S, *(session.options["interrupt_interval_us"] / 1e6 for session in sessions))


def check(sessions: Sequence[Session]) -> None:
    for session in sessions:
        session.check()


def _sleep(sessions: Sequence[Session], ready: Callable[[], int], side: Side, end: float) -> int:
    """Messages are taken first, then vectors armed, then rings looked at: what comes later than the look wakes the sleep."""
    taken = [0] * len(sessions)
    try:
        while True:
            for i, session in enumerate(sessions):
                taken[i] |= _arm(session, side)
            found = ready()
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            if not _wait(sessions, side, min(left, QUIET_S)):
                check(sessions)
    finally:
        for session, came in zip(sessions, taken):
            if session.selectable and came:
                settle_receive(session, came)


def _arm(session: Session, side: Side) -> int:
    """Whose receive messages had come."""
    interrupts = session.interrupts
    if Side.TX in side:
        interrupts.tx.drain()
        interrupts.tx.arm()
    came = 0 if side is Side.TX else interrupts.drain_receive()
    if Side.RX in side:
        interrupts.rx.arm()
    return came


def _wait(sessions: Sequence[Session], side: Side, timeout_s: float) -> bool:
    """Asleep, without the GIL, until a message comes to one of them; False when none did."""
    all_of = [session.interrupts for session in sessions]
    waits = [each if side is Side.BOTH else each.tx if side is Side.TX else each.rx for each in all_of]
    if len(waits) == 1:
        return waits[0].wait(timeout_s)
    sleep = select.poll()  # select() takes no descriptor from 1024 on
    for each in waits:
        sleep.register(each, select.POLLIN)
    return bool(sleep.poll(math.ceil(timeout_s * 1000)))


def _spin(sessions: Sequence[Session], ready: Callable[[], int], side: Side, end: float) -> int:
    spins = [each.busy if side is Side.BOTH else each.busy_tx if side is Side.TX else each.busy_rx for each in sessions]
    longest = SPIN_NS if len(spins) == 1 else TURN_NS
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return ready()
        turn = longest if left > 1 else min(longest, int(left * 1e9))
        if not any(spin(turn) for spin in spins) and turn == SPIN_NS:
            check(sessions)
        found = ready()
        if found:
            return found


def settle_receive(session: Session, taken: int = 0) -> None:
    """After an rxsync, once fileno() is in use: if it left no frame, let the next one make fileno() readable.

    While frames are left fileno() is readable already, so a busy ring costs no system call; unless messages were `taken` before.
    """
    interrupts = session.interrupts
    if not taken:
        if session.received():
            return
        taken = interrupts.drain_receive()
    if interrupts.rx.arm() or taken:
        session.rx_sync()  # what came before the messages were taken would otherwise wait for the next frame
        if session.received():
            interrupts.nudge()
    forget_room(session)


def settle_transmit(session: Session) -> None:
    """After a txsync, once fileno() is in use: a full ring that gets room makes fileno() readable."""
    if session.has_room():
        forget_room(session)
        return
    wakeups = session.interrupts.tx
    wakeups.drain()
    wakeups.arm()
    session.tx_sync()


def forget_room(session: Session) -> None:
    """Room that the last sync has shown needs no message any more: it would keep fileno() readable for nothing."""
    if session.interrupts.tx.armed and session.has_room():
        session.interrupts.tx.drain()
