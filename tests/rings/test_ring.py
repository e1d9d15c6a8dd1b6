"""A ring in Python: netmap's index arithmetic, spans of slots, and comparison with a model of the contract."""

from __future__ import annotations

import gc
import random
import weakref

import numpy as np
import pytest

from ixrings.rings import Region, RingError, Rule
from ixrings.rings.layout import RingFlag, Word
from tests.support.rings_nic import Bench


def test_the_application_owns_all_but_one_slot_of_a_new_tx_ring_and_none_of_a_new_rx_ring() -> None:
    bench = Bench(64)
    tx, rx = bench.tx.ring, bench.rx.ring
    assert (tx.head, tx.cur, tx.tail, tx.space) == (0, 0, 63, 63)
    assert not tx.pending
    assert (rx.head, rx.cur, rx.tail, rx.space) == (0, 0, 0, 0)
    assert len(rx.reserve(10)) == 0


def test_a_span_is_a_view_of_the_slots_and_not_a_copy() -> None:
    ring = Bench(64).tx.ring
    ring.advance(3)
    span = ring.reserve(4)
    span.len[:] = 60
    span.flags[1] = 2
    span.ptr[:] = 7
    assert (span.start, len(span)) == (3, 4)
    assert ring.slots["len"].tolist() == [2048] * 3 + [60] * 4 + [2048] * 57
    assert ring.slots["flags"].tolist()[:6] == [0, 0, 0, 0, 2, 0]
    assert ring.slots["ptr"][3:7].tolist() == [7] * 4
    assert span.buf_idx.tolist() == ring.slots["buf_idx"][3:7].tolist()


def test_a_batch_that_comes_back_has_the_same_span_and_views_and_few_are_kept() -> None:
    ring = Bench(512).tx.ring
    span, shorter = ring.reserve(32), ring.reserve(31)
    assert (len(span), len(shorter)) == (32, 31)
    again = ring.reserve(31)
    assert again is shorter and again.len is shorter.len
    for _ in range(511):
        assert ring.reserve(1).start == ring.head
        ring.advance(1)
    assert len(ring._spans) <= 256


def test_the_spans_of_a_closed_interface_do_not_keep_its_memory_until_garbage_collection() -> None:
    region = Region.for_ports(tx_slots=64, rx_slots=64)
    port = region.register("ix0", tx_slots=[64], rx_slots=[64])
    port.tx_rings[0].reserve(4).len[:] = 60
    port.read(port.tx_rings[0].reserve(4), 60, into=np.empty((4, 60), np.uint8))
    slots, buffers = weakref.ref(port.tx_rings[0].slots), weakref.ref(port.buffers)
    gc.disable()
    try:
        region.close()
        assert (slots(), buffers()) == (None, None)
    finally:
        gc.enable()


def test_a_span_ends_at_the_end_of_the_ring_and_the_next_starts_at_slot_0() -> None:
    bench = Bench(64)
    ring = bench.tx.ring
    ring.slots["len"] = 60
    ring.advance(60)
    bench.tx.sync()
    bench.tx.nic_sends()
    bench.tx.sync()
    assert ring.space == 63
    assert (ring.reserve(50).start, len(ring.reserve(50))) == (60, 4)
    ring.advance(4)
    assert (ring.head, ring.reserve(50).start, len(ring.reserve(100))) == (0, 0, 59)
    ring.advance(59)
    assert ring.space == 0 and len(ring.reserve(1)) == 0


@pytest.mark.parametrize("n", [64, -1, 1000])
def test_advancing_past_the_tail_is_refused_and_moves_nothing(n: int) -> None:
    ring = Bench(64).tx.ring
    with pytest.raises(RingError, match=rf"ix0 TX ring 0: advance\({n}\) is outside 0\.\.63.*reserve\(\)") as caught:
        ring.advance(n)
    assert caught.value.rule is Rule.ADVANCE and caught.value.values["value"] == n
    assert (ring.head, ring.cur) == (0, 0)


def test_reserving_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="ask for 0 or more"):
        Bench(64).tx.ring.reserve(-1)


@pytest.mark.parametrize("word", [5, 7])
def test_a_head_or_tail_that_another_program_overwrote_is_reported(word: int) -> None:
    ring = Bench(64).tx.ring
    ring._words[word] = 64
    with pytest.raises(RingError, match="64 is not a slot of this ring"):
        ring.reserve(1)


def test_tx_is_pending_until_the_nic_has_sent_the_last_frame() -> None:
    tx = Bench(64).tx
    tx.put(60, 60, 60)
    assert tx.ring.pending
    tx.sync()
    assert tx.ring.pending
    tx.nic_sends(2)
    tx.sync()
    assert tx.ring.pending and tx.ring.tail == 1
    tx.nic_sends(3)
    tx.sync()
    assert (tx.ring.pending, tx.ring.space) == (False, 63)


def test_ring_flags_are_the_applications_to_set() -> None:
    ring = Bench(64).rx.ring
    ring.flags = RingFlag.NR_TIMESTAMP
    assert int(ring.flags) == 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slots", [64, 72, 200])
def test_any_sequence_of_moves_and_syncs_agrees_with_a_model_of_the_tx_contract(slots: int, seed: int) -> None:
    rng = random.Random(seed)
    tx = Bench(slots).tx
    tx.ring.slots["len"] = 60
    head = given = sent = known = 0  # since the start, not circular
    for _ in range(1500):
        action = rng.randrange(4)
        space = known + slots - 1 - head
        assert tx.ring.space == space
        if action == 0:
            n = rng.randint(0, min(space, 40))
            tx.ring.advance(n)
            head += n
        elif action == 1:
            sent = rng.randint(sent, given)
            tx.nic_sends(sent % slots)
        elif action == 2:
            tx.sync()
            given, known = head, sent
            assert tx.tdt == given % slots
        elif space < slots - 2:
            tx.ring.head = (
                (known + slots + rng.randint(0, given - known - 1)) % slots if given > known else given % slots
            )
            legal = tx.ring.head == given % slots
            tx.ring.cur = tx.ring.head
            if legal:
                tx.sync()
                given, known, head = given, sent, given
                continue
            with pytest.raises(RingError):
                tx.sync()
            head = given
        assert (tx.ring.head, tx.ring.cur) == (head % slots, head % slots)
        assert tx.ring.tail == (known - 1) % slots
        assert tx.ring.pending == (known != head)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slots", [64, 72, 200])
def test_any_sequence_of_moves_and_syncs_agrees_with_a_model_of_the_rx_contract(slots: int, seed: int) -> None:
    rng = random.Random(seed)
    rx = Bench(slots).rx
    head = released = received = known = 0
    lengths: list[int] = []
    for _ in range(1500):
        action = rng.randrange(3)
        if action == 0:
            assert rx.nic_space == released + slots - 1 - received
            for _ in range(rng.randint(0, rx.nic_space)):
                lengths.append(rng.randint(60, 2048))
                rx.nic_receives(lengths[-1])
                received += 1
        elif action == 1:
            rx.sync()
            released, known = head, received
        else:
            span = rx.ring.reserve(rng.randint(0, 40))
            assert span.len.tolist() == lengths[head : head + len(span)]
            rx.ring.advance(len(span))
            head += len(span)
        assert rx.ring.space == known - head
        assert rx.ring.tail == known % slots
        assert rx.rdt == (released - 1) % slots


class Recorder:
    """The words of a ring's header; records head and cur after each store."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self.seen: list[tuple[int, int]] = []

    def __getitem__(self, word: int) -> int:
        return int(self.words[word])

    def __setitem__(self, word: int, value: int) -> None:
        self.words[word] = value
        self.seen.append((self[int(Word.HEAD)], self[int(Word.CUR)]))


def test_a_sync_of_another_thread_during_advance_never_finds_cur_before_head() -> None:
    ring = Bench(64).tx.ring
    recorder = Recorder(ring._words)
    ring._words = recorder  # type: ignore[assignment]  # it stands in for a memoryview
    ring.advance(3)
    assert recorder.seen == [(0, 3), (3, 3)]


def test_moving_head_past_a_full_ring_is_refused_in_both_directions() -> None:
    bench = Bench(64)
    for side, slots in ((bench.rx, 0), (bench.tx, 63)):
        side.ring.slots["len"] = 60
        side.ring.advance(slots)
        side.sync()
        assert side.ring.space == 0
        side.ring.head = side.ring.cur = slots + 1 & 63
        before = side.words[0].copy()
        with pytest.raises(RingError) as caught:
            side.sync()
        assert caught.value.rule in (Rule.HEAD_PAST_TAIL, Rule.HEAD_BACKWARDS) and side.words[0] == before
