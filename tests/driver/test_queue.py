"""Port.queue(k): each thread has a queue of its own, and nothing is lost, doubled or miscounted."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from select import POLLIN, POLLOUT

import pytest

from ixrings import Port, PortClosed, PortError, Queue, open_port, open_ports, poll_ports
from ixrings.rings import RxRing, TxRing
from tests.support.steered import ethernet, packet

QUEUES = 4
EACH = 1000  # frames a thread sends
PATIENCE_S = 30


def frame(number: int) -> bytes:
    """No two numbers give the same frame, and RSS spreads them."""
    return ethernet(packet(source=f"10.1.{number >> 8}.{number & 0xFF}", sport=1024 + number))


@pytest.fixture
def port() -> Iterator[Port]:
    with open_port("emulated:loop", tx_queues=QUEUES, rx_queues=QUEUES, promiscuous=True) as opened:
        yield opened


def rings_of(queue: Queue) -> tuple[TxRing, RxRing]:
    assert queue.tx_ring is not None and queue.rx_ring is not None
    return queue.tx_ring, queue.rx_ring


def put(queue: Queue, *frames: bytes) -> int:
    """Put as many of the frames on the TX ring as there is room for. Returns how many."""
    ring, _ = rings_of(queue)
    span = ring.reserve(len(frames))
    for i, data in zip(range(len(span)), frames):
        queue.buffers[span.buf_idx[i], : len(data)] = memoryview(data)
        span.len[i] = len(data)
    ring.advance(len(span))
    return len(span)


def take(queue: Queue) -> list[bytes]:
    _, ring = rings_of(queue)
    span = ring.reserve(ring.space)
    frames = [queue.buffers[index, :length].tobytes() for index, length in zip(span.buf_idx, span.len)]
    ring.advance(len(span))
    return frames


def in_threads(*works: Callable[[], None]) -> None:
    """Run each in a thread of its own at the same time. The first error of one is raised here."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("busy", [False, True], ids=["asleep", "busy"])
def test_a_thread_for_each_queue_moves_every_frame_once_and_statistics_are_exact(port: Port, busy: bool) -> None:
    came: list[list[bytes]] = [[] for _ in range(QUEUES)]
    received, everything = threading.Semaphore(0), threading.Event()

    def work(k: int) -> Callable[[], None]:
        def run() -> None:
            queue, sent = port.queue(k), 0
            frames = [frame(number) for number in range(k * EACH, (k + 1) * EACH)]
            while not everything.is_set():
                if sent < EACH:
                    sent += put(queue, *frames[sent : sent + 50])
                    queue.txsync()
                if queue.poll(0.02, busy=busy):
                    came[k] += (new := take(queue))
                    received.release(len(new))

        return run

    def count() -> None:
        try:
            for number in range(QUEUES * EACH):
                assert received.acquire(timeout=PATIENCE_S), "frames are missing"
                if number % 500 == 0:
                    port.stats()  # any thread may read it
        finally:
            everything.set()

    in_threads(*(work(k) for k in range(QUEUES)), count)
    assert Counter(chain.from_iterable(came)) == Counter(frame(number) for number in range(QUEUES * EACH))
    assert all(came), "RSS reaches each queue"
    stats = port.stats()
    assert [counts["QPTC"] for counts in stats.tx] == [EACH] * QUEUES
    assert [counts["QPRC"] for counts in stats.rx] == [len(frames) for frames in came]
    assert (stats["GPTC"], stats["GPRC"]) == (QUEUES * EACH, QUEUES * EACH)


def test_counters_that_several_threads_read_are_added_once(port: Port) -> None:
    """Each reader clears the counters, and each sync that finds them due reads them."""
    for queue in port._owned().tx:
        queue.statistics_due = 0

    def work(k: int) -> Callable[[], None]:
        def run() -> None:
            queue = port.queue(k)
            for number in range(100):
                put(queue, frame(number))
                queue.flush(PATIENCE_S)
                port._owned().tx[k].statistics_due = 0
                port.stats()

        return run

    in_threads(*(work(k) for k in range(QUEUES)))
    stats = port.stats()
    assert stats["GPTC"] == 100 * QUEUES and [counts["QPTC"] for counts in stats.tx] == [100] * QUEUES


def test_a_queue_is_the_same_object_each_time_and_syncs_only_itself(port: Port) -> None:
    first, second = port.queue(0), port.queue(1)
    assert port.queue(0) is first and first is not second
    assert first.tx_ring is port.tx_rings[0] and second.rx_ring is port.rx_rings[1]
    assert first.name == "queue 0 of emulated:loop" and "RX ring 0" in repr(first)
    put(second, frame(1))
    first.flush(PATIENCE_S)
    assert port.stats()["GPTC"] == 0, "nobody has synced the second queue"
    second.flush(PATIENCE_S)
    assert port.stats().tx[1]["QPTC"] == 1


def test_a_queue_keeps_its_port_open() -> None:
    queue = open_port("emulated:loop").queue(0)
    gc.collect()
    put(queue, frame(1))
    queue.flush(PATIENCE_S)
    assert queue.poll(PATIENCE_S) == POLLIN and not queue.closed
    del queue


def test_received_reports_the_hash_that_chose_the_queue(port: Port) -> None:
    port.send([frame(number) for number in range(64)])
    port.flush(PATIENCE_S)
    for k in range(QUEUES):
        queue = port.queue(k)
        assert queue.poll(PATIENCE_S) == POLLIN
        _, ring = rings_of(queue)
        hashes = queue.received(ring.reserve(1)).rss_hash
        assert port.rss.table[int(hashes[0]) & 127] == k


def test_queues_forward_to_queues_of_another_port() -> None:
    with (
        (
            open_ports("emulated:cable=in", "emulated:sink", rx_queues=2, tx_queues=2, promiscuous=True, link_timeout=0)
        ) as (source, sink),
        open_port("emulated:cable=in", link_timeout=5) as far,
    ):
        source.wait_link(PATIENCE_S)
        far.wait_link(PATIENCE_S)
        far.send([frame(number) for number in range(100)])
        far.flush(PATIENCE_S)
        moved, end = [0, 0], time.monotonic() + PATIENCE_S

        def work(k: int) -> Callable[[], None]:
            def run() -> None:
                while sum(moved) < 100 and time.monotonic() < end:
                    moved[k] += source.queue(k).forward(sink.queue(1 - k))

            return run

        in_threads(work(0), work(1))
        sink.flush(PATIENCE_S)
        assert sum(moved) == 100 and all(moved)
        assert [counts["QPTC"] for counts in sink.stats().tx] == [moved[1], moved[0]]


def test_poll_ports_waits_for_queues(port: Port) -> None:
    waited = [port.queue(0), port.queue(1)]
    assert poll_ports(waited, 0) == []
    assert poll_ports(waited, 0, POLLOUT) == [(waited[0], POLLOUT), (waited[1], POLLOUT)]
    port.rss.table = [1]
    put(waited[0], frame(1))
    waited[0].txsync()
    assert poll_ports(waited, PATIENCE_S) == [(waited[1], POLLIN)]


def test_asyncio_wakes_each_queue_for_its_own_frames(port: Port) -> None:
    port.rss.table = [0, 1]
    numbers = range(100)

    async def main() -> list[list[bytes]]:
        came: list[list[bytes]] = [[], []]
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        queues = [port.queue(0), port.queue(1)]

        def take_some(k: int) -> None:
            queues[k].rxsync()
            came[k] += take(queues[k])
            queues[k].rxsync()
            if sum(map(len, came)) == len(numbers):
                done.set()

        for k in (0, 1):
            loop.add_reader(queues[k], take_some, k)
        for number in numbers:
            put(queues[number % 2], frame(number))
            queues[number % 2].txsync()
            await asyncio.sleep(0)
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        for k in (0, 1):
            loop.remove_reader(queues[k])
        return came

    came = asyncio.run(main())
    assert all(came) and Counter(came[0] + came[1]) == Counter(map(frame, numbers))


def test_a_frame_makes_only_its_queue_readable(port: Port) -> None:
    port.rss.table = [2]
    fds = [port.queue(k).fileno() for k in range(QUEUES)]
    assert len(set(fds)) == QUEUES
    put(port.queue(0), frame(1))
    port.queue(0).txsync()
    assert select.select([fds[2]], [], [], PATIENCE_S)[0] == [fds[2]]
    assert select.select(fds, [], [], 0)[0] == [fds[2]]


@pytest.mark.parametrize(
    ("misuse", "kind", "words"),
    [
        (lambda port: port.queue(4), PortError, r"has no queue 4; it has 0, 1, 2, 3\. Open it with .*rx_queues=5"),
        (lambda port: port.queue(-1), PortError, "has no queue -1; it has 0, 1, 2, 3$"),
        (lambda port: port.queue("0"), TypeError, "the number of a queue"),
        (lambda port: port.queue(0).forward(1), TypeError, "another port or queue"),
        (lambda port: (port.fileno(), port.queue(0).fileno()), PortError, "of the port emulated:loop is in use"),
        (lambda port: (port.queue(0).fileno(), port.fileno()), PortError, "of queue 0 of emulated:loop is in use"),
        (lambda port: setattr(port.queue(0), "busy_poll", True), AttributeError, "no attribute busy_poll"),
    ],
)
def test_a_misuse_is_refused_with_what_to_write(
    port: Port, misuse: Callable[[Port], object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        misuse(port)


def test_a_queue_without_a_vector_of_its_own_waits_busy_or_not_at_all() -> None:
    with open_port("emulated:loop", rx_queues=64, tx_queues=2, rx_slots=64, tx_slots=64, promiscuous=True) as port:
        queue = port.queue(0)
        put(queue, frame(1))
        queue.txsync()
        end = time.monotonic() + PATIENCE_S
        ready: list[int] = []
        while not ready and time.monotonic() < end:
            ready = [k for k in range(16) if port.queue(k).poll(0.001, busy=True)]
        assert len(ready) == 1
        waits: list[Callable[[], int]] = [lambda: port.queue(63).poll(1), port.queue(63).fileno]
        for wait in waits:
            with pytest.raises(PortError, match=r"has 64 interrupt vectors, so queues .* poll\(busy=True\)"):
                wait()


def test_a_port_of_one_queue_has_that_queue_alone() -> None:
    with open_port("emulated:loop-1/R", rx_queues=2, tx_queues=2) as port:
        queue = port.queue(1)
        assert queue.tx_ring is None and queue.rx_ring is port.rx_rings[0]
        with pytest.raises(PortError, match=r"has no queue 0; it has 1"):
            port.queue(0)


@pytest.mark.parametrize("how", ["asleep", "busy", "syncing", "forwarding"])
def test_close_ends_the_calls_of_other_threads_with_port_closed(port: Port, how: str) -> None:
    begun = threading.Semaphore(0)
    ended: list[BaseException] = []

    def work(k: int) -> Callable[[], None]:
        def run() -> None:
            queue = port.queue(k)
            call: Callable[[], object] = {
                "asleep": lambda: queue.poll(PATIENCE_S),
                "busy": lambda: queue.poll(PATIENCE_S, busy=True),
                "syncing": queue.rxsync,
                "forwarding": lambda: queue.forward(queue),
            }[how]
            begun.release()
            try:
                while True:
                    call()
            except PortClosed as error:
                ended.append(error)

        return run

    def close() -> None:
        for _ in range(QUEUES):
            assert begun.acquire(timeout=PATIENCE_S)
        time.sleep(0.02)  # most threads are inside a call by now; the result is the same if they are not
        port.close()

    in_threads(*(work(k) for k in range(QUEUES)), close)
    assert len(ended) == QUEUES and "is closed; open it again" in str(ended[0])


def test_a_forked_child_is_refused_the_queues_of_its_parent(port: Port) -> None:
    queue = port.queue(0)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            queue.rxsync()
        except BaseException as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        assert "belongs to the parent process" in pipe.read()
    os.waitpid(child, 0)
    queue.rxsync()
