"""Zero-copy forwarding, busy waiting, and several threads at once."""

from __future__ import annotations

import threading
import time

import pytest

from ixrings.rings import Region, RingError, Rule
from ixrings.rings.hotloop import FREE_THREADED, BusyWait, Forward, TxSync
from ixrings.rings.pages import PageTable
from tests.support.rings_nic import Bench, RxSide, TxSide

NS_REPORT, NS_MOREFRAG = 2, 0x20


def two_ports(rx_slots: int = 64, tx_slots: int = 64) -> tuple[RxSide, TxSide]:
    region = Region.for_ports(2, tx_slots=max(rx_slots, tx_slots), rx_slots=max(rx_slots, tx_slots))
    a = region.register("a", tx_slots=[64], rx_slots=[rx_slots])
    b = region.register("b", tx_slots=[tx_slots], rx_slots=[64])
    return RxSide(region, a.rx_rings[0]), TxSide(region, b.tx_rings[0])


def test_frames_cross_by_exchanging_buffers() -> None:
    rx, tx = two_ports()
    received = rx.ring.slots["buf_idx"][:3].tolist()
    spare = tx.ring.slots["buf_idx"][:3].tolist()
    rx.nic_receives(60, 700, 1514)
    forward = Forward((rx.queue, tx.queue))
    assert forward() == 3
    assert tx.ring.slots["buf_idx"][:3].tolist() == received
    assert [tx.descriptor(i).dtalen for i in range(3)] == [60, 700, 1514]
    assert tx.tdt == 3 and (tx.ring.head, tx.ring.cur) == (3, 3)
    assert rx.ring.slots["buf_idx"][:3].tolist() == spare
    assert (rx.ring.head, rx.ring.cur, rx.ring.tail) == (3, 3, 3)
    assert forward() == 0
    assert [rx.buffer_of(i) for i in range(3)] == spare and rx.rdt == 2
    assert rx.ring.slots["flags"][:3].tolist() == tx.ring.slots["flags"][:3].tolist() == [0, 0, 0]
    assert (forward.frames, forward.slots) == (3, 3)


def test_frames_over_several_slots_are_never_split() -> None:
    rx, tx = two_ports()
    for _ in range(5):
        rx.nic_receives(2048, 2048, 100, chained=True)
    forward = Forward((rx.queue, tx.queue))
    assert forward(limit=2) == 2
    assert tx.tdt == 6 and rx.ring.head == 6
    assert [tx.descriptor(i).eop for i in range(6)] == [False, False, True] * 2
    assert tx.descriptor(3).paylen == 4196
    tx.ring.advance(50 - 6)
    tx.ring.slots["len"] = 60
    tx.ring.slots["flags"] = 0
    tx.sync()
    for _ in range(2):
        rx.nic_receives(2048, 2048, 100, chained=True)
    assert forward() == 4, "13 free slots are enough for four frames of three slots"
    assert (tx.ring.space, tx.tdt) == (1, 62)
    tx.nic_sends()
    assert forward() == 1 and tx.tdt == 1
    assert (forward.frames, forward.slots) == (7, 21)


@pytest.mark.parametrize("limit", [-1, 1 << 32])
def test_a_limit_that_c_would_read_as_another_number_is_refused(limit: int) -> None:
    rx, tx = two_ports()
    rx.nic_receives(60)
    forward = Forward((rx.queue, tx.queue))
    with pytest.raises(ValueError, match=f"limit is {limit}; choose 0 to 4294967295"):
        forward(limit)
    assert forward(limit=0) == 0 and forward(limit=(1 << 32) - 1) == 1


def test_rings_of_different_sizes_wrap_at_every_slot() -> None:
    rx, tx = two_ports(rx_slots=72, tx_slots=64)
    forward = Forward((rx.queue, tx.queue))
    sent: list[int] = []
    for k in range(400):
        lengths = [60 + (k * 7 + j) % 1400 for j in range(k % 13)]
        rx.nic_receives(*lengths)
        first = tx.tdt
        assert forward() == len(lengths)
        assert [tx.descriptor((first + j) % 64).dtalen for j in range(len(lengths))] == lengths
        tx.nic_sends()
        sent += lengths
    assert tx.queue.packets == rx.queue.packets == len(sent)
    held = rx.ring.slots["buf_idx"].tolist() + tx.ring.slots["buf_idx"].tolist()
    assert len(set(held)) == 72 + 64, "a buffer was lost or doubled"


def test_only_morefrag_of_a_slots_flags_is_forwarded() -> None:
    rx, tx = two_ports()
    rx.nic_receives(60, 60)
    rx.sync()
    rx.ring.slots["flags"][0] = 0x0110 | NS_REPORT
    assert Forward((rx.queue, tx.queue))() == 2
    assert tx.ring.slots["flags"][0] == 0 and not tx.descriptor(0).rs


def test_frames_that_the_application_put_in_the_tx_ring_are_sent_first() -> None:
    rx, tx = two_ports()
    tx.put(99)
    rx.nic_receives(60)
    assert Forward((rx.queue, tx.queue))() == 1
    assert [tx.descriptor(i).dtalen for i in range(2)] == [99, 60]


def test_frames_wait_in_the_rx_ring_while_tx_is_full() -> None:
    rx, tx = two_ports()
    tx.put(*[60] * 63)
    rx.nic_receives(61, 62)
    forward = Forward((rx.queue, tx.queue))
    assert forward() == 0 and rx.ring.space == 2
    tx.nic_sends(1)
    assert forward() == 1 and tx.descriptor(63).dtalen == 61
    tx.nic_sends()
    assert forward() == 1 and tx.descriptor(0).dtalen == 62


def test_a_violation_in_one_pair_is_reported_and_the_other_pair_goes_on() -> None:
    region = Region.for_ports(2, tx_slots=64, rx_slots=64)
    a = region.register("a", tx_slots=[64], rx_slots=[64])
    b = region.register("b", tx_slots=[64], rx_slots=[64])
    a_rx, a_tx = RxSide(region, a.rx_rings[0]), TxSide(region, a.tx_rings[0])
    b_rx, b_tx = RxSide(region, b.rx_rings[0]), TxSide(region, b.tx_rings[0])
    forward = Forward((a_rx.queue, b_tx.queue), (b_rx.queue, a_tx.queue))
    a_rx.nic_receives(60)
    b_rx.nic_receives(60, 60)
    b_tx.ring.head = 99
    with pytest.raises(RingError, match="b TX ring 0: head is 99"):
        forward()
    assert (b_tx.tdt, a_tx.tdt, forward.frames) == (0, 2, 2)
    assert forward() == 1 and b_tx.tdt == 1


def test_rings_of_two_regions_cannot_forward_to_each_other() -> None:
    with pytest.raises(ValueError, match=r"a RX ring 0 and b TX ring 0 are in different regions.*open_ports\(\)"):
        Forward((Bench(name="a").rx.queue, Bench(name="b").tx.queue))


def test_busy_waiting_ends_when_a_frame_is_there_and_not_before() -> None:
    rx, _ = two_ports()
    wait = BusyWait([rx.queue])
    start = time.monotonic()
    assert wait(20_000_000) is False
    assert 0.02 <= time.monotonic() - start < 20
    timer = threading.Timer(0.02, rx.nic_receives, (60,))
    timer.start()
    assert wait(5_000_000_000) is True, "the waiting thread kept the GIL, or read the wrong descriptor"
    timer.join()
    assert wait(0) is True
    rx.sync()
    assert wait(0) is False
    assert rx.ring.space == 1, "waiting touched the ring"


def test_busy_waiting_for_space_ends_when_the_nic_has_sent() -> None:
    rx, tx = two_ports()
    wait = BusyWait([rx.queue], [tx.queue])
    assert wait(0) is False
    tx.put(60, 60)
    tx.sync()
    assert wait(0) is False
    tx.nic_sends(1)
    assert wait(0) is True
    tx.sync()
    assert wait(0) is False


def test_threads_that_sync_one_ring_take_turns_or_are_told_that_they_must() -> None:
    """With the GIL a sync is one step. Without it, a sync that meets another one does nothing and says so."""
    tx = Bench(64).tx
    syncs = [TxSync([tx.queue]) for _ in range(3)]
    stop = threading.Event()
    errors: list[Exception] = []

    def run(sync: TxSync) -> None:
        while not stop.is_set():
            try:
                sync()
            except RingError as error:
                if not (FREE_THREADED and error.rule is Rule.ONE_THREAD):
                    errors.append(error)
                    return

    threads = [threading.Thread(target=run, args=(sync,)) for sync in syncs]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        if tx.ring.space >= 7:
            tx.put(*[60] * min(7, len(tx.ring.reserve(7))))
        tx.nic_sends()
    deadline = time.monotonic() + 30
    while tx.ring.pending and time.monotonic() < deadline:
        tx.nic_sends()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors and not tx.ring.pending
    assert tx.queue.packets % 64 == tx.tdt
    assert tx.queue.violations == 0


@pytest.mark.parametrize(
    "field, value, rule", [("buf_idx", 0, "BUF_IDX"), ("len", 0, "LEN_ZERO"), ("len", 2049, "LEN_OVER_BUFFER")]
)
def test_an_overwritten_received_slot_is_reported_by_its_rule_and_costs_no_other_frame(
    field: str, value: int, rule: str
) -> None:
    rx, tx = two_ports()
    rx.nic_receives(*[60] * 32)
    rx.sync()
    good = int(rx.ring.slots[field][10])
    rx.ring.slots[field][10] = value
    forward = Forward((rx.queue, tx.queue))
    for _ in range(2):
        with pytest.raises(RingError, match=f"a RX ring 0: slot 10 has .*{rule}"):
            forward()
        assert (forward.frames, tx.queue.packets, tx.tdt, rx.ring.head) == (10, 10, 10, 10)
    rx.ring.slots[field][10] = good
    assert forward() == 22 and (forward.frames, tx.queue.packets) == (32, 32)
    held = rx.ring.slots["buf_idx"].tolist() + tx.ring.slots["buf_idx"].tolist()
    assert len(set(held)) == 128


def test_an_overwritten_spare_buffer_is_reported_for_the_tx_ring() -> None:
    rx, tx = two_ports()
    rx.nic_receives(*[60] * 8)
    tx.ring.slots["buf_idx"][5] = 1
    with pytest.raises(RingError, match="b TX ring 0: slot 5 has buf_idx 1"):
        Forward((rx.queue, tx.queue))()
    assert rx.ring.slots["buf_idx"].min() >= 2 and tx.queue.packets == 5


def test_received_frames_that_a_program_joined_into_one_are_reported() -> None:
    rx, tx = two_ports()
    rx.nic_receives(*[60] * 63)
    rx.sync()
    rx.ring.slots["flags"] = NS_MOREFRAG
    with pytest.raises(RingError, match="a RX ring 0: .*CHAIN_TOO_LONG"):
        Forward((rx.queue, tx.queue))()
    rx.ring.slots["flags"] = 0
    assert Forward((rx.queue, tx.queue))() == 63


@pytest.mark.parametrize("count", [1, 2, 40])
def test_every_lane_looks_up_the_page_of_a_buffer(count: int) -> None:
    region = Region.for_ports(tx_slots=64, rx_slots=64)
    port = region.register("ix0", tx_slots=[64], rx_slots=[64])
    places = [0x7_0000_0000 - i * 5 * 4096 for i in range(region.size // 4096)]
    tx = TxSide(region, port.tx_rings[0], iova=PageTable(places, 4096))
    rx = RxSide(region, port.rx_rings[0], iova=PageTable(places, 4096))

    def check(side: TxSide | RxSide, slots: range) -> None:
        for i in slots:
            offset = region.buffers_offset + int(side.ring.slots["buf_idx"][i]) * 2048
            assert int(side.memory[i, 0]) == places[offset // 4096] + offset % 4096

    tx.put(*[60] * count)
    tx.sync()
    check(tx, range(count))
    rx.nic_receives(*[60] * count)
    rx.sync()
    rx.memory[:count, 0] = 0
    rx.ring.advance(count)
    rx.sync()
    check(rx, range(count))
    tx.nic_sends()
    rx.nic_receives(*[60] * 20)
    assert Forward((rx.queue, tx.queue))(limit=20) == 20
    check(tx, range(count, count + 20))
    rx.sync()
    check(rx, range(count, count + 20))
