"""Waiting for rings, asleep on interrupts or spinning, and keeping fileno() in step with the rings.

A wait without a timeout still checks the device every second, and looks for the reason why nothing comes
(standstill.py; driver/README.md, contract 3).
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import Flag

from .checks import require
from .queue_set import QueueSet

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
    sets: Sequence[QueueSet], ready: Callable[[], int], side: Side, timeout_s: float | None, busy: bool
) -> int:
    """Call `ready()` until it returns non-zero or `timeout_s` has passed (None: no limit). Returns its last value.

    `ready` syncs the rings it looks at. Two threads may wait if one waits for RX and the other for TX. Raises
    DeviceGone, DmaRefused, PortStuck; PortClosed if another thread closes the port.
    """
    found = ready()
    if found or timeout_s == 0:
        return found
    require("timeout", timeout_s, float | None, "seconds: 0 not to wait, None to wait without limit")
    now = time.monotonic()
    end = math.inf if timeout_s is None else now + timeout_s
    with ExitStack() as inside:
        for queues in sets:
            inside.enter_context(queues.gate)
        if not busy:
            found = spin_until_ready(sets, ready, side, min(end, now + patience_s(sets)))
        if not found:
            found = spin_until_ready(sets, ready, side, end) if busy else sleep_until_ready(sets, ready, side, end)
        if not found:
            check(sets)
            found = ready()  # a check may have set a virtual function up, whose queues are off until a sync
    return found


def patience_s(sets: Sequence[QueueSet]) -> float:
    """How long to spin before a sleep.

    Two messages of a vector are at least interrupt_interval_us apart, and waking up costs more than PATIENCE_S.
    """
    return min(PATIENCE_S, *(queues.interval_s for queues in sets))


def check(sets: Sequence[QueueSet]) -> None:
    """Check every device after a wait that found nothing. Raises DeviceGone, DmaRefused, PortStuck."""
    for queues in sets:
        queues.check()
        queues.look_for_standstill()


def check_when_due(sets: Sequence[QueueSet]) -> None:
    """After a sleep that a message ended: check a device that was not checked for a second.

    A program whose waits always find something makes few syncs, so those ask for a check only after minutes.
    """
    now = time.monotonic()
    for queues in sets:
        if now >= queues.check_due_s:
            queues.check_due_s = now + queues.quiet_s
            queues.check()


def sleep_until_ready(sets: Sequence[QueueSet], ready: Callable[[], int], side: Side, end: float) -> int:
    """Take messages, then arm vectors, then look at the rings: a frame or room that comes later ends the sleep."""
    taken = [0] * len(sets)
    try:
        while True:
            for i, queues in enumerate(sets):
                queues.gate.check()
                taken[i] |= arm_side(queues, side)
            found = ready()
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            if not wait_for_message(sets, side, min(left, *(queues.quiet_s for queues in sets))):
                check(sets)
            else:
                check_when_due(sets)
    finally:
        for queues, came in zip(sets, taken):
            if queues.selectable and came:
                settle_receive(queues, came)


def arm_side(queues: QueueSet, side: Side) -> int:
    """Arm the vectors of `side`. Returns the bits of the receive messages taken."""
    interrupts = queues.interrupts
    if Side.TX in side:
        interrupts.tx.drain()
        interrupts.tx.arm()
    came = 0 if side is Side.TX else interrupts.drain_receive()
    if Side.RX in side:
        interrupts.rx.arm()
    return came


def wait_for_message(sets: Sequence[QueueSet], side: Side, timeout_s: float) -> bool:
    """Sleep, without the GIL, until a message comes for one of the sets. False after the timeout."""
    all_of = [queues.interrupts for queues in sets]
    waits = [each if side is Side.BOTH else each.tx if side is Side.TX else each.rx for each in all_of]
    if len(waits) == 1:
        return waits[0].wait(timeout_s)
    sleep = select.poll()  # select() accepts no descriptor above 1023
    for each in waits:
        sleep.register(each, select.POLLIN)
    return bool(sleep.poll(math.ceil(timeout_s * 1000)))


def spin_until_ready(sets: Sequence[QueueSet], ready: Callable[[], int], side: Side, end: float) -> int:
    """Spin, without the GIL, until `ready()` returns non-zero or the time is `end`."""
    busy_waits = [
        each.busy if side is Side.BOTH else each.busy_tx if side is Side.TX else each.busy_rx for each in sets
    ]
    longest = SPIN_NS if len(busy_waits) == 1 else TURN_NS
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return ready()
        turn = longest if left > 1 else min(longest, int(left * 1e9))
        if not any(busy_wait(turn) for busy_wait in busy_waits) and turn == SPIN_NS:
            check(sets)
        for queues in sets:
            queues.gate.check()
        found = ready()
        if found:
            return found


def settle(sets: Sequence[QueueSet]) -> None:
    """After a call that looked for frames: keep the fileno() of each set in step, where it is in use."""
    for queues in sets:
        if queues.selectable:
            settle_receive(queues)


def settle_receive(queues: QueueSet, taken: int = 0) -> None:
    """After an rxsync, when fileno() is in use: if no frame is left, let the next frame make fileno() readable.

    While frames are left, fileno() is readable already, so a busy ring costs no system call. taken: bits of receive
    messages that the caller has already taken; then the vectors are armed in any case.
    """
    if not taken and queues.received():
        return
    with queues.gate:
        interrupts = queues.interrupts
        taken = taken or interrupts.drain_receive()
        if interrupts.rx.arm() or taken:
            # A frame may have come before the messages were taken. Without this sync it would wait for the next one.
            queues.rx_sync()
            if queues.received():
                interrupts.nudge()
        forget_room(queues)


def settle_transmit(queues: QueueSet) -> None:
    """After a txsync, when fileno() is in use: let a full ring that gets room make fileno() readable."""
    with queues.gate:
        if queues.has_room():
            forget_room(queues)
        else:
            rearm_transmit(queues)


def rearm_transmit(queues: QueueSet) -> None:
    """Take a TX message and wait for the next one. The sync finds room that came in between."""
    queues.interrupts.tx.drain()
    queues.interrupts.tx.arm()
    queues.tx_sync()


def forget_room(queues: QueueSet) -> None:
    """Take the TX message of a ring that has room: it would keep fileno() readable without need.

    A program that only receives never syncs a full TX ring, so that happens here once the message has come. The nudge
    wakes the program once more: it may wait for the room, and not know that this call took the message.
    """
    wakeups = queues.interrupts.tx
    if wakeups.armed and not queues.has_room() and wakeups.wait(0):
        rearm_transmit(queues)
        if queues.has_room():
            queues.interrupts.nudge()
    if wakeups.armed and queues.has_room():
        wakeups.drain()
