"""Waiting for rings, asleep on interrupts or spinning, and keeping fileno() in step with the rings.

A wait without a timeout still checks the device every second, and looks for the reason why nothing comes
(standstill.py; driver/README.md, contract 3).
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Sequence
from enum import Flag

from .bringup import Session
from .checks import require
from .link import read_link
from .standstill import missing_write_back

QUIET_S = 1.0  # check the device after this time without an interrupt: a device that is gone sends none
SPIN_NS = 20_000_000  # signals are handled between two spins, so this bounds the delay of Ctrl-C
TURN_NS = 2_000  # spin this long for one port, if several are waited for
PATIENCE_S = 50e-6  # upper bound of the spin before a sleep


class Side(Flag):
    """The directions whose interrupts can end a wait."""

    NONE = 0
    RX = 1
    TX = 2
    BOTH = 3


def wait_until(
    sessions: Sequence[Session], ready: Callable[[], int], side: Side, timeout_s: float | None, busy: bool
) -> int:
    """Call `ready()` until it returns non-zero or `timeout_s` has passed (None: no limit). Returns its last value.

    `ready` syncs the rings it looks at. Two threads may wait if one waits for RX and the other for TX. Raises
    DeviceGone, DmaRefused, PortStuck.
    """
    found = ready()
    if found or timeout_s == 0:
        return found
    require("timeout", timeout_s, float | None, "seconds: 0 not to wait, None to wait without limit")
    now = time.monotonic()
    end = math.inf if timeout_s is None else now + timeout_s
    if not busy:
        found = spin_until_ready(sessions, ready, side, min(end, now + patience_s(sessions)))
    if not found:
        found = spin_until_ready(sessions, ready, side, end) if busy else sleep_until_ready(sessions, ready, side, end)
    if not found:
        check(sessions)
    return found


def patience_s(sessions: Sequence[Session]) -> float:
    """How long to spin before a sleep.

    Two messages of a vector are at least interrupt_interval_us apart, and waking up costs more than PATIENCE_S.
    """
    return min(PATIENCE_S, *(session.options["interrupt_interval_us"] / 1e6 for session in sessions))


def check(sessions: Sequence[Session]) -> None:
    """Check every device after a wait that found nothing. Raises DeviceGone, DmaRefused, PortStuck."""
    for session in sessions:
        session.check()
        session.look_for_standstill()


def sleep_until_ready(sessions: Sequence[Session], ready: Callable[[], int], side: Side, end: float) -> int:
    """Take messages, then arm vectors, then look at the rings: a frame or room that comes later ends the sleep."""
    taken = [0] * len(sessions)
    try:
        while True:
            for i, session in enumerate(sessions):
                taken[i] |= arm_side(session, side)
            found = ready()
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            if not wait_for_message(sessions, side, min(left, QUIET_S)):
                check(sessions)
    finally:
        for session, came in zip(sessions, taken):
            if session.selectable and came:
                settle_receive(session, came)


def arm_side(session: Session, side: Side) -> int:
    """Arm the vectors of `side`. Returns the bits of the receive messages taken."""
    interrupts = session.interrupts
    if Side.TX in side:
        interrupts.tx.drain()
        interrupts.tx.arm()
    came = 0 if side is Side.TX else interrupts.drain_receive()
    if Side.RX in side:
        interrupts.rx.arm()
    return came


def wait_for_message(sessions: Sequence[Session], side: Side, timeout_s: float) -> bool:
    """Sleep, without the GIL, until a message comes for one of the sessions. False after the timeout."""
    all_of = [session.interrupts for session in sessions]
    waits = [each if side is Side.BOTH else each.tx if side is Side.TX else each.rx for each in all_of]
    if len(waits) == 1:
        return waits[0].wait(timeout_s)
    sleep = select.poll()  # select() accepts no descriptor above 1023
    for each in waits:
        sleep.register(each, select.POLLIN)
    return bool(sleep.poll(math.ceil(timeout_s * 1000)))


def spin_until_ready(sessions: Sequence[Session], ready: Callable[[], int], side: Side, end: float) -> int:
    """Spin, without the GIL, until `ready()` returns non-zero or the time is `end`."""
    busy_waits = [
        each.busy if side is Side.BOTH else each.busy_tx if side is Side.TX else each.busy_rx for each in sessions
    ]
    longest = SPIN_NS if len(busy_waits) == 1 else TURN_NS
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return ready()
        turn = longest if left > 1 else min(longest, int(left * 1e9))
        if not any(busy_wait(turn) for busy_wait in busy_waits) and turn == SPIN_NS:
            check(sessions)
        found = ready()
        if found:
            return found


def why_unsent(session: Session) -> str:
    """What the link and the queues show when frames are not sent in time. Raises DeviceGone."""
    link = read_link(session.device, session.nic)
    if not link.up:
        return f"the link is {link}"
    unwritten = missing_write_back(session.nic, session.interface.tx_rings)
    return unwritten or "the link is up, but the wire does not take them fast enough"


def settle(sessions: Sequence[Session]) -> None:
    """After a call that looked for frames: keep the fileno() of each session in step, where it is in use."""
    for session in sessions:
        if session.selectable:
            settle_receive(session)


def settle_receive(session: Session, taken: int = 0) -> None:
    """After an rxsync, when fileno() is in use: if no frame is left, let the next frame make fileno() readable.

    While frames are left, fileno() is readable already, so a busy ring costs no system call. taken: bits of receive
    messages that the caller has already taken; then the vectors are armed in any case.
    """
    interrupts = session.interrupts
    if not taken:
        if session.received():
            return
        taken = interrupts.drain_receive()
    if interrupts.rx.arm() or taken:
        # A frame may have come before the messages were taken. Without this sync it would wait for the next one.
        session.rx_sync()
        if session.received():
            interrupts.nudge()
    forget_room(session)


def settle_transmit(session: Session) -> None:
    """After a txsync, when fileno() is in use: let a full ring that gets room make fileno() readable."""
    if session.has_room():
        forget_room(session)
        return
    rearm_transmit(session)


def rearm_transmit(session: Session) -> None:
    """Take a TX message and wait for the next one. The sync finds room that came in between."""
    session.interrupts.tx.drain()
    session.interrupts.tx.arm()
    session.tx_sync()


def forget_room(session: Session) -> None:
    """Take the TX message of a ring that has room: it would keep fileno() readable without need.

    A program that only receives never syncs a full TX ring, so that happens here once the message has come. The nudge
    wakes the program once more: it may wait for the room, and not know that this call took the message.
    """
    wakeups = session.interrupts.tx
    if wakeups.armed and not session.has_room() and wakeups.wait(0):
        rearm_transmit(session)
        if session.has_room():
            session.interrupts.nudge()
    if wakeups.armed and session.has_room():
        wakeups.drain()
