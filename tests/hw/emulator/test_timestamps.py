"""The IEEE 1588 clock and time stamps of the software 82599, register by register (82599 7.9, 8.2.3.26)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.by_hand import ByHand, frame
from tests.support.ptp import (
    DELAY_REQ,
    ETHER_TYPE,
    EVENT_PORT,
    FOLLOW_UP,
    PDELAY_REQ,
    PDELAY_RESP,
    SOURCE,
    SYNC,
    message,
    on_ethernet,
    on_udp,
)

TS = 1 << 16  # in the status of a receive descriptor
TSTAMP = 1 << 19  # in a transmit descriptor
L2_V2, L4_V1, L2_L4_V2, ALL, EVENTS_V2 = 0, 1, 2, 4, 5


@pytest.fixture
def nic() -> Iterator[ByHand]:
    by_hand = ByHand("loop")
    yield by_hand
    by_hand.close()


def systim(nic: ByHand) -> int:
    return nic.regs.SYSTIML.read() | nic.regs.SYSTIMH.read() << 32


def enable_stamps(nic: ByHand, kind: int = EVENTS_V2, **wanted: int) -> None:
    nic.regs.TIMINCA.write(INCPERIOD=1, INCVALUE=64)  # tenths of a nanosecond
    nic.regs.ETQF[3].write(ETYPE=ETHER_TYPE, TIMESTAMP=1, FILTER_EN=1)
    nic.regs.RXMTRL.write(UDPT=EVENT_PORT, **wanted)
    nic.regs.TSYNCRXCTL.write(EN=1, TYPE=kind)


def stamped(nic: ByHand) -> list[bool]:
    """For each frame received so far, whether it was stamped."""
    return [bool(nic.rx[0].read(index)[1] & TS) for index in range(len(nic.received()))]


def rx_stamp(nic: ByHand) -> int:
    return nic.regs.RXSTMPL.read() | nic.regs.RXSTMPH.read() << 32


def tx_stamp(nic: ByHand) -> int:
    return nic.regs.TXSTMPL.read() | nic.regs.TXSTMPH.read() << 32


def send_stamped(nic: ByHand, *frames: bytes) -> None:
    for each in frames:
        index = nic.tx[0].tail
        nic.post(each)
        q0, q1 = nic.tx[0].read(index)
        nic.tx[0].write(index, q0, q1 | TSTAMP)
    nic.kick()
    nic.nic.step()


# ---- the clock ----


@pytest.mark.parametrize(
    ("increment", "period", "after_64_us"),
    [(1, 1, 10_000), (0xCCCCCC, 1, 10_000 * 0xCCCCCC), (7, 100, 700), (7, 255, 39 * 7), (7, 0, 0), (0, 1, 0)],
)
def test_the_clock_adds_incvalue_each_incperiod_cycles_of_6_4_ns(
    nic: ByHand, increment: int, period: int, after_64_us: int
) -> None:
    nic.nic.step(ns=1_000_000)
    assert systim(nic) == 0, "the clock stands still after a reset"
    nic.regs.TIMINCA.write(INCPERIOD=period, INCVALUE=increment)
    for _ in range(64):  # reading the clock does not change it
        nic.nic.step(ns=1000)
        systim(nic)
    assert systim(nic) == after_64_us


def test_reading_the_low_half_latches_the_high_half(nic: ByHand) -> None:
    nic.regs.SYSTIML.write(0xFFFF_FFFF)
    nic.regs.SYSTIMH.write(6)
    nic.regs.TIMINCA.write(INCPERIOD=1, INCVALUE=1)
    assert nic.regs.SYSTIML.read() == 0xFFFF_FFFF
    nic.nic.step(ns=64)
    assert nic.regs.SYSTIMH.read() == 6
    assert systim(nic) == 7 << 32 | 9


def test_a_new_rate_applies_from_its_write_on(nic: ByHand) -> None:
    nic.regs.TIMINCA.write(INCPERIOD=1, INCVALUE=10)
    nic.nic.step(ns=6400)
    nic.regs.TIMINCA.write(INCPERIOD=1, INCVALUE=1)
    nic.nic.step(ns=6400)
    assert systim(nic) == 10_000 + 1000


def test_an_adjustment_moves_the_clock_forward_or_back(nic: ByHand) -> None:
    nic.regs.SYSTIMH.write(10)
    nic.regs.TIMADJL.write(5)
    nic.regs.TIMADJH.write(TADJH=2)
    assert systim(nic) == 12 << 32 | 5
    nic.regs.TIMADJL.write(6)
    nic.regs.TIMADJH.write(TADJH=12, SIGN=1)
    assert systim(nic) == (1 << 64) - 1, "the clock wraps"


def test_a_reset_stops_clock_and_stamps(nic: ByHand) -> None:
    enable_stamps(nic)
    nic.nic.step(ns=1000)
    nic.send(on_ethernet(message()))
    nic.nic.reset()
    nic.nic.step(ns=1000)
    assert systim(nic) == 0 and nic.regs.TSYNCRXCTL.read() == 0 and nic.regs.RXMTRL.read().UDPT == 0x319


# ---- received frames ----


def test_the_first_event_is_stamped_and_its_stamp_stays_until_read(nic: ByHand) -> None:
    enable_stamps(nic)
    nic.nic.step(ns=1000)
    nic.send(frame(), on_ethernet(message(SYNC, 0x1234)))
    nic.nic.step(ns=1000)
    nic.send(on_ethernet(message(DELAY_REQ, 2)))
    assert stamped(nic) == [False, True, False]
    for _ in range(2):
        assert nic.regs.TSYNCRXCTL.read().RXTT == 1 and nic.regs.RXSTMPL.read() == 156 * 64, "1000 ns are 156 cycles"
    assert nic.regs.RXSATRL.read() == int.from_bytes(SOURCE[:4], "little")
    assert nic.regs.RXSATRH.read().SOURCE_ID_HIGH == int.from_bytes(SOURCE[4:], "little")
    assert nic.regs.RXSATRH.read().SEQUENCE_ID == 0x3412, "bytes as on the wire"
    nic.regs.RXSTMPH.read()
    assert nic.regs.TSYNCRXCTL.read().RXTT == 0
    nic.send(on_ethernet(message(SYNC, 3)))
    assert stamped(nic) == [False, True, False, True] and rx_stamp(nic) == 312 * 64


@pytest.mark.parametrize(
    ("kind", "wanted", "got"),
    [
        (L2_V2, {}, {"eth sync", "eth pdelay req", "eth pdelay resp"}),
        (L2_V2, {"MSGT": DELAY_REQ}, {"eth delay req", "eth pdelay req", "eth pdelay resp"}),
        (L4_V1, {}, {"v1 sync"}),
        (L4_V1, {"CTRLT": DELAY_REQ}, {"v1 delay req"}),
        (L2_L4_V2, {}, {"eth sync", "eth pdelay req", "eth pdelay resp", "udp sync"}),
        (EVENTS_V2, {}, {"eth sync", "eth delay req", "eth pdelay req", "eth pdelay resp", "udp sync"}),
        (ALL, {}, set()),
    ],
)
def test_tsyncrxctl_type_selects_which_messages_are_stamped(
    nic: ByHand, kind: int, wanted: dict[str, int], got: set[str]
) -> None:
    frames = {
        "eth sync": on_ethernet(message(SYNC)),
        "eth delay req": on_ethernet(message(DELAY_REQ)),
        "eth pdelay req": on_ethernet(message(PDELAY_REQ)),
        "eth pdelay resp": on_ethernet(message(PDELAY_RESP)),
        "eth follow up": on_ethernet(message(FOLLOW_UP)),
        "udp sync": on_udp(message(SYNC)),
        "v1 sync": on_udp(message(SYNC, version=1)),
        "v1 delay req": on_udp(message(DELAY_REQ, version=1)),
        "port 320": on_udp(message(SYNC), 320),
        "short": on_udp(message(SYNC, length=35)),
        "anything": frame(),
    }
    enable_stamps(nic, kind, **wanted)
    for each in frames.values():
        nic.send(each)
        nic.regs.RXSTMPH.read()
    assert {name for name, yes in zip(frames, stamped(nic)) if yes} == got


def test_a_message_after_a_vlan_tag_is_stamped(nic: ByHand) -> None:
    enable_stamps(nic)
    nic.send(on_ethernet(message(SYNC, 7), tag=5))
    assert stamped(nic) == [True] and nic.regs.RXSATRH.read().SEQUENCE_ID == 0x0700


@pytest.mark.breaks_rules("ether_type_not_ip")
def test_a_message_over_udp_is_stamped_despite_an_ethertype_filter_for_ip(nic: ByHand) -> None:
    enable_stamps(nic, L4_V1)
    nic.regs.ETQF[0].write(ETYPE=0x0800, FILTER_EN=1)
    nic.send(on_udp(message(version=1)))
    nic.regs.RXSTMPH.read()
    nic.regs.TSYNCRXCTL.write(EN=1, TYPE=L2_V2)
    nic.send(on_udp(message()))
    assert stamped(nic) == [True, False]


def test_nothing_is_stamped_without_enable_or_without_the_ethertype_filter(nic: ByHand) -> None:
    enable_stamps(nic)
    nic.regs.ETQF[3].update(TIMESTAMP=0)
    nic.send(on_ethernet(message()))
    nic.regs.ETQF[3].update(TIMESTAMP=1)
    nic.regs.TSYNCRXCTL.update(EN=0)
    nic.send(on_ethernet(message()))
    assert stamped(nic) == [False, False] and nic.regs.TSYNCRXCTL.read().RXTT == 0


def test_a_frame_to_another_address_is_not_stamped() -> None:
    nic = ByHand("loop", promiscuous=0)
    try:
        enable_stamps(nic)
        nic.send(b"\x02\0\0\0\0\x07" + on_ethernet(message())[6:])
        assert nic.received() == [] and nic.regs.TSYNCRXCTL.read().RXTT == 0
    finally:
        nic.close()


# ---- sent frames ----


def test_a_frame_with_tstamp_is_stamped_and_its_stamp_stays_until_read(nic: ByHand) -> None:
    enable_stamps(nic)
    nic.nic.step(ns=1000)
    send_stamped(nic, frame())
    assert nic.regs.TSYNCTXCTL.read().TXTT == 0, "not enabled"
    nic.regs.TSYNCTXCTL.write(EN=1)
    nic.send(frame())
    assert nic.regs.TSYNCTXCTL.read().TXTT == 0, "without TSTAMP"
    send_stamped(nic, frame(70))
    nic.nic.step(ns=1000)
    send_stamped(nic, frame(80))
    assert nic.regs.TSYNCTXCTL.read().TXTT == 1 and tx_stamp(nic) == 156 * 64
    assert nic.regs.TSYNCTXCTL.read().TXTT == 0
    send_stamped(nic, frame(90))
    assert tx_stamp(nic) == 312 * 64
    assert nic.received() == [frame(), frame(), frame(70), frame(80), frame(90)]


@pytest.mark.breaks_rules("shortest_frame")
def test_a_frame_with_tstamp_needs_no_headers(nic: ByHand) -> None:
    nic.regs.TSYNCTXCTL.write(EN=1)
    send_stamped(nic, b"\2" * 13)
    assert nic.received() == [(b"\2" * 13).ljust(60, b"\0")] and nic.regs.TSYNCTXCTL.read().TXTT
