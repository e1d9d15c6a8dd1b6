"""port.clock: two ports on a cable measure the difference of their clocks, as PTP does, and remove it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ixrings import Clock, EtherTypeFilter, Offload, Port, PortError, PortTimeout, Stamp, open_port
from tests.support.arrivals import came
from tests.support.by_hand import ByHand
from tests.support.ptp import ETHER_TYPE, best, message, on_ethernet, on_udp
from tests.support.steered import queue_of

AHEAD_NS, FAST_PPM = 1_700_000_000_123_456_789, 300.0
APART_S = 0.1
STEP_PPM = 0.1  # at least the step of adjust(), 0.075 ppm
HOUR_NS = 3600 * 10**9


@pytest.fixture
def pair() -> Iterator[tuple[Port, Port]]:
    with open_port("emulated:cable=ptp", link_timeout=0) as master, open_port("emulated:cable=ptp") as slave:
        master.wait_link(30)
        yield master, slave


@pytest.fixture
def port() -> Iterator[Port]:
    with open_port("emulated", rx_queues=2, tx_slots=64, rx_slots=64) as port:
        port.rss.table = [0]
        yield port


def test_master_and_slave_find_offset_and_rate_and_agree(pair: tuple[Port, Port]) -> None:
    """The bounds follow from the uncertainty of the exchanges, so they also hold on a busy machine."""
    master, slave = pair
    slave.clock.set(master.clock.now() + AHEAD_NS)
    slave.clock.adjust(FAST_PPM)
    first = best(master, slave)
    assert first.offset == pytest.approx(AHEAD_NS, abs=1e9)
    time.sleep(APART_S)
    second = best(master, slave)
    apart = second.t1 - first.t1
    fast, unsure = (
        (second.offset - first.offset) / apart * 1e6,
        (first.uncertainty(2 * FAST_PPM) + second.uncertainty(2 * FAST_PPM)) / apart * 1e6 + STEP_PPM,
    )
    assert fast == pytest.approx(FAST_PPM, abs=unsure)

    slave.clock.adjust(slave.clock.ppm - fast)
    third = best(master, slave)
    slave.clock.step(-round(third.offset))
    for _ in range(2):
        now = best(master, slave)
        assert (
            abs(now.offset)
            <= now.uncertainty(unsure) + third.uncertainty(unsure) + unsure / 1e6 * (now.t1 - third.t1) + 1
        )
        time.sleep(APART_S)


def test_the_clock_runs_at_the_rate_of_the_machines_clock(port: Port) -> None:
    def look() -> tuple[int, int, int]:
        return time.monotonic_ns(), port.clock.now(), time.monotonic_ns()

    look()
    before, first, after = look()
    time.sleep(0.05)
    later, second, latest = look()
    assert (later - after) * 0.999999 - 10 <= second - first <= (latest - before) * 1.000001 + 10


def test_frames_over_udp_and_ethernet_are_stamped_and_their_slots_are_marked(port: Port) -> None:
    assert port.clock.received() is None
    frames = [on_udp(message(sequence=5)), on_ethernet(message(sequence=6)), bytes(on_ethernet(message(sequence=7)))]
    port.send(frames[:2])
    port.flush()
    stamp = port.clock.received()
    assert stamp == Stamp(stamp.ns, 5) if stamp else False
    port.send(frames[2:])
    port.flush()
    assert port.poll(1)
    port.rxsync()
    ring = port.rx_rings[0]
    span = ring.reserve(3)
    assert list(port.received(ring, span).stamped) == [True, False, True]
    later = port.clock.received()
    assert stamp and later and later.sequence == 7 and stamp.ns < later.ns <= port.clock.now()
    assert port.clock.received() is None


def test_a_stamp_works_together_with_other_offloads(port: Port) -> None:
    port.clock.now()
    port.send([on_udp(message())], offload=Offload(timestamp=True, checksums=True, vlan=5))
    sent = port.clock.sent()
    (frame,) = came(port, 1)
    assert frame[12:16] == b"\x81\x00\x00\x05" and frame[44:46] != b"\0\0"
    received = port.clock.received()
    assert received and sent <= received.ns


def test_waiting_for_a_stamp_that_was_not_requested_ends_with_a_sentence(port: Port) -> None:
    port.clock.now()
    port.send([on_ethernet(message())])
    with pytest.raises(
        PortTimeout, match=r"no frame was stamped within 0.01 s\. .* send a frame with Offload\(timestamp=True\)"
    ):
        port.clock.sent(0.01)


def test_a_frame_sent_before_the_clock_was_started_has_no_stamp(port: Port) -> None:
    port.send([on_ethernet(message())], offload=Offload(timestamp=True))
    port.flush()
    with pytest.raises(PortTimeout, match="Use port.clock once to start it"):
        port.clock.sent(0.01)


def test_the_clock_can_be_stepped_set_and_adjusted(port: Port) -> None:
    clock = port.clock
    assert clock is port.clock
    before = clock.now()
    clock.step(-HOUR_NS)
    assert before - HOUR_NS < clock.now() < before
    clock.set(AHEAD_NS)
    assert AHEAD_NS <= clock.now() < AHEAD_NS + HOUR_NS
    assert clock.ppm == 0
    clock.adjust(-12.3)
    assert clock.ppm == pytest.approx(-12.3, abs=0.0375)
    assert f"{clock.ppm:.3f} ppm" in repr(clock)
    for wrong in (250_000, -1_000_000):
        with pytest.raises(ValueError, match="choose -999999 to 249999"):
            clock.adjust(wrong)


def test_systim_may_wrap_once_or_many_times_between_two_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = ByHand("sink")
    try:
        clock = Clock(nic.regs)
        for hours in range(1, 8):
            nic.nic.step(ns=HOUR_NS)
            assert clock.now() == pytest.approx(hours * HOUR_NS, rel=1e-7)
        machines = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: machines + 100 * 3600)
        nic.nic.step(ns=100 * HOUR_NS)
        assert clock.now() == pytest.approx(107 * HOUR_NS, rel=1e-7)
    finally:
        nic.close()


@pytest.mark.parametrize("ppm", [-999_999, -200_000, 249_999])
def test_systim_may_wrap_unseen_at_a_much_higher_or_lower_rate(monkeypatch: pytest.MonkeyPatch, ppm: int) -> None:
    nic = ByHand("sink")
    try:
        clock = Clock(nic.regs)
        clock.adjust(ppm)
        machines = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: machines + 100 * 3600)
        nic.nic.step(ns=100 * HOUR_NS)
        assert clock.now() == pytest.approx(100 * HOUR_NS * (1 + clock.ppm / 1e6), rel=1e-7)
    finally:
        nic.close()


def test_filters_and_stamps_share_an_ethertype(port: Port) -> None:
    frames = [on_ethernet(message(sequence=sequence)) for sequence in range(4)]
    filter = EtherTypeFilter(ETHER_TYPE, queue=1)
    port.filters.add(filter)
    port.clock.now()
    assert list(port.filters) == [filter]
    assert queue_of(port, frames[0]) == 1 and port.clock.received()
    port.filters.remove(filter)
    assert list(port.filters) == []
    assert queue_of(port, frames[1]) == 0 and port.clock.received()
    port.filters.add(filter)
    assert queue_of(port, frames[2]) == 1 and port.clock.received()
    port.filters.add(*(EtherTypeFilter(0x9000 + number, queue=1) for number in range(7)))
    with pytest.raises(PortError, match="8 EtherType filters, and all are in use"):
        port.filters.add(EtherTypeFilter(0x9900, queue=1))


def test_a_filter_for_one_priority_takes_precedence_over_the_clocks_own(port: Port) -> None:
    port.clock.now()
    port.filters.add(EtherTypeFilter(ETHER_TYPE, queue=1, user_priority=5))
    assert queue_of(port, on_ethernet(message(), tag=5 << 13)) == 1 and port.clock.received()
    assert queue_of(port, on_ethernet(message(), tag=4 << 13)) == 0 and port.clock.received()


def test_a_removed_filter_for_tagged_messages_frees_its_entry(port: Port) -> None:
    port.clock.now()
    for priority in range(8):
        filter = EtherTypeFilter(ETHER_TYPE, queue=1, user_priority=priority)
        port.filters.add(filter)
        port.filters.remove(filter)
    assert sum(each.read().FILTER_EN for each in port.nic.ETQF) == 1, "the clock's own"


def test_eight_other_filters_leave_no_entry_for_the_clock(port: Port) -> None:
    port.filters.add(*(EtherTypeFilter(0x9000 + number, queue=1) for number in range(8)))
    with pytest.raises(PortError, match=r"port.filters.remove\(\)"):
        _ = port.clock
    port.filters.clear()
    assert port.clock.now() >= 0
