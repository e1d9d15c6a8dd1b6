"""Bytes of a batch in and out of arrays: read(), write() and add() of an interface."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ixrings.rings import Interface, Region, RegionError, Ring, RingError, Rule, Span, TxRing
from ixrings.rings.headers import ETHERNET, IPV4, TCP, UDP

from .test_scribble import start_scribbler

SLOTS = 64


@pytest.fixture
def region() -> Iterator[Region]:
    with Region.for_ports(2, tx_slots=SLOTS, rx_slots=SLOTS) as region:
        yield region


@pytest.fixture
def port(region: Region) -> Interface:
    """Its slots have buffers in random order, and its buffers random bytes."""
    port = region.register("ix0", tx_slots=[SLOTS], rx_slots=[SLOTS])
    np.random.default_rng(0).shuffle(port.tx_rings[0].slots["buf_idx"])
    port.buffers[:] = np.random.default_rng(1).integers(0, 256, port.buffers.shape, np.uint8)
    return port


@pytest.fixture
def ring(port: Interface) -> TxRing:
    return port.tx_rings[0]


def move(ring: Ring, head: int) -> None:
    """Let the program own all slots but one, from `head` on, as after syncs."""
    ring.head = ring.cur = head
    ring._words[7] = (head - 1) % SLOTS


def rows_of(port: Interface, span: Span, offset: int, length: int) -> npt.NDArray[np.uint8]:
    return port.buffers[span.buf_idx, offset : offset + length]


# ---- the bytes ----


def test_every_length_and_place_is_read_as_numpy_reads_it(port: Interface, ring: TxRing) -> None:
    rng = random.Random(2)
    lengths = [*range(1, 140), 255, 256, 257, 1514, 2047, 2048]
    for length in lengths:
        move(ring, rng.randrange(SLOTS))
        span = ring.reserve(rng.randrange(1, SLOTS))
        for offset in {0, rng.randint(0, 2048 - length), 2048 - length}:
            assert np.array_equal(port.read(span, length, offset), rows_of(port, span, offset, length))


def test_what_is_written_is_in_these_bytes_and_nothing_else_changes(port: Interface, ring: TxRing) -> None:
    rng = random.Random(3)
    for length in [*range(1, 140), 1514, 2048]:
        move(ring, rng.randrange(SLOTS))
        span = ring.reserve(rng.randrange(2, SLOTS))
        offset = rng.randint(0, 2048 - length)
        rows = np.frombuffer(rng.randbytes(len(span) * length), np.uint8).reshape(len(span), length)
        expected = port.buffers.copy()
        expected[span.buf_idx, offset : offset + length] = rows
        port.write(span, rows, offset)
        assert np.array_equal(port.buffers, expected)


def test_one_row_or_bytes_go_into_every_frame(port: Interface, ring: TxRing) -> None:
    span = ring.reserve(5)
    port.write(span, b"\x01\x02\x03", 7)
    assert rows_of(port, span, 7, 3).tolist() == [[1, 2, 3]] * 5
    port.write(span, np.array([[4, 5]], np.uint8), 8)
    assert rows_of(port, span, 7, 3).tolist() == [[1, 4, 5]] * 5
    port.write(span, np.zeros((), UDP)[()], 100)
    assert not rows_of(port, span, 100, 8).any()


@pytest.mark.parametrize("length", [1, 2, 4])
def test_add_counts_in_big_endian_and_loses_upper_bits(port: Interface, ring: TxRing, length: int) -> None:
    span, dtype = ring.reserve(40), np.dtype(f">u{length}")
    for amount in (1, -1, 255, 0x8000_0001, -(2**31)):
        before = port.read(span, dtype, 13).astype(np.int64)
        expected = port.buffers.copy()
        expected[span.buf_idx, 13 : 13 + length] = (
            ((before + amount) % 256**length).astype(dtype).view(np.uint8).reshape(len(span), length)
        )
        port.add(span, amount, 13, length)
        assert np.array_equal(port.buffers, expected)


def test_a_span_without_slots_reads_no_row_and_writes_nothing(port: Interface) -> None:
    span = port.rx_rings[0].reserve(10)
    before = port.buffers.copy()
    assert port.read(span, 60).shape == (0, 60)
    assert port.read(span, IPV4, 14).shape == (0,)
    port.write(span, np.empty((0, 60), np.uint8))
    port.write(span, b"abc")
    port.add(span, 1, 0)
    assert np.array_equal(port.buffers, before)


# ---- headers ----


def test_headers_have_the_fields_of_the_rfcs(port: Interface, ring: TxRing) -> None:
    assert [each.itemsize for each in (ETHERNET, IPV4, UDP, TCP)] == [14, 20, 8, 20]
    frame = bytes.fromhex(
        "ffffffffffff020000000001" "0800" "4500002e00014000401126bc0a0000010a000002" "04d20035001a0000"
    )  # fmt: skip
    span = ring.reserve(3)
    port.write(span, frame)
    ethernet, ip, udp = port.read(span, ETHERNET), port.read(span, IPV4, 14), port.read(span, UDP, 34)
    assert ethernet["dst"].tolist() == [[255] * 6] * 3 and ethernet["ethertype"].tolist() == [0x800] * 3
    assert ip["src"].tolist() == [0x0A000001] * 3
    assert ip[0].item() == (0x45, 0, 46, 1, 0x4000, 64, 17, 0x26BC, 0x0A000001, 0x0A000002)
    assert udp[2].item() == (1234, 53, 26, 0)
    ip["ttl"] -= 1
    port.write(span, ip, 14)
    assert rows_of(port, span, 22, 1).tolist() == [[63]] * 3
    tcp = port.read(span, TCP, 34)
    assert tcp["src"].tolist() == [1234] * 3 and tcp.dtype.names is not None and len(tcp.dtype.names) == 8


def test_types_of_results_are_precise(port: Interface, ring: TxRing) -> None:
    """mypy checks these annotations."""
    span = ring.reserve(2)
    plain: npt.NDArray[np.uint8] = port.read(span, 60)
    headers: npt.NDArray[np.void] = port.read(span, IPV4, offset=14)
    words: npt.NDArray[np.uint32] = port.read(span, 8, into=np.empty((2, 2), np.uint32))
    column: npt.NDArray[np.uint8] = port.read(span, np.uint8, offset=3)
    assert (plain.shape, headers.shape, words.shape, column.shape) == ((2, 60), (2,), (2, 2), (2,))


# ---- a given array ----


def test_a_given_array_is_filled_and_returned(port: Interface, ring: TxRing) -> None:
    span, into = ring.reserve(8), np.full((10, 60), 7, np.uint8)
    for offset in (0, 20):
        got = port.read(span, 60, offset, into=into)
        assert got.base is into and np.array_equal(got, rows_of(port, span, offset, 60))
        assert (into[8:] == 7).all()
    assert port.read(ring.reserve(10), 60, into=into) is into
    assert port.read(span, 30, into=into[:8].reshape(-1, 30)[:8]).shape == (8, 30)
    headers = np.empty(8, IPV4)
    assert port.read(span, IPV4, 14, into=headers) is headers


def test_arrays_that_come_and_go_are_never_mistaken_for_each_other(port: Interface, ring: TxRing) -> None:
    span = ring.reserve(16)
    for number in range(300):
        into = np.empty((16, 4), np.uint8)
        port.write(span, np.full((16, 4), number % 256, np.uint8), 40)
        assert (port.read(span, 4, 40, into=into) == number % 256).all()


def test_an_array_that_was_read_into_cannot_move_in_memory(port: Interface, ring: TxRing) -> None:
    into = np.empty((16, 4), np.uint8)
    port.read(ring.reserve(16), 4, into=into)
    with pytest.raises(ValueError, match="resize"):
        into.resize((1 << 20, 4))


def test_a_batch_is_read_in_less_than_half_the_time_of_whole_buffers(port: Interface, ring: TxRing) -> None:
    """The margin is wide: a copy of the buffers takes five times as long."""
    span, into = ring.reserve(63), np.empty((63, 60), np.uint8)

    def lowest(work: Callable[[], object]) -> int:
        times = []
        for _ in range(50):
            start = time.perf_counter_ns()
            work()
            times.append(time.perf_counter_ns() - start)
        return min(times)

    assert 2 * lowest(lambda: port.read(span, 60, into=into)) < lowest(lambda: port.buffers[span.buf_idx])


# ---- what is refused ----

BAD: list[tuple[Callable[[Interface, Span], Any], type[Exception], str]] = [
    (lambda port, span: port.read(span, 60, 2000), ValueError, r"bytes 2000\.\.2059 are not inside .*0\.\.2047"),
    (lambda port, span: port.read(span, 60, -1), ValueError, r"bytes -1\.\.58 are not inside a buffer"),
    (lambda port, span: port.read(span, 2**40), ValueError, "not inside a buffer"),
    (lambda port, span: port.read(span, 0), ValueError, "the length is 0; choose 1 byte or more"),
    (lambda port, span: port.read(span, np.dtype("O")), TypeError, "plain bytes"),
    (lambda port, span: port.read(span, "nothing"), TypeError, "a number of bytes or a dtype, not 'nothing'"),
    (lambda port, span: port.read(span, 4, "1"), TypeError, "the offset is '1'; give"),  # type: ignore[call-overload]
    (lambda port, span: port.read(7, 4), TypeError, r"a span, not int; take one by ring\.reserve"),  # type: ignore[call-overload]
    (lambda port, span: port.read(span, 4, into=np.empty((4, 5), np.uint8)), ValueError, r"np\.empty\(\(256, 4\)"),
    (lambda port, span: port.read(span, IPV4, into=np.empty(4, UDP)), ValueError, "give an array such as np.empty"),
    (lambda port, span: port.read(span, 4, into=np.empty((3, 4), np.uint8)), ValueError, r"4 slots and `into` 3 rows"),
    (lambda port, span: port.read(span, 4, into=np.empty((4, 8), np.uint8)[:, :4]), ValueError, "one after the other"),
    (lambda port, span: port.read(span, 4, into=np.frombuffer(bytes(16), np.uint32)), ValueError, "read-only"),
    (lambda port, span: port.read(span, 4, into=bytearray(16)), TypeError, "type bytearray; give an array"),  # type: ignore[call-overload]
    (lambda port, span: port.write(span, np.zeros((5, 4))), ValueError, r"array 5 rows; give frames\[:4\]"),
    (lambda port, span: port.write(span, np.zeros((2, 4))), ValueError, r"2 rows; reserve\(2\) slots"),
    (lambda port, span: port.write(span, 5), TypeError, r"not int; for one byte write bytes\(\[5\]\)"),  # type: ignore[arg-type]
    (lambda port, span: port.write(span, np.zeros((4, 8))[:, ::2]), ValueError, "one after the other"),
    (lambda port, span: port.write(span, np.zeros(4, object)), TypeError, "Python objects"),
    (lambda port, span: port.write(span, b"12", 2047), ValueError, r"bytes 2047\.\.2048 are not inside"),
    (lambda port, span: port.write(span, b"12", 2**32), ValueError, "not inside"),
    (lambda port, span: port.add(span, 1, 0, 3), ValueError, "the length is 3; choose 1, 2 or 4 bytes"),
    (lambda port, span: port.add(span, 1, 2047, 2), ValueError, "not inside"),
    (lambda port, span: port.add(span, 1.5, 0), TypeError, "an amount and an offset as int, not 1.5"),  # type: ignore[arg-type]
    (lambda port, span: port.add(span, "1", 0), TypeError, "an amount and an offset as int, not '1'"),  # type: ignore[arg-type]
    (lambda port, span: port.add(span, None, 0), TypeError, "an amount and an offset as int, not None"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize("call, kind, sentence", BAD, ids=range(len(BAD)))
def test_arguments_that_do_not_fit_are_refused_and_change_nothing(
    port: Interface, ring: TxRing, call: Callable[[Interface, Span], Any], kind: type[Exception], sentence: str
) -> None:
    before = port.buffers.copy()
    with pytest.raises(kind, match=sentence):
        call(port, ring.reserve(4))
    assert np.array_equal(port.buffers, before)


CALLS: list[Callable[[Interface, Span], Any]] = [
    lambda port, span: port.read(span, 60),
    lambda port, span: port.read(span, 60, into=np.empty((64, 60), np.uint8)),
    lambda port, span: port.write(span, b"\xff" * 60),
    lambda port, span: port.add(span, 1, 0),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_span_that_the_program_gave_away_is_refused(
    port: Interface, ring: TxRing, call: Callable[[Interface, Span], Any]
) -> None:
    span = ring.reserve(8)
    ring.advance(4)
    with pytest.raises(ValueError, match=r"slots 0\.\.7> is not the program's any more"):
        call(port, span)
    call(port, ring.reserve(8))
    move(ring, 60)
    call(port, ring.reserve(8))
    with pytest.raises(ValueError, match="not the program's any more"):
        call(port, Span(ring, 60, 70))
    with pytest.raises(ValueError, match="not the program's any more"):
        call(port, Span(ring, 59, 60))


@pytest.mark.parametrize("call", CALLS)
def test_a_span_of_another_port_is_refused(
    region: Region, port: Interface, call: Callable[[Interface, Span], Any]
) -> None:
    other = region.register("ix1", tx_slots=[SLOTS], rx_slots=[SLOTS])
    with pytest.raises(ValueError, match="ix1 TX ring 0: slots 0..3> is of another port"):
        call(port, other.tx_rings[0].reserve(4))


@pytest.mark.parametrize("call", CALLS)
def test_an_index_that_is_not_a_buffer_is_refused_with_its_slot(
    port: Interface, ring: TxRing, call: Callable[[Interface, Span], Any]
) -> None:
    for bad in (0, 1, len(port.buffers), 2**32 - 1):
        for slot in (10, 11, 41):
            good = int(ring.slots["buf_idx"][slot])
            ring.slots["buf_idx"][slot] = bad
            move(ring, 10)
            with pytest.raises(RingError, match=f"ix0 TX ring 0: slot {slot} has buf_idx {bad}") as caught:
                call(port, ring.reserve(32))
            assert caught.value.rule is Rule.BUF_IDX
            ring.slots["buf_idx"][slot] = good


@pytest.mark.parametrize("call", CALLS)
def test_indices_that_another_program_damaged_are_reported(
    port: Interface, ring: TxRing, call: Callable[[Interface, Span], Any]
) -> None:
    span = ring.reserve(4)
    ring._words[7] = 2**31
    with pytest.raises(RingError, match="2147483648 is not a slot of this ring"):
        call(port, span)


@pytest.mark.parametrize("call", CALLS)
def test_rings_that_a_process_left_are_refused(
    port: Interface, ring: TxRing, call: Callable[[Interface, Span], Any]
) -> None:
    span = ring.reserve(4)
    port.leave("these are the parent's")
    with pytest.raises(RegionError, match="these are the parent's"):
        call(port, span)


def test_another_process_that_writes_anything_into_the_rings_only_causes_errors(
    region: Region, port: Interface, ring: TxRing
) -> None:
    """The reserved buffers stay as they are, and nothing outside the buffers is touched."""
    rings, into = (ring, port.rx_rings[0]), np.empty((SLOTS, 60), np.uint8)
    port.buffers[:2] = 0x11
    scribbler = start_scribbler(region, port.offset, 5)
    done = refused = 0
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline and not (done > 500 and refused > 50):
            for each in rings:
                try:
                    span = each.reserve(SLOTS)
                    port.read(span, 60, into=into)
                    port.write(span, b"\xee" * 60, 100)
                    port.add(span, 1, 200)
                    done += len(span) > 0
                except (RingError, ValueError):
                    refused += 1
                    move(each, 0)
    finally:
        scribbler.kill()
        scribbler.communicate()
    assert done > 500 and refused > 50
    assert (port.buffers[:2] == 0x11).all()
