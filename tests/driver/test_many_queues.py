"""128 queues each way: filters reach the queues that RSS does not, and queues share vectors and counters."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from select import POLLIN, POLLOUT

import pytest

from ixrings import FiveTupleFilter, FlowDirector, FlowFilter, Port, Protocol, open_port
from ixrings.driver.cli.stats import port_counts
from ixrings.driver.interrupts import share_vectors
from ixrings.hw.emulator import Emulated82599
from tests.support.steered import TCP, UDP, ethernet, packet, queue_of, take

TO_100, TO_77 = ethernet(packet(UDP, dport=100)), ethernet(packet(TCP, dport=77))
RSS_FRAMES = [ethernet(packet(sport=sport)) for sport in range(200)]


@pytest.fixture
def port() -> Iterator[Port]:
    with open_port(
        "emulated", tx_queues=128, rx_queues=128, tx_slots=64, rx_slots=64, flow_director=FlowDirector.PERFECT
    ) as opened:
        opened.filters.add(
            FiveTupleFilter(100, Protocol.UDP, destination_port=100), FlowFilter(77, Protocol.TCP, destination_port=77)
        )
        yield opened


def test_rss_reaches_sixteen_queues_and_filters_all(port: Port) -> None:
    assert {queue_of(port, frame) for frame in RSS_FRAMES} == set(range(16))
    assert queue_of(port, TO_100) == 100 and queue_of(port, TO_77) == 77
    with pytest.raises(ValueError, match="RSS cannot choose queue 16: it reaches queues 0 to 15"):
        port.rss.table = range(17)
    with pytest.raises(
        ValueError, match=r"to queue 127, but this port receives from that queue\. Open the port with rx_queues=127"
    ):
        port.filters.add(FlowFilter(None, Protocol.TCP, destination_port=1))


def test_every_transmit_queue_sends_and_shared_counters_are_kept_apart(port: Port) -> None:
    for queue in range(128):
        port.send([TO_100] * (queue % 3 + 1), ring=queue)
    port.flush(30)
    stats = port.stats()
    assert [queue["QPTC"] for queue in stats.tx] == [queue % 3 + 1 for queue in range(15)]
    assert stats.tx_others["QPTC"] == sum(queue % 3 + 1 for queue in range(15, 128))
    assert stats["GPTC"] == sum(queue % 3 + 1 for queue in range(128))
    assert [queue["QPRC"] for queue in stats.rx] == [0] * 15
    assert stats.rx_others["QPRC"] + stats.rx_others["QPRDC"] == stats["GPTC"], (
        "a ring of 64 slots fills up at some time and drops"
    )
    assert stats.rx_others["QBRC"] == stats.rx_others["QPRC"] * len(TO_100)


def test_a_sleeping_poll_is_woken_by_a_queue_that_shares_its_vector(port: Port) -> None:
    assert port.nic.IVAR[50].read().INT_ALLOC_0 == port.nic.IVAR[2].read().INT_ALLOC_0, "receive queues 100 and 4"
    poller = select.poll()
    poller.register(port, POLLIN)
    assert not poller.poll(50)
    for frame, queue in ((TO_100, 100), (TO_77, 77)) * 20:
        port.send([frame], ring=127)
        assert poller.poll(30_000), f"no wake-up for queue {queue}"
        port.rxsync()
        assert take(port) == {frame: queue}
        port.rxsync()
    port.send([TO_100], ring=127)
    assert port.poll(30) == POLLIN


def test_a_sleeping_poll_is_woken_when_a_high_transmit_queue_has_room() -> None:
    with open_port("emulated-127/T:sink", tx_queues=128, tx_slots=64) as port:
        nic = port.device
        assert isinstance(nic, Emulated82599)
        (ring,) = port.tx_rings
        span = ring.reserve(63)
        span.len[:] = 60
        ring.advance(len(span))
        nic.set_link(False)
        port.txsync()
        assert port.poll(0.05, POLLOUT) == 0
        timer = threading.Timer(0.1, nic.set_link, [True])
        timer.start()
        assert port.poll(30, POLLOUT) == POLLOUT
        timer.join()
        port.flush(30)
        assert ring.space == 63
        assert port.stats().tx_others["QPTC"] == 63


@pytest.mark.parametrize(
    ("rx", "tx", "vectors", "shares"),
    [
        (1, 1, 64, (1, 1)),
        (16, 16, 64, (16, 16)),
        (32, 31, 64, (32, 31)),
        (32, 32, 64, (32, 31)),
        (128, 128, 64, (32, 31)),
        (128, 1, 64, (62, 1)),
        (1, 128, 64, (1, 62)),
        (40, 20, 64, (40, 20)),
        (50, 20, 64, (43, 20)),
        (128, 128, 3, (1, 1)),
        (128, 128, 0, (128, 128)),
    ],
)
def test_vectors_are_shared_where_there_are_too_few(rx: int, tx: int, vectors: int, shares: tuple[int, int]) -> None:
    assert share_vectors(rx, tx, vectors) == shares


def test_sixteen_queues_have_their_own_counters_and_with_a_flow_director_fifteen() -> None:
    for director, own in ((None, 16), (FlowDirector.PERFECT, 15)):
        with open_port("emulated", rx_queues=16, rx_slots=64, tx_slots=64, flow_director=director) as port:
            port.rss.table = [15]
            port.send([RSS_FRAMES[0]])
            assert port.poll(30)
            stats = port.stats()
            assert [queue["QPRC"] for queue in stats.rx] + [stats.rx_others["QPRC"]] == [0] * 15 + (
                [1, 0] if own == 16 else [1]
            )


def test_transmit_queues_are_classes_only_above_64() -> None:
    for queues, mode in ((64, 0), (65, 0b1001)):
        with open_port("emulated:sink", tx_queues=queues, tx_slots=64, mtu=9000) as port:
            assert port.nic.MTQC.read() == mode
            assert sum(buffer.read().SIZE for buffer in port.nic.TXPBSIZE) == 160
            port.send([bytes(9000)], ring=queues - 1)
            port.flush(30)


def test_the_counters_of_many_queues_are_shown_with_their_queues(port: Port) -> None:
    port.send([TO_100], ring=99)
    port.flush(30)
    counts = port_counts(port)
    assert counts["QPTC[15..]"] == 1 and counts["QPTC[14]"] == 0 and "QPTC[15]" not in counts
