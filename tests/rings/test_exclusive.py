"""One thread at a time uses a queue, and none after it is closed."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from ixrings.rings import RegionError, RingError, Rule
from ixrings.rings.hotloop import BusyWait, Forward, RxSync, TxSync
from ixrings.rings.queue import ATTENTION_TAKEN, library, pointers, without_gil
from tests.support.rings_nic import Bench

PATIENCE_S = 30
MEETING_S = 0.3


@pytest.fixture
def without_a_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs made from now on take their queues, as on a Python that can run without the GIL."""
    monkeypatch.setattr("ixrings.rings.hotloop.FREE_THREADED", True)


def test_threads_that_sync_one_queue_at_once_never_do_it_together() -> None:
    """CDLL runs the function without the GIL, so these threads collide on every Python."""
    tx = Bench(64).tx
    sync, table = without_gil("txsync_alone"), pointers([tx.queue])
    results: list[set[int]] = [set(), set()]
    stop = threading.Event()

    def run(seen: set[int]) -> None:
        while not stop.is_set():
            seen.add(sync(table, 1))

    threads = [threading.Thread(target=run, args=(seen,)) for seen in results]
    for thread in threads:
        thread.start()
    put, end = 0, time.monotonic() + PATIENCE_S
    meet = time.monotonic() + MEETING_S
    while time.monotonic() < (end if put < 1000 else meet) and not (
        put >= 1000 and ATTENTION_TAKEN in set().union(*results)
    ):
        if tx.ring.space >= 7:
            frames = len(tx.ring.reserve(7))
            tx.put(*[60] * frames)
            put += frames
        tx.nic_sends()
    while tx.ring.pending and time.monotonic() < end:
        tx.nic_sends()
    stop.set()
    for thread in threads:
        thread.join()
    assert put >= 1000
    assert (tx.queue.packets, tx.queue.violations, tx.queue.packets % 64) == (put, 0, tx.tdt)
    if ATTENTION_TAKEN not in set().union(*results):
        pytest.skip(f"the threads did not meet in {MEETING_S:g} s; the counts are right")


def test_a_queue_in_use_is_refused_and_the_others_are_given_back(without_a_gil: None) -> None:
    first, second = Bench(64), Bench(64)
    calls: list[Callable[[], object]] = [
        TxSync([first.tx.queue, second.tx.queue]),
        RxSync([first.rx.queue, second.rx.queue]),
        Forward((first.rx.queue, first.tx.queue)),
    ]
    for taken in (second.tx.queue, second.rx.queue, first.tx.queue):
        taken._taken = 1  # as if another thread were inside
    for call in calls:
        with pytest.raises(RingError, match=r"one thread at a time may use a queue; .* port\.queue\(k\)") as caught:
            call()
        assert caught.value.rule is Rule.ONE_THREAD
    assert first.rx.queue._taken == 0
    for taken in (second.tx.queue, second.rx.queue, first.tx.queue):
        taken._taken = 0
    for call in calls:
        call()


def test_pairs_may_share_a_queue_without_the_gil(without_a_gil: None) -> None:
    bench = Bench(64)
    bench.rx.nic_receives(60, 61, 62)
    forward = Forward((bench.rx.queue, bench.tx.queue), (bench.rx.queue, bench.tx.queue))
    assert forward(2) == 3 and bench.tx.queue.packets == 3


def test_close_returns_when_the_last_busy_wait_has_ended(without_a_gil: None) -> None:
    bench = Bench(64)
    wait, sync = BusyWait([bench.rx.queue], [bench.tx.queue]), RxSync([bench.rx.queue])
    seen = threading.Event()

    def run() -> None:
        with suppress(RegionError):  # closed before its next wait
            while not seen.is_set():  # on a loaded machine, this thread alone may run for longer than one wait
                wait(100_000_000)

    thread = threading.Thread(target=run)
    begun = time.monotonic()
    thread.start()
    while not bench.rx.queue._watchers:
        if time.monotonic() > begun + PATIENCE_S:
            seen.set()
            pytest.fail("no busy_wait() began")
    seen.set()
    for queue in (bench.rx.queue, bench.tx.queue):
        queue.close("the port is closed")
        assert queue._watchers == 1 << 31
    closed = time.monotonic()
    thread.join()
    assert closed - begun > 0.05, "close() did not wait"
    calls: list[Callable[[], object]] = [lambda: wait(0), sync]
    for call in calls:
        with pytest.raises(RegionError, match="the port is closed"):
            call()
    assert library().rxsync_alone(pointers([bench.rx.queue]), 1) == ATTENTION_TAKEN, "C itself refuses it too"
    late = ctypes.CDLL(library()._name).busy_wait(pointers([bench.rx.queue]), 1, None, 0, ctypes.c_uint64(10**9))
    assert late == 1 and time.monotonic() - closed < PATIENCE_S
