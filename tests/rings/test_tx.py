"""txsync: slots become descriptors, bit by bit, and each rule that a program can break is reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ixrings.rings import Region, RingError, Rule
from ixrings.rings.hotloop import TxSync
from tests.support.rings_nic import IOVA, Bench, TxDescriptor, TxSide

NS_BUF_CHANGED, NS_REPORT, NS_INDIRECT, NS_MOREFRAG = 1, 2, 0x10, 0x20


def test_a_frame_becomes_one_data_descriptor() -> None:
    tx = Bench(64).tx
    tx.put(1000)
    tx.sync()
    index = int(tx.ring.slots["buf_idx"][0])
    assert tx.descriptor(0) == TxDescriptor(
        address=IOVA + tx.region.buffers_offset + index * 2048,
        dtalen=1000,
        reserved=0,
        mac=0,
        dtyp=3,
        eop=True,
        ifcs=True,
        rs=True,
        dext=True,
        other_commands=0,
        status_to_popts=0,
        paylen=1000,
    )
    assert tx.tdt == 1
    assert (tx.queue.packets, tx.queue.bytes, tx.queue.violations) == (1, 1000, 0)


def test_a_frame_in_several_slots_has_its_length_in_the_first_descriptor_and_its_end_in_the_last() -> None:
    tx = Bench(64).tx
    tx.put(2048, 2048, 100, chained=True)
    tx.put(60)
    tx.sync()
    got = [tx.descriptor(i) for i in range(4)]
    assert [d.paylen for d in got] == [4196, 0, 0, 60]
    assert [d.dtalen for d in got] == [2048, 2048, 100, 60]
    assert [d.eop for d in got] == [False, False, True, True]
    assert [d.rs for d in got] == [False, False, False, True]
    assert all(d.ifcs and d.dext and d.dtyp == 3 for d in got)
    assert (tx.queue.packets, tx.queue.bytes) == (2, 4256)


def test_a_frame_continues_over_the_end_of_the_ring() -> None:
    tx = Bench(64).tx
    tx.put(*[60] * 62)
    tx.sync()
    tx.nic_sends()
    tx.sync()
    tx.ring.slots["len"] = 500
    tx.ring.slots["flags"][[62, 63, 0]] = NS_MOREFRAG
    tx.ring.advance(4)
    tx.sync()
    assert [tx.descriptor(i).paylen for i in (62, 63, 0, 1)] == [2000, 0, 0, 0]
    assert [tx.descriptor(i).eop for i in (62, 63, 0, 1)] == [False, False, False, True]
    assert tx.tdt == 2


def test_a_frame_may_have_38_slots() -> None:
    tx = Bench(64).tx
    tx.put(*[400] * 38, chained=True)
    tx.sync()
    assert tx.descriptor(0).paylen == 15200 and tx.descriptor(37).eop and tx.tdt == 38


def test_rs_is_set_at_the_end_of_a_sync_for_reports_and_every_32_slots() -> None:
    tx = Bench(256).tx
    tx.put(*[60] * 100)
    tx.ring.slots["flags"][10] = NS_REPORT
    tx.sync()
    assert [i for i in range(100) if tx.descriptor(i).rs] == [10, 42, 74, 99]
    tx.put(*[60] * 5)
    tx.sync()
    assert [i for i in range(100, 105) if tx.descriptor(i).rs] == [104]


def test_rs_is_set_only_where_a_frame_ends() -> None:
    tx = Bench(256).tx
    for _ in range(20):
        tx.put(100, 100, 100, 100, 100, chained=True)
    tx.sync()
    with_rs = [i for i in range(100) if tx.descriptor(i).rs]
    assert with_rs == [34, 69, 99]
    assert all(tx.descriptor(i).eop for i in with_rs)


def test_flags_for_one_sync_are_cleared_and_others_stay() -> None:
    tx = Bench(64).tx
    tx.put(60, 60, 60)
    tx.ring.slots["flags"][:4] = [NS_BUF_CHANGED | NS_REPORT | 0x100, NS_MOREFRAG | NS_BUF_CHANGED, 0, NS_REPORT]
    tx.sync()
    assert tx.ring.slots["flags"][:4].tolist() == [0x100, NS_MOREFRAG, 0, NS_REPORT]


@pytest.mark.parametrize("length", [1, 14, 16])
def test_a_frame_too_small_for_the_nic_is_filled_up_with_zeroes_in_its_own_buffer(length: int) -> None:
    tx = Bench(64).tx
    index = int(tx.ring.slots["buf_idx"][0])
    tx.region.buffers[:] = 0xAA
    tx.put(length)
    tx.sync()
    assert (tx.descriptor(0).dtalen, tx.descriptor(0).paylen) == (17, 17)
    assert tx.region.buffers[index, :20].tolist() == [0xAA] * length + [0] * (17 - length) + [0xAA] * 3
    assert (tx.region.buffers == 0xAA).sum() == tx.region.buffers.size - (17 - length)
    assert tx.ring.slots["len"][0] == length


def test_a_sync_without_new_slots_does_not_write_tdt() -> None:
    tx = Bench(64).tx
    tx.put(60)
    tx.sync()
    tx.words[0] = 0xDEAD
    tx.sync()
    assert tx.tdt == 0xDEAD


def test_a_tail_that_the_application_changed_is_restored_without_a_report() -> None:
    tx = Bench(64).tx
    tx.ring._words[7] = 3
    tx.sync()
    assert tx.ring.tail == 63 and tx.queue.violations == 0


def test_a_sync_of_one_frame_uses_the_true_tail_and_the_next_sync_restores_it() -> None:
    tx = Bench(64).tx
    tx.put(60)
    tx.ring._words[7] = 3
    tx.sync()
    assert tx.tdt == 1 and tx.queue.violations == 0
    tx.sync()
    assert tx.ring.tail == 63
    for _ in range(62):
        tx.put(60)
        tx.sync()
    assert tx.ring.space == 0
    for word, index in ((5, 0), (6, 0), (7, 10)):  # head, cur, tail
        tx.ring._words[word] = index
    with pytest.raises(RingError, match="HEAD_PAST_TAIL"):
        tx.sync()
    assert tx.tdt == 63 and tx.ring.tail == 63


def test_buffer_addresses_use_the_stride_of_the_region() -> None:
    tx = Bench(64, buf_size=2112).tx
    last = tx.region.total_buffers - 1
    tx.put(60)
    tx.ring.slots["buf_idx"][0] = last
    tx.sync()
    assert tx.descriptor(0).address == IOVA + tx.region.size - 2112
    assert tx.descriptor(0).address == IOVA + tx.region.buffers_offset + last * 2112


def slot(field: str, value: int, at: int = 2) -> Callable[[TxSide], None]:
    def change(tx: TxSide) -> None:
        tx.ring.slots[field][at] = value

    return change


def index(head: int, cur: int | None = None) -> Callable[[TxSide], None]:
    def change(tx: TxSide) -> None:
        tx.ring.head = head
        tx.ring.cur = head if cur is None else cur

    return change


def chain(*lengths: int) -> Callable[[TxSide], None]:
    def change(tx: TxSide) -> None:
        tx.put(*lengths, chained=True)

    return change


# Ten slots were handed over and four sent (tail 3). Then head moved to 15: the sync concerns slots 10..14.
BROKEN = [
    (index(64), Rule.HEAD_RANGE, 64, "head is 64, but the ring's slots are 0..63"),
    (index(2**32 - 1), Rule.HEAD_RANGE, 2**32 - 1, "head is 4294967295"),
    (index(15, 64), Rule.CUR_RANGE, 64, "cur is 64"),
    (index(9), Rule.HEAD_BACKWARDS, 9, r"moved backwards to 9; it may be 10 .* to 3"),
    (index(4), Rule.HEAD_PAST_TAIL, 4, "head is 4, past the tail"),
    (index(15, 14), Rule.CUR_BEHIND_HEAD, 14, "cur is 14, before head; it may be 15"),
    (index(15, 9), Rule.CUR_BEHIND_HEAD, 9, "cur is 9"),
    (index(15, 4), Rule.CUR_PAST_TAIL, 4, "cur is 4, past the tail"),
    (slot("buf_idx", 0, 12), Rule.BUF_IDX, 0, "slot 12 has buf_idx 0, but buffers of this region are 2..129"),
    (slot("buf_idx", 1, 12), Rule.BUF_IDX, 1, "slot 12 has buf_idx 1"),
    (slot("buf_idx", 130, 14), Rule.BUF_IDX, 130, "slot 14 has buf_idx 130"),
    (slot("buf_idx", 2**32 - 1, 14), Rule.BUF_IDX, 2**32 - 1, "slot 14 has buf_idx 4294967295"),
    (slot("len", 0, 10), Rule.LEN_ZERO, 0, "slot 10 has len 0; a slot to send carries 1..2048"),
    (slot("len", 2049, 10), Rule.LEN_OVER_BUFFER, 2049, "slot 10 has len 2049"),
    (slot("len", 65535, 10), Rule.LEN_OVER_BUFFER, 65535, "slot 10 has len 65535"),
    (slot("flags", NS_INDIRECT | 1, 11), Rule.INDIRECT, 0x11, "slot 11 has NS_INDIRECT .flags 0x11.; put the data"),
    (slot("flags", NS_MOREFRAG, 14), Rule.CHAIN_NOT_ENDED, 1, "slot 14 is the last before head and has NS_MOREFRAG"),
    (chain(*[400] * 39), Rule.CHAIN_TOO_LONG, 39, "slot 53 has 39 slots up to there; NS_MOREFRAG joins at most 38"),
    (chain(*[2000] * 9), Rule.FRAME_TOO_LONG, 18000, "slot 23 has 18000 bytes up to there; the NIC accepts 17..16380"),
    (chain(5, 5, 5), Rule.FRAME_TOO_SHORT, 15, "ends in slot 17 has 15 bytes"),
]  # fmt: skip


@pytest.mark.parametrize("change, rule, value, text", BROKEN, ids=[f"{b[1].name}-{b[2]}" for b in BROKEN])
def test_a_broken_rule_moves_nothing_resets_the_ring_and_is_counted_and_reported(
    change: Callable[[TxSide], None], rule: Rule, value: int, text: str
) -> None:
    tx = Bench(64).tx
    tx.put(*[60] * 10)
    tx.sync()
    tx.nic_sends(4)
    tx.sync()
    tx.put(*[60] * 5)
    flags = tx.ring.slots["flags"]
    flags[10] |= NS_BUF_CHANGED
    tx.ring._words[7] = 50  # a wrong tail is restored, too
    if rule in (Rule.CHAIN_TOO_LONG, Rule.FRAME_TOO_LONG, Rule.FRAME_TOO_SHORT):
        tx.ring._words[7] = 3
    change(tx)
    asked = flags.copy()
    with pytest.raises(RingError, match=text) as caught:
        tx.sync()
    assert caught.value.rule is rule and caught.value.values["value"] == value and caught.value.ring == "ix0 TX ring 0"
    assert str(caught.value).startswith("ix0 TX ring 0: ") and rule.name in str(caught.value)
    assert tx.tdt == 10
    assert (tx.ring.head, tx.ring.cur, tx.ring.tail) == (10, 10, 3)
    assert (tx.queue.violations, tx.queue.packets, tx.queue.bytes) == (1, 10, 600)
    assert np.array_equal(flags, asked)

    tx.ring.slots["buf_idx"][10:15] = range(2, 7)
    flags[:] = 0
    tx.put(*[61] * 5)
    tx.nic_sends()
    tx.sync()
    assert (tx.tdt, tx.queue.packets, tx.queue.violations) == (15, 15, 1), "the ring no longer works"


@pytest.mark.parametrize("nic_head", [64, 2**32 - 1, 3, 11])
def test_an_impossible_head_write_back_is_reported_and_not_used(nic_head: int) -> None:
    tx = Bench(64).tx
    tx.put(*[60] * 10)
    tx.sync()
    tx.nic_sends(4)
    tx.sync()
    tx.nic_sends(nic_head)
    text = f"the NIC reports {nic_head} as its head, which can only be 4 to 10"
    with pytest.raises(RingError, match=text) as caught:
        tx.sync()
    assert caught.value.rule is Rule.HEAD_WRITE_BACK
    assert (tx.ring.tail, tx.ring.head) == (3, 10)


def test_a_bad_ring_does_not_stop_the_others_and_every_error_is_kept() -> None:
    region = Region.for_ports(tx_rings=3, tx_slots=64, rx_rings=0)
    rings = region.register("ix0", tx_slots=[64] * 3, rx_slots=[]).tx_rings
    sides = [TxSide(region, ring) for ring in rings]
    for side in sides:
        side.put(60, 60)
    sides[0].ring.slots["len"][1] = 0
    sides[2].ring.cur = 99
    sync = TxSync([side.queue for side in sides])
    with pytest.raises(RingError, match="ix0 TX ring 0: slot 1 has len 0") as caught:
        sync()
    assert [(error.ring, error.rule) for error in caught.value.also] == [("ix0 TX ring 2", Rule.CUR_RANGE)]
    assert [side.tdt for side in sides] == [0, 2, 0]
    assert [side.queue.violations for side in sides] == [1, 0, 1]
    assert sync() is False


def test_a_sync_reports_when_the_nics_counters_should_be_read() -> None:
    tx = Bench(64).tx
    tx.queue.statistics_due = 3
    tx.put(60, 60)
    assert tx.sync() is False
    tx.put(60, 60)
    assert tx.sync() is True
    tx.put(60, 60)
    assert tx.sync() is True
    tx.queue.statistics_due = tx.queue.packets + 2**31
    assert tx.sync() is False


def test_a_loop_of_single_frames_reports_every_4096_syncs() -> None:
    tx = Bench(8192).tx
    tx.queue.statistics_due = 3
    reported = []
    for _ in range(4096):
        tx.put(60)
        reported.append(tx.sync())
    assert reported == [False] * 4095 + [True]


def test_a_restarted_queue_begins_at_slot_0() -> None:
    tx = Bench(64).tx
    tx.put(*[60] * 10)
    tx.sync()
    tx.words[:] = 0
    tx.queue.restart()
    assert (tx.ring.head, tx.ring.tail, tx.ring.pending) == (0, 63, False)
    tx.put(60)
    tx.sync()
    assert tx.tdt == 1 and tx.queue.packets == 11


def test_every_rule_has_a_number_and_a_text() -> None:
    assert sorted(rule.number for rule in Rule) == list(range(1, len(Rule) + 1))
