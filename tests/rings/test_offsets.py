"""Rings with offsets: each slot's ptr says where in its buffer the bytes begin, for every lane of a sync."""

from __future__ import annotations

import numpy as np
import pytest

from ixrings.rings import Context, RingError, Rule
from ixrings.rings.hotloop import Forward
from ixrings.rings.offsets import Offsets
from ixrings.rings.pages import PageTable
from ixrings.rings.queue import group
from tests.support.rings_nic import IOVA, RXE, Bench, TxSide

OFFSETS = Offsets(mask=0xFFFF, most=512, initial=128, received=1024)
OWN = 0xABCD << 48  # bits of ptr that are the program's
NS_MOREFRAG, NS_CONTEXT = 0x20, 0x80


@pytest.fixture(autouse=True, params=[0, 4, 8], ids=["scalar", "AVX2", "AVX-512"])
def at_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("IXRINGS_GROUP", str(request.param))
    if group() < request.param:
        pytest.skip(f"this processor has no vectors for {request.param} slots")


@pytest.fixture
def bench() -> Bench:
    """A port whose queues have offsets; what is in their slots and descriptors is the region's first state."""
    made = Bench(64)
    for queue in (made.tx.queue, made.rx.queue):
        queue.use_offsets(OFFSETS)
    return made


def start_of(bench: Bench, index: int) -> int:
    return IOVA + bench.region.buffers_offset + index * bench.region.buf_size


@pytest.mark.parametrize("frames", [1, 3, 4, 13, 40])
def test_frames_are_sent_from_their_offsets(bench: Bench, frames: int) -> None:
    tx = bench.tx
    offsets = np.arange(64, dtype=np.uint64) * 8
    tx.ring.slots["ptr"] = offsets | np.uint64(OWN)
    tx.put(*range(60, 60 + frames))
    tx.sync()
    for i in range(frames):
        got, index = tx.descriptor(i), int(tx.ring.slots["buf_idx"][i])
        assert (got.address, got.dtalen) == (start_of(bench, index) + 8 * i, 60 + i)
    assert tx.tdt == frames and tx.queue.packets == frames


def test_a_frame_in_several_slots_has_an_offset_in_each(bench: Bench) -> None:
    tx = bench.tx
    tx.ring.slots["ptr"][:3] = [512, 0, 7]
    tx.put(1536, 2048, 100, chained=True)
    tx.sync()
    starts = [start_of(bench, int(index)) for index in tx.ring.slots["buf_idx"][:3]]
    assert [tx.descriptor(i).address - start for i, start in enumerate(starts)] == [512, 0, 7]


def test_the_word_of_a_context_is_no_offset(bench: Bench) -> None:
    tx = bench.tx
    word = Context(14, 20, ip_checksum=True).word()
    tx.ring.slots["ptr"][:2] = [word, 100]
    span = tx.ring.reserve(2)
    span.len[:], span.flags[:] = [0, 60], [NS_CONTEXT, 0]
    tx.ring.advance(2)
    tx.sync()
    assert int(tx.memory[0, 0]) == word & 0xFFFF_FFFF
    assert tx.descriptor(1).address == start_of(bench, int(tx.ring.slots["buf_idx"][1])) + 100


def test_a_short_frame_is_filled_up_behind_its_offset(bench: Bench) -> None:
    tx = bench.tx
    tx.region.buffers[:] = 0xAA
    tx.ring.slots["ptr"][0] = 300
    tx.put(5)
    tx.sync()
    buffer = tx.region.buffers[int(tx.ring.slots["buf_idx"][0])]
    assert not buffer[305:317].any() and np.count_nonzero(buffer != 0xAA) == 12
    assert tx.descriptor(0).dtalen == 17


@pytest.mark.parametrize("place", [0, 6, 15])
@pytest.mark.parametrize(("offset", "length", "high"), [(513, 60, 512), (0xFFFF, 60, 512), (512, 1537, 511)])
def test_an_offset_that_leaves_its_buffer_is_refused(
    bench: Bench, offset: int, length: int, high: int, place: int
) -> None:
    tx = bench.tx
    tx.put(*[60] * 16)
    tx.ring.slots["ptr"][place], tx.ring.slots["len"][place] = offset, length
    with pytest.raises(RingError, match=f"slot {place} has offset {offset} in its ptr") as caught:
        tx.sync()
    assert caught.value.rule is Rule.OFFSET and caught.value.values["high"] == high
    assert tx.tdt == 0 and (tx.ring.head, tx.queue.packets, tx.queue.violations) == (0, 0, 1)


def test_a_short_frame_at_the_end_of_its_buffer_is_refused(bench: Bench) -> None:
    bench.tx.queue.use_offsets(Offsets(2**64 - 1, 2048, 0, 1024))
    bench.tx.region.buffers[:] = 0xAA
    bench.tx.ring.slots["ptr"][0] = 2040
    bench.tx.put(5)
    with pytest.raises(RingError, match="offset 2040"):
        bench.tx.sync()
    assert (bench.tx.region.buffers == 0xAA).all()


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1, 2049])
def test_the_largest_mask_and_offset_leave_no_buffer(bench: Bench, offset: int) -> None:
    for side in (bench.tx, bench.rx):
        side.queue.use_offsets(Offsets(2**64 - 1, 2048, 0, 1))
    bench.tx.put(1)
    bench.tx.ring.slots["ptr"][0] = offset
    with pytest.raises(RingError, match=f"offset {offset}"):
        bench.tx.sync()
    bench.rx.nic_receives(60)
    bench.rx.sync()
    bench.rx.ring.slots["ptr"][0] = offset
    bench.rx.ring.advance(1)
    with pytest.raises(RingError, match=f"offset {offset}"):
        bench.rx.sync()


def test_the_nic_receives_at_the_offsets_of_released_slots(bench: Bench) -> None:
    rx = bench.rx
    rx.queue.fill(np.array(rx.ring.slots["buf_idx"]))
    assert int(rx.memory[5, 0]) == start_of(bench, int(rx.ring.slots["buf_idx"][5])) + 128
    rx.nic_receives(*[60] * 20)
    rx.sync()
    rx.ring.slots["ptr"][:20] = np.arange(20) * 16
    rx.ring.advance(20)
    rx.sync()
    offsets = [int(rx.memory[i, 0]) - start_of(bench, int(rx.ring.slots["buf_idx"][i])) for i in range(20)]
    assert offsets == list(range(0, 320, 16)) and rx.rdt == 19
    rx.nic_receives(60)
    rx.sync()
    rx.ring.slots["ptr"][20] = 513
    rx.ring.advance(1)
    with pytest.raises(RingError, match="slot 20 has offset 513"):
        rx.sync()
    assert rx.rdt == 19 and rx.ring.head == 20


def test_more_bytes_than_fit_behind_the_offset_are_an_error_of_the_nic(bench: Bench) -> None:
    rx = bench.rx
    rx.nic_receives(1024, 1025, 60, 2048, 60, 60, 60, 60)
    rx.nic_receives(60, status=RXE)
    rx.sync()
    assert rx.ring.slots["len"][:8].tolist() == [1024, 1024, 60, 1024, 60, 60, 60, 60]
    assert rx.queue.errors == 3


def test_forwarded_frames_keep_the_offsets_of_their_rings(bench: Bench) -> None:
    tx, rx = bench.tx, bench.rx
    rx.nic_receives(60, 60, 60)
    rx.sync()
    tx.ring.slots["ptr"][:3] = rx.ring.slots["ptr"][:3] = [3, 2, 1]
    received = rx.ring.slots["buf_idx"][:3].tolist()
    Forward((rx.queue, tx.queue))(64)
    assert [tx.descriptor(i).address - start_of(bench, index) for i, index in enumerate(received)] == [3, 2, 1]


def test_a_ring_without_offsets_is_as_before(bench: Bench) -> None:
    plain = Bench(64)
    bench.tx.queue.use_offsets(None)
    bench.tx.ring.slots["ptr"] = plain.tx.ring.slots["ptr"] = 99
    for tx in (bench.tx, plain.tx):
        tx.put(60)
        tx.sync()
        tx.put(*[60] * 20)
        tx.sync()
    assert np.array_equal(bench.tx.memory, plain.tx.memory)


def test_offsets_and_scattered_memory_go_together() -> None:
    plain = Bench(64)
    places = [2**40 + 8192 * i for i in range(-(-plain.region.size // 4096))]
    tx = TxSide(plain.region, plain.interface.tx_rings[0], iova=PageTable(places, 4096))
    tx.queue.use_offsets(OFFSETS)
    tx.ring.slots["ptr"][:8] = np.arange(8) * 10
    tx.put(*[60] * 8)
    tx.sync()
    for i in range(8):
        place = plain.region.buffers_offset + int(tx.ring.slots["buf_idx"][i]) * 2048 + 10 * i
        assert tx.descriptor(i).address == places[place // 4096] + place % 4096
