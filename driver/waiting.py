"""Waiting for rings: asleep on interrupts, or spinning; and what keeps fileno() true to the rings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import Flag

from .bringup import Session

QUIET_S = 1.0  # a device that is gone sends no interrupt: look after that long without one
SPIN_NS = 20_000_000  # a signal is handled between two spins, so this bounds Ctrl-C


class Side(Flag):
    """Whose interrupts can make a difference to what is waited for."""

    NONE = 0
    RX = 1
    TX = 2
    BOTH = 3


def wait_until(session: Session, ready: Callable[[], int], side: Side, timeout_s: float | None, busy: bool) -> int:
    """`ready()` until it is not 0 or `timeout_s` has passed (None: for ever); returns its last value.

    `ready` syncs the rings it looks at. Two threads may wait, if one waits for RX and the other for TX. Raises DeviceGone.
    """
    found = ready()
    if found or timeout_s == 0:
        return found
    end = math.inf if timeout_s is None else time.monotonic() + timeout_s
    found = _spin(session, ready, side, end) if busy else _sleep(session, ready, side, end)
    if not found:
        session.check()
    return found


def _sleep(session: Session, ready: Callable[[], int], side: Side, end: float) -> int:
    """Messages are taken first, then vectors armed, then rings looked at: what comes later than the look wakes the sleep."""
    interrupts = session.interrupts
    wait = interrupts.wait if side is Side.BOTH else interrupts.tx.wait if side is Side.TX else interrupts.rx.wait
    taken = 0
    try:
        while True:
            if Side.TX in side:
                interrupts.tx.drain()
                interrupts.tx.arm()
            if side is not Side.TX:
                taken |= interrupts.drain_receive()
            if Side.RX in side:
                interrupts.rx.arm()
            found = ready()
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            if not wait(min(left, QUIET_S)):
                session.check()
    finally:
        if session.selectable and taken:
            settle_receive(session, taken)


def _spin(session: Session, ready: Callable[[], int], side: Side, end: float) -> int:
    spin = session.busy if side is Side.BOTH else session.busy_tx if side is Side.TX else session.busy_rx
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return ready()
        if not spin(SPIN_NS if left > 1 else min(SPIN_NS, int(left * 1e9))):
            session.check()
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
