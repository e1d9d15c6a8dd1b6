"""Vectors and the scalar loop leave the same descriptors, rings and queues, and report the same."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from ixrings.rings import Context, Region, RingError
from ixrings.rings.hotloop import Forward
from ixrings.rings.queue import Queue, group
from tests.support.rings_nic import DD, EOP, RXE, RxSide, TxSide

NS_BUF_CHANGED, NS_REPORT, NS_INDIRECT, NS_MOREFRAG, NS_CONTEXT = 1, 2, 0x10, 0x20, 0x80
CHECKSUMS = Context(14, 20, ip_checksum=True).word()

Random = np.random.Generator


@pytest.fixture(autouse=True, params=[4, 8], ids=["AVX2", "AVX-512"])
def at_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """How many slots a queue takes at once."""
    slots: int = request.param
    monkeypatch.setenv("IXRINGS_GROUP", str(slots))
    if group() < slots:
        pytest.skip(f"this processor has no vectors for {slots} slots")
    return slots


@dataclass
class Side:
    """A port, with or without vectors, and its NIC on plain memory."""

    region: Region
    tx: TxSide
    rx: RxSide
    forward: Forward
    reports: list[str]

    def do(self, sync: Callable[[], object]) -> None:
        try:
            sync()
        except RingError as error:
            self.reports.append("; ".join(map(str, (error, *error.also))))

    def memory(self) -> dict[str, npt.NDArray[np.uint8] | npt.NDArray[np.uint64]]:
        """Everything that a sync can write, except the queues."""
        region = np.ctypeslib.as_array((ctypes.c_uint8 * self.region.size).from_address(self.region.address))
        return {"region": region, "tx descriptors": self.tx.memory, "rx descriptors": self.rx.memory}

    def state(self) -> dict[str, object]:
        return {
            "doorbells": (self.tx.tdt, self.rx.rdt),
            "tx": counters(self.tx.queue),
            "rx": counters(self.rx.queue),
            "forward": (self.forward.frames, self.forward.slots),
            "reports": self.reports,
        }


def counters(queue: Queue) -> dict[str, object]:
    names = ("hwcur", "hwtail", "packets", "bytes", "syncs_left", "violations", "errors", "_next", "_chain")
    return {name: getattr(queue, name) for name in names if hasattr(queue, name)}


def side(tx_slots: int, rx_slots: int, buf_size: int) -> Side:
    region = Region.for_ports(tx_slots=max(tx_slots, rx_slots), rx_slots=max(tx_slots, rx_slots), buf_size=buf_size)
    port = region.register("ix0", tx_slots=[tx_slots], rx_slots=[rx_slots])
    tx, rx = TxSide(region, port.tx_rings[0]), RxSide(region, port.rx_rings[0])
    return Side(region, tx, rx, Forward((rx.queue, tx.queue)), [])


def both(
    monkeypatch: pytest.MonkeyPatch, at_once: int, tx_slots: int, rx_slots: int, buf_size: int
) -> tuple[Side, Side]:
    """The same port twice: with vectors, and without."""
    with_vectors = side(tx_slots, rx_slots, buf_size)
    monkeypatch.setenv("IXRINGS_GROUP", "0")
    without = side(tx_slots, rx_slots, buf_size)
    assert with_vectors.tx.queue._group == with_vectors.rx.queue._group == at_once
    assert without.tx.queue._group == without.rx.queue._group == 0
    return with_vectors, without


def some(random: Random, n: int, plain: int, rarely: float, *others: int) -> npt.NDArray[np.int64]:
    """`n` values: `plain`, and now and then one of the others."""
    return np.where(random.random(n) < rarely, random.choice(others, n), plain)


@dataclass(frozen=True)
class Turn:
    """A turn that both sides play: changes of slots, the NIC's work, a sync. rarely: how often a value is not plain."""

    lengths: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int64]
    buf_idx: dict[int, int]
    received: npt.NDArray[np.int64]
    advanced: int
    released: int
    sent: float
    what: int
    limit: int

    @classmethod
    def draw(cls, random: Random, slots: int, buffers: int, buf_size: int, rarely: float) -> Turn:
        n, most = int(random.integers(0, slots)), slots if rarely == 0 else min(slots, int(3 / rarely))
        received = np.int64(DD | EOP) | some(random, n, 60, rarely, 0, 17, 1514, buf_size, buf_size + 1, 65535) << 32
        received ^= some(random, n, 0, rarely, EOP, RXE, DD, 0x5A << 48, 0xABCD << 4)
        places = random.integers(0, slots, random.poisson(slots * rarely / 4))
        bad = {int(i): int(random.choice([0, 1, buffers, 2**31, 2**32 - 1])) for i in places}
        return cls(
            some(random, slots, 60, rarely, 0, 1, 16, 17, buf_size, buf_size + 1, 65535, 1514),
            some(
                random,
                slots,
                0,
                rarely,
                NS_BUF_CHANGED,
                NS_REPORT,
                NS_MOREFRAG,
                NS_INDIRECT,
                NS_CONTEXT,
                0x100,
                0xFFFF,
                NS_BUF_CHANGED | NS_REPORT,
            ),
            bad,
            received,
            int(random.integers(0, most)),
            int(random.integers(0, most)),
            random.random(),
            int(random.integers(0, 4)),
            int(random.integers(0, 300)),
        )

    def play(self, side: Side) -> None:
        tx, rx = side.tx, side.rx
        owned = np.arange(tx.ring.head, tx.ring.head + tx.ring.space) % tx.ring.num_slots
        tx.ring.slots["len"][owned] = self.lengths[owned % len(self.lengths)]
        tx.ring.slots["flags"][owned] = self.flags[owned % len(self.flags)]
        tx.ring.slots["ptr"][owned] = CHECKSUMS
        for i, index in self.buf_idx.items():
            ring = (tx.ring, rx.ring)[i % 2]
            if (i - ring.head) % ring.num_slots < ring.space:
                ring.slots["buf_idx"][i % ring.num_slots] = index
        late = (
            np.arange(rx.queue._next, rx.queue._next + (rx.rdh - rx.queue._next) % rx.ring.num_slots)
            % rx.ring.num_slots
        )
        rx.memory[late, 1] |= np.uint64(DD)  # the NIC completes what the last turn left open
        for control in self.received[: rx.nic_space].tolist():
            rx.memory[rx.rdh, 1] = np.uint64(control & 0xFFFF_FFFF_FFFF_FFFF)
            rx.rdh = (rx.rdh + 1) % rx.ring.num_slots
        if self.what != 3:
            tx.ring.advance(min(self.advanced, tx.ring.space))
            rx.ring.advance(min(self.released, rx.ring.space))
        side.do((tx.sync, rx.sync, lambda: side.forward(self.limit), lambda: side.forward(self.limit))[self.what])
        outstanding = (tx.tdt - (tx.queue.hwtail + 1)) % tx.ring.num_slots
        tx.nic_sends((tx.queue.hwtail + 1 + int(self.sent * outstanding)) % tx.ring.num_slots)

    def repair(self, side: Side, random: Random) -> None:
        """Put each buffer into one slot, in a new order. Otherwise a violation would repeat for ever."""
        order = random.permutation(side.region.total_buffers - 2) + 2
        for ring in (side.tx.ring, side.rx.ring):
            ring.slots["buf_idx"], order = order[: ring.num_slots], order[ring.num_slots :]


@pytest.mark.parametrize("rarely", [0.0, 0.002, 0.02, 0.1])
@pytest.mark.parametrize("tx_slots, rx_slots, buf_size", [(64, 64, 2048), (72, 1000, 1024), (1024, 136, 2112)])
def test_vectors_and_the_scalar_loop_leave_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, at_once: int, tx_slots: int, rx_slots: int, buf_size: int, rarely: float
) -> None:
    sides = both(monkeypatch, at_once, tx_slots, rx_slots, buf_size)
    random = np.random.default_rng([tx_slots, rx_slots, int(rarely * 1000)])
    for number in range(150):
        turn = Turn.draw(random, max(tx_slots, rx_slots), sides[0].region.total_buffers, buf_size, rarely)
        seed = int(random.integers(0, 2**32))
        for each in sides:
            turn.play(each)
            if turn.buf_idx:
                turn.repair(each, np.random.default_rng(seed))
        assert sides[0].state() == sides[1].state(), f"turn {number}"
        found, wanted = (each.memory() for each in sides)
        for what in wanted:
            assert np.array_equal(found[what], wanted[what]), f"turn {number}: {what} differs"
    first = sides[0]
    assert first.tx.queue.packets > 60 and first.rx.queue.packets > 60 and first.forward.frames > 10
    assert first.reports or rarely < 0.02


@pytest.mark.parametrize("head", range(20))
def test_groups_may_begin_and_end_anywhere(head: int) -> None:
    """Every slot is sent once, with its own buffer and length, also over the ring's end."""
    for count in range(26):
        sends_once(head, count)


def sends_once(head: int, count: int) -> None:
    tx = side(64, 64, 2048).tx
    start = 64 - head
    tx.put(*[60] * (start - 1))
    tx.sync()
    tx.nic_sends()
    tx.sync()
    tx.ring.slots["len"] = np.arange(64) + 100
    tx.ring.advance(count)
    before = tx.memory.copy()
    tx.sync()
    written = [(start - 1 + k) % 64 for k in range(count)]
    for i in written:
        got = tx.descriptor(i)
        assert got.address == tx.queue._buffers_iova + int(tx.ring.slots["buf_idx"][i]) * 2048
        assert got.dtalen == got.paylen == 100 + i and got.eop and got.rs == (i == written[-1])
    others = np.setdiff1d(np.arange(64), written)
    assert np.array_equal(tx.memory[others], before[others])


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 6, 7, 8, 15])
@pytest.mark.parametrize(
    "field, value, rule",
    [
        ("buf_idx", 1, "BUF_IDX"),
        ("buf_idx", 2**32 - 1, "BUF_IDX"),
        ("len", 0, "LEN_ZERO"),
        ("len", 2049, "LEN_OVER_BUFFER"),
        ("flags", NS_INDIRECT, "INDIRECT"),
    ],
)
def test_a_wrong_slot_is_found_at_every_place_of_a_group(field: str, value: int, rule: str, place: int) -> None:
    tx = side(64, 64, 2048).tx
    tx.put(*[60] * 16)
    tx.ring.slots[field][place] = value
    with pytest.raises(RingError, match=f"slot {place} has") as caught:
        tx.sync()
    assert caught.value.rule.name == rule and tx.tdt == 0
