"""rxsync: written-back descriptors become slots, released slots become descriptors again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ixrings.rings import RingError, Rule
from ixrings.rings.layout import RingFlag
from tests.support.rings_nic import DD, IOVA, RXE, Bench, RxSide

NS_BUF_CHANGED, NS_MOREFRAG = 1, 0x20


def test_the_first_fill_posts_the_buffer_of_every_slot_and_leaves_one_descriptor_free() -> None:
    rx = Bench(64).rx
    assert [rx.buffer_of(i) for i in range(64)] == rx.ring.slots["buf_idx"].tolist()
    assert rx.memory[:, 1].tolist() == [0] * 64
    assert int(rx.memory[0, 0]) == IOVA + rx.region.buffers_offset + int(rx.ring.slots["buf_idx"][0]) * 2048
    assert rx.rdt == 63
    assert (rx.ring.head, rx.ring.tail) == (0, 0)


@pytest.mark.parametrize("bad", [0, 1, 130, 2**32 - 1])
def test_the_first_fill_refuses_a_slot_without_a_valid_buffer(bad: int) -> None:
    bench = Bench(64)
    ring = bench.rx.ring
    ring.slots["buf_idx"][17] = bad
    rx = RxSide(bench.region, ring, fill=False)
    with pytest.raises(RingError, match=f"slot 17 has buf_idx {bad}"):
        rx.queue.fill()
    assert rx.rdt == 0
    ring.slots["buf_idx"][17] = 5
    rx.queue.fill()
    assert rx.rdt == 63


def test_the_first_fill_takes_given_buffers_whatever_is_in_the_slots() -> None:
    bench = Bench(64)
    buffers = bench.rx.ring.slot_buf_idx.copy()
    bench.rx.ring.slots["buf_idx"] = 0
    rx = RxSide(bench.region, bench.rx.ring, fill=False)
    rx.queue.fill(buffers)
    assert [rx.buffer_of(i) for i in range(64)] == buffers.tolist()
    assert rx.rdt == 63
    rx.ring.slots["buf_idx"] = buffers
    rx.nic_receives(60)
    rx.sync()
    assert rx.ring.reserve(10).len.tolist() == [60]


def test_a_completed_descriptor_becomes_a_slot_with_its_length() -> None:
    rx = Bench(64).rx
    rx.ring.slots["flags"] = 0xFF
    rx.nic_receives(60, 1514)
    rx.sync()
    span = rx.ring.reserve(10)
    assert span.len.tolist() == [60, 1514]
    assert span.flags.tolist() == [0, 0]
    assert (rx.ring.head, rx.ring.cur, rx.ring.tail) == (0, 0, 2)
    assert (rx.queue.packets, rx.queue.bytes, rx.queue.errors) == (2, 1574, 0)


def test_other_status_bits_do_not_change_the_length() -> None:
    rx = Bench(64).rx
    rx.nic_receives(60, status=0x000F_FFFC | 1 << 30 | 1 << 31 | 0xABCD << 48)
    rx.sync()
    assert rx.ring.reserve(1).len.tolist() == [60] and rx.queue.errors == 0


def test_tail_moves_only_past_whole_frames() -> None:
    rx = Bench(64).rx
    rx.nic_receives(60)
    rx.nic_receives(2048, 2048, 2048, 700, chained=True)
    held = rx.memory[3:5, 1].copy()
    rx.memory[3:5, 1] = 0
    rx.sync()
    assert (rx.ring.tail, rx.queue.packets) == (1, 1)
    rx.memory[3, 1] = held[0]
    rx.sync()
    assert rx.ring.tail == 1
    rx.memory[4, 1] = held[1]
    rx.sync()
    assert (rx.ring.tail, rx.queue.packets, rx.queue.bytes) == (5, 2, 60 + 3 * 2048 + 700)
    span = rx.ring.reserve(5)
    assert span.len.tolist() == [60, 2048, 2048, 2048, 700]
    assert span.flags.tolist() == [0] + [NS_MOREFRAG] * 3 + [0]


def test_released_slots_get_fresh_descriptors_and_rdt_is_one_less_than_head() -> None:
    rx = Bench(64).rx
    rx.nic_receives(*[60] * 10)
    rx.sync()
    rx.ring.slots["buf_idx"][3] = 2
    rx.ring.slots["flags"][3] = NS_BUF_CHANGED
    rx.ring.advance(4)
    rx.memory[:10, 0] = 0xFFFF_FFFF_FFFF_FFFF
    rx.sync()
    assert rx.rdt == 3
    assert [rx.buffer_of(i) for i in range(4)] == rx.ring.slots["buf_idx"][:4].tolist()
    assert rx.memory[:4, 1].tolist() == [0] * 4
    assert int(rx.memory[4, 0]) == 0xFFFF_FFFF_FFFF_FFFF, "a slot that the application still owns was posted"
    assert rx.ring.slots["flags"][3] == 0


def test_a_sync_without_released_slots_does_not_write_rdt() -> None:
    rx = Bench(64).rx
    rx.words[0] = 0xDEAD
    rx.sync()
    assert rx.rdt == 0xDEAD


def test_a_full_ring_has_all_slots_but_one_and_goes_on_after_a_release() -> None:
    rx = Bench(64).rx
    rx.nic_receives(*[60] * 63)
    rx.sync()
    assert (rx.ring.space, rx.nic_space) == (63, 0)
    rx.sync()
    assert rx.ring.space == 63
    rx.ring.advance(63)
    rx.sync()
    assert rx.nic_space == 63
    rx.nic_receives(*[61] * 63)
    rx.sync()
    assert rx.ring.tail == 62 and rx.ring.slots["len"][63] == 61


def test_descriptors_that_the_nic_was_not_given_are_not_read() -> None:
    rx = Bench(64).rx
    rx.memory[:, 1] = 60 << 32 | 3
    rx.sync()
    assert rx.ring.tail == 63
    rx.sync()
    assert rx.ring.tail == 63


def test_a_length_over_the_buffer_is_limited_to_it_and_counted() -> None:
    rx = Bench(64, buf_size=1024).rx
    rx.nic_receives(1025, 65535, 1024)
    rx.sync()
    assert rx.ring.reserve(3).len.tolist() == [1024] * 3 and rx.queue.errors == 2


def test_a_damaged_frame_is_delivered_and_counted() -> None:
    rx = Bench(64).rx
    rx.nic_receives(60, status=RXE)
    rx.sync()
    assert rx.ring.space == 1 and rx.queue.errors == 1


def test_a_frame_without_end_is_ended_after_38_slots() -> None:
    rx = Bench(64).rx
    rx.nic_receives(*[1000] * 63, chained=True)
    rx.memory[62, 1] = 1000 << 32 | DD
    rx.sync()
    assert (rx.ring.tail, rx.queue.errors) == (38, 1)
    assert rx.ring.slots["flags"][:39].tolist() == [NS_MOREFRAG] * 37 + [0, NS_MOREFRAG]
    rx.ring.advance(38)
    rx.sync()
    assert rx.nic_space == 38


def test_slots_of_a_frame_without_end_are_counted_over_several_syncs() -> None:
    rx = Bench(64).rx
    for _ in range(3):
        rx.nic_receives(*[1000] * 20, chained=True)
        rx.memory[rx.rdh - 1, 1] = 1000 << 32 | DD
        rx.sync()
    assert (rx.ring.tail, rx.queue.errors) == (38, 1)


def test_the_time_of_a_sync_is_written_on_request() -> None:
    rx = Bench(64).rx
    rx.sync()
    assert rx.ring.ts == 0
    rx.ring.flags = RingFlag.NR_TIMESTAMP
    before = time.time_ns() // 1000 * 1000
    rx.sync()
    assert before <= rx.ring.ts <= time.time_ns()


def index(head: int, cur: int | None = None) -> Callable[[RxSide], None]:
    def change(rx: RxSide) -> None:
        rx.ring.head = head
        rx.ring.cur = head if cur is None else cur

    return change


def buffer(at: int, value: int) -> Callable[[RxSide], None]:
    def change(rx: RxSide) -> None:
        rx.ring.slots["buf_idx"][at] = value

    return change


# Ten frames were received and four slots released (hwcur 4, tail 10). Then head moved to 8.
BROKEN = [
    (index(64), Rule.HEAD_RANGE, 64, "head is 64"),
    (index(8, 64), Rule.CUR_RANGE, 64, "cur is 64"),
    (index(3), Rule.HEAD_BACKWARDS, 3, "moved backwards to 3"),
    (index(11), Rule.HEAD_PAST_TAIL, 11, "head is 11, past the tail; it may be 4 to 10"),
    (index(8, 7), Rule.CUR_BEHIND_HEAD, 7, "cur is 7, before head"),
    (index(8, 11), Rule.CUR_PAST_TAIL, 11, "cur is 11, past the tail"),
    (buffer(6, 0), Rule.BUF_IDX, 0, "slot 6 has buf_idx 0"),
    (buffer(7, 1), Rule.BUF_IDX, 1, "slot 7 has buf_idx 1"),
    (buffer(4, 130), Rule.BUF_IDX, 130, r"slot 4 has buf_idx 130, but buffers of this region are 2\.\.129"),
    (buffer(4, 2**31), Rule.BUF_IDX, 2**31, "slot 4 has buf_idx 2147483648"),
]


@pytest.mark.parametrize("change, rule, value, text", BROKEN, ids=[f"{b[1].name}-{b[2]}" for b in BROKEN])
def test_a_broken_rule_moves_nothing_resets_the_ring_and_is_counted_and_reported(
    change: Callable[[RxSide], None], rule: Rule, value: int, text: str
) -> None:
    rx = Bench(64).rx
    rx.nic_receives(*[60] * 10)
    rx.sync()
    rx.ring.advance(4)
    rx.sync()
    rx.ring.advance(4)
    rx.nic_receives(70, 70)
    rx.ring._words[7] = 50
    change(rx)
    with pytest.raises(RingError, match=text) as caught:
        rx.sync()
    assert caught.value.rule is rule and caught.value.values["value"] == value and caught.value.ring == "ix0 RX ring 0"
    assert rx.rdt == 3
    assert (rx.ring.head, rx.ring.cur, rx.ring.tail) == (4, 4, 10)
    assert (rx.queue.violations, rx.queue.packets) == (1, 10)

    rx.ring.slots["buf_idx"][4:8] = range(2, 6)
    rx.ring.advance(4)
    rx.sync()
    assert (rx.rdt, rx.ring.tail, rx.queue.violations) == (7, 12, 1), "the ring no longer works"


def test_a_restarted_queue_begins_at_slot_0() -> None:
    rx = Bench(64).rx
    rx.nic_receives(60, 60)
    rx.nic_receives(60, 60, chained=True)
    rx.memory[3, 1] = 0
    rx.sync()
    rx.queue.restart()
    rx.queue.fill()
    rx.rdh = 0
    assert (rx.ring.head, rx.ring.tail) == (0, 0)
    rx.nic_receives(64)
    rx.sync()
    assert rx.ring.tail == 1 and rx.ring.slots["flags"][0] == 0


@pytest.mark.parametrize("bad", [0, 1, 130, 2**32 - 1])
def test_one_released_slot_without_a_valid_buffer_is_refused(bad: int) -> None:
    rx = Bench(64).rx
    rx.nic_receives(60)
    rx.sync()
    rx.ring.slots["buf_idx"][0] = bad
    rx.ring.advance(1)
    with pytest.raises(RingError, match=f"slot 0 has buf_idx {bad}"):
        rx.sync()
    assert (rx.rdt, rx.ring.head, rx.queue.violations) == (63, 0, 1)
