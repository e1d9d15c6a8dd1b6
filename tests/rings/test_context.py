"""Slots with NS_CONTEXT: their descriptors, and the requests that are valid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ixrings import Port, open_port
from ixrings.rings import L4, Context, Region, RingError, Rule
from ixrings.rings.hotloop import Forward
from ixrings.rings.layout import SlotFlag
from ixrings.rings.pages import PageTable
from ixrings.rings.queue import group
from tests.support.rings_nic import IOVA, Bench, TxSide

NS_CONTEXT, NS_MOREFRAG, NS_BUF_CHANGED = (
    int(SlotFlag.NS_CONTEXT),
    int(SlotFlag.NS_MOREFRAG),
    int(SlotFlag.NS_BUF_CHANGED),
)
DTYP, CONTEXT, DEXT = 15 << 20, 2 << 20, 1 << 29
VLE, TSE, IXSM, TXSM, TSTAMP = 1 << 30, 1 << 31, 1 << 40, 1 << 41, 1 << 19
Q1_MAY_HAVE = 7 << 10 | CONTEXT | DEXT | 0xFF << 40 | 0xFFFF << 48
CHECKSUMS = Context(14, 20, 20, L4.TCP, ip_checksum=True, l4_checksum=True)
SEGMENTED = Context(14, 20, 20, L4.TCP, mss=1000, vlan=0x6005)


def put(tx: TxSide, word: int, *lengths: int, chained: bool = False) -> None:
    """A context, then frames of these lengths in one slot each, or one frame of these parts."""
    span = tx.ring.reserve(1 + len(lengths))
    assert len(span) == 1 + len(lengths)
    span.flags[:] = NS_MOREFRAG if chained else 0
    span.flags[0], span.ptr[0], span.flags[-1] = NS_CONTEXT, word, NS_CONTEXT if not lengths else 0
    span.len[1:] = lengths
    tx.ring.advance(len(span))


def test_a_context_and_its_frame_become_the_datasheet_s_descriptors() -> None:
    tx = Bench(64).tx
    put(tx, SEGMENTED.word(), 2000, 1048, chained=True)
    tx.sync()
    q0, q1 = (int(half) for half in tx.memory[0])
    assert q0 == 20 | 14 << 9 | 0x6005 << 16
    assert q1 == 1 << 10 | 1 << 11 | CONTEXT | DEXT | 20 << 40 | 1000 << 48
    first, last = tx.descriptor(1), tx.descriptor(2)
    assert (first.dtalen, first.paylen, first.eop, last.dtalen, last.paylen, last.eop, last.rs) == (
        2000,
        3048 - 54,
        False,
        1048,
        0,
        True,
        True,
    )
    assert int(tx.memory[1, 1]) & (VLE | TSE | IXSM | TXSM) == VLE | TSE | IXSM | TXSM
    assert not int(tx.memory[2, 1]) & (VLE | TSE | IXSM | TXSM)
    assert tx.tdt == 3 and (tx.queue.packets, tx.queue.bytes) == (1, 3048)


@pytest.mark.parametrize(
    ("context", "requests"),
    [
        (Context(vlan=0), VLE),
        (Context(ip_length=20, ip_checksum=True), IXSM),
        (Context(18, 40, l4=L4.UDP, ipv4=False, l4_checksum=True), TXSM),
        (Context(timestamp=True), TSTAMP),
    ],
)
def test_paylen_of_a_frame_without_segmentation_counts_all_its_bytes(context: Context, requests: int) -> None:
    tx = Bench(64).tx
    put(tx, context.word(), 200)
    tx.sync()
    assert tx.descriptor(1).paylen == 200 and int(tx.memory[1, 1]) & (VLE | TSE | IXSM | TXSM | TSTAMP) == requests


@pytest.mark.parametrize("around", [0, 3, 20])
def test_plain_frames_before_and_after_a_context_stay_plain(around: int) -> None:
    tx = Bench(64).tx
    tx.put(*[60] * around)
    put(tx, CHECKSUMS.word(), 100)
    tx.put(*[61] * around)
    tx.sync()
    plain = [tx.descriptor(i) for i in (*range(around), *range(around + 2, 2 * around + 2))]
    assert all(
        (each.dtyp, each.other_commands, each.status_to_popts) == (3, 0, 0) and each.paylen == each.dtalen
        for each in plain
    )
    assert tx.descriptor(around).dtyp == 2 and tx.descriptor(around + 1).paylen == 100
    assert tx.queue.packets == 2 * around + 1


def test_the_sync_clears_the_flag_and_the_slot_keeps_its_buffer() -> None:
    tx = Bench(64).tx
    before = int(tx.ring.slots["buf_idx"][0])
    put(tx, CHECKSUMS.word(), 100)
    tx.sync()
    assert int(tx.ring.slots["flags"][0]) == 0 and int(tx.ring.slots["buf_idx"][0]) == before
    tx.nic_sends()
    tx.sync()
    assert tx.ring.space == 63 and not tx.ring.pending


def test_a_context_may_be_in_the_last_slot_of_the_ring() -> None:
    tx = Bench(64).tx
    tx.put(*[60] * 62)
    tx.sync()
    tx.nic_sends()
    tx.sync()
    tx.put(60)
    tx.ring.slots[63]["flags"], tx.ring.slots[63]["ptr"] = NS_CONTEXT, CHECKSUMS.word()
    tx.ring.slots[0]["len"] = 100
    tx.ring.cur = tx.ring.head = 1
    tx.sync()
    assert tx.tdt == 1 and tx.descriptor(63).dtyp == 2 and tx.descriptor(0).paylen == 100


def test_without_an_iommu_only_frames_get_the_address_of_a_page() -> None:
    region = Region.for_ports(tx_slots=64, rx_slots=64, buf_size=2048)
    ring = region.register("ix0", tx_slots=[64], rx_slots=[64]).tx_rings[0]
    pages = PageTable([0x9_0000_0000 + page * 0x10_0000 for page in range(-(-region.size // 4096))], 4096)
    tx = TxSide(region, ring, iova=pages)
    put(tx, CHECKSUMS.word() | 0xFFFF << 16, 100)  # as an offset this word would be far outside the table
    tx.sync()
    assert int(tx.memory[0, 0]) == 20 | 14 << 9 | 0xFFFF << 16
    offset = region.buffers_offset + int(ring.slots["buf_idx"][1]) * 2048
    assert int(tx.memory[1, 0]) == 0x9_0000_0000 + offset // 4096 * 0x10_0000 + offset % 4096


def refused(tx: TxSide, rule: Rule) -> RingError:
    """A sync reports this rule, and moves nothing."""
    before = tx.tdt
    with pytest.raises(RingError) as caught:
        tx.sync()
    assert caught.value.rule is rule
    assert tx.tdt == before and tx.ring.head == tx.queue.hwcur
    return caught.value


WRONG = {
    "requests nothing": Context(14, 20, 20).word(),
    "no Ethernet header": Context(13, vlan=1).word(),
    "no IPv4 header": Context(14, 19, ip_checksum=True).word(),
    "no IPv6 header": Context(14, 39, ipv4=False, l4_checksum=True).word(),
    "IP checksum of IPv6": Context(14, 40, ipv4=False, ip_checksum=True).word(),
    "no such L4T": CHECKSUMS.word() | 3 << 33,
    "segmentation without MSS": CHECKSUMS.word() | 1 << 36,
    "segmentation without L4 checksum": Context(14, 20, 20, L4.TCP, mss=1000).word() & ~(1 << 38),
    "segmentation without IP checksum": Context(14, 20, 20, L4.TCP, mss=1000).word() & ~(1 << 37),
    "segmentation of SCTP": Context(14, 20, 12, L4.SCTP, mss=1000).word(),
    "TCP header too short": Context(14, 20, 19, L4.TCP, mss=1000).word(),
    "UDP header too short": Context(14, 20, 7, L4.UDP, mss=1000).word(),
    "segments longer than any frame": Context(14, 20, 20, L4.TCP, mss=16376 - 54).word(),
}


@pytest.mark.parametrize("word", WRONG.values(), ids=WRONG)
def test_an_invalid_word_is_refused(word: int) -> None:
    tx = Bench(64).tx
    put(tx, word, 2000)
    assert f"slot 0 has NS_CONTEXT and ptr {word:#x}" in str(refused(tx, Rule.CONTEXT))
    put(tx, SEGMENTED.word(), 2000)  # the ring still works
    tx.sync()


def test_a_context_that_is_not_directly_before_a_frame_is_refused() -> None:
    for flags in ([NS_CONTEXT], [NS_CONTEXT, NS_CONTEXT, 0], [NS_MOREFRAG, NS_CONTEXT, 0], [0, NS_CONTEXT]):
        tx = Bench(64).tx
        span = tx.ring.reserve(len(flags))
        span.len[:], span.flags[:], span.ptr[:] = 100, flags, CHECKSUMS.word()
        tx.ring.advance(len(flags))
        assert "on a slot of its own" in str(refused(tx, Rule.CONTEXT_ALONE))


@pytest.mark.parametrize(
    ("context", "lengths", "needed"),
    [
        (SEGMENTED, (53, 2000), 54),
        (CHECKSUMS, (53,), 54),
        (SEGMENTED, (54,), 55),
        (Context(14, 20, l4=L4.UDP, l4_checksum=True), (41,), 42),
        (Context(14, 20, l4=L4.SCTP, l4_checksum=True), (45,), 46),
        (Context(100, vlan=1), (99,), 100),
    ],
)
def test_headers_that_are_not_in_the_first_slot_are_refused(
    context: Context, lengths: tuple[int, ...], needed: int
) -> None:
    tx = Bench(64).tx
    put(tx, context.word(), *lengths, chained=True)
    assert refused(tx, Rule.CONTEXT_HEADERS).values["low"] == needed


def test_only_a_segmented_frame_may_be_longer_than_the_limit() -> None:
    tx = Bench(64, buf_size=8192).tx
    put(tx, SEGMENTED.word(), *[8192] * 31 + [8192 - 64], chained=True)
    tx.sync()
    tx.nic_sends()
    tx.sync()
    put(tx, CHECKSUMS.word(), 8192, 8192, chained=True)
    assert refused(tx, Rule.FRAME_TOO_LONG).values["high"] == 16372
    tx = Bench(64, buf_size=15872).tx
    put(tx, SEGMENTED.word(), *[15872] * 17, chained=True)  # more than 18 bits of PAYLEN
    assert refused(tx, Rule.FRAME_TOO_LONG).values["high"] == 54 + 2**18 - 1


@pytest.mark.parametrize(
    ("name", "value"), [("mac_length", 128), ("ip_length", 512), ("l4_length", 256), ("mss", 65536), ("vlan", -1)]
)
def test_a_value_that_does_not_fit_in_the_word_is_refused(name: str, value: int) -> None:
    fields: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Context(**fields)


@pytest.mark.parametrize("at_once", [0, 4, 8])
def test_forwarding_never_forwards_a_context(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setenv("IXRINGS_GROUP", str(at_once))
    if group() < at_once:
        pytest.skip(f"this processor has no vectors for {at_once} slots")
    bench = Bench(64)
    bench.rx.nic_receives(*[100] * 10)
    bench.rx.sync()
    bench.rx.ring.slots["flags"][:10], bench.rx.ring.slots["ptr"][:10] = NS_CONTEXT, CHECKSUMS.word()
    assert Forward((bench.rx.queue, bench.tx.queue))() == 10
    assert [bench.tx.descriptor(i).dtyp for i in range(10)] == [3] * 10


# ---- an application that writes anything ----


def words(random: np.random.Generator, count: int) -> Iterator[int]:
    """Any word; most differ from a valid one in a few bits."""
    for _ in range(count):
        word = SEGMENTED.word() if random.random() < 0.7 else int(random.integers(2**64, dtype=np.uint64))
        for _ in range(int(random.integers(4))):
            word ^= 1 << int(random.integers(64))
        yield word


def test_no_word_sets_a_descriptor_bit_outside_its_fields() -> None:
    tx, accepted = Bench(64).tx, 0
    for word in words(np.random.default_rng(1), 3000):
        put(tx, word, 2000)
        at = tx.queue.hwcur
        try:
            tx.sync()
        except RingError:
            continue
        accepted += 1
        q0, q1, first = int(tx.memory[at, 0]), int(tx.memory[at, 1]), int(tx.memory[(at + 1) % 64, 1])
        assert q0 < 2**32 and not q1 & ~Q1_MAY_HAVE and q1 & (DTYP | DEXT) == CONTEXT | DEXT
        assert not first & ~(0xFFFF | TSTAMP | 3 << 20 | 0xEB << 24 | 3 << 40 | 0x3FFFF << 46)
        assert int(tx.memory[(at + 1) % 64, 0]) >= IOVA
        tx.nic_sends()
        tx.sync()
        tx.words[:], tx.memory[:] = 0, 0
        tx.queue.restart()
    assert accepted > 500


def send_anything(port: Port, random: np.random.Generator, word: int) -> bool:
    """Send a frame with this context. Returns whether the sync accepted it."""
    ring = port.tx_rings[0]
    span = ring.reserve(3)
    span.flags[:], span.ptr[0] = [NS_CONTEXT, NS_MOREFRAG, 0], word
    span.len[1:] = random.integers(14, 2000, 2)
    ring.advance(3)
    try:
        port.txsync()
    except RingError:
        return False
    return True


def test_a_context_that_a_sync_accepts_never_stops_the_nic() -> None:
    random, passed = np.random.default_rng(2), 0
    with open_port("emulated:sink", tx_slots=192) as port:  # 64 times three slots: no frame crosses the ring's end
        for word in words(random, 1500):
            passed += send_anything(port, random, word)
            port.flush(10)
        assert passed > 300
        assert port.device.violations == []  # type: ignore[attr-defined]
