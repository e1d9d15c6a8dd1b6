"""Wires that take time: `loop,delay=NS` and `cable=NAME,delay=NS`, by the time stamps of the NICs at their ends."""

from __future__ import annotations

import time
from itertools import islice

import numpy as np
import pytest

from ixrings import Offload, Port, open_port, open_ports
from ixrings.hw.errors import WireError
from ixrings.rings.layout import SlotFlag
from tests.support.by_hand import ByHand, frame
from tests.support.ptp import exchange, message, on_ethernet

CYCLE_NS = 6.4  # two stamps, each as old as its cycle: their difference is wrong by less than that
PATIENCE_S = 20.0
TAG = b"\x88\xb5"


def crossing(sender: Port, receiver: Port, sequence: int = 1) -> int:
    """The time between the two stamps of a message."""
    sender.send([on_ethernet(message(sequence=sequence))], offload=Offload(timestamp=True))
    left = sender.clock.sent(PATIENCE_S)
    assert len(list(islice(receiver.recv(PATIENCE_S), 1))) == 1
    came = receiver.clock.received()
    assert came is not None and came.sequence == sequence
    return came.ns - left


@pytest.mark.parametrize(
    "delay_ns",
    [None, 123_456, *(pytest.param(delay_ns, marks=pytest.mark.slow) for delay_ns in (0, 1000, 20_000_000))],
)
def test_a_frame_arrives_on_a_loop_as_late_as_the_wire_says(delay_ns: int | None) -> None:
    wire = "loop" if delay_ns is None else f"loop,delay={delay_ns}"
    with open_port(f"emulated:{wire}", promiscuous=True) as port:
        port.clock.now()
        for sequence in range(3):
            assert abs(crossing(port, port, sequence) - (delay_ns or 0)) < CYCLE_NS


@pytest.mark.slow
@pytest.mark.parametrize("ends", [("", ",delay=5000"), (",delay=5000", ""), (",delay=5000", ",delay=5000")])
def test_a_cable_has_one_delay_for_both_ways(ends: tuple[str, str]) -> None:
    names = [f"emulated:cable=slow{end}" for end in ends]
    with open_ports(*names, promiscuous=True) as (one, two):
        assert one.clock.now() != two.clock.now()  # both run, each from its own beginning
        found = there_and_back(one, two)
        assert abs(found - 5000) < CYCLE_NS


def there_and_back(one: Port, two: Port) -> float:
    """The time on the cable by both ways, in which the difference of the clocks cancels."""
    return (crossing(one, two, 1) + crossing(two, one, 2)) / 2


@pytest.mark.slow
def test_two_different_delays_of_one_cable_are_refused() -> None:
    with open_port("emulated:cable=twice,delay=10"):
        with pytest.raises(WireError, match="cable=twice delays frames by 10 ns for both of its ports"):
            open_port("emulated:cable=twice,delay=11")
    with open_ports("emulated:cable=twice,delay=11", "emulated:cable=twice"):
        pass  # the cable of before is gone


@pytest.mark.parametrize("wrong", ["delay=", "delay=-1", "delay=100000001", "delay=x", "late=1"])
def test_a_wrong_delay_is_refused_in_words(wrong: str) -> None:
    with pytest.raises(WireError, match="delay=NS, with 0 to 100000000 nanoseconds"):
        open_port(f"emulated:cable=wrong,{wrong}")


@pytest.mark.parametrize("wrong", ["", "delay=", "delay=x", "delay=100000001", "delya=1"])
def test_a_wrong_delay_of_a_loop_is_refused_in_the_same_words(wrong: str) -> None:
    with pytest.raises(WireError, match="delay=NS, with 0 to 100000000 nanoseconds"):
        open_port(f"emulated:loop,{wrong}")


def test_no_frame_is_received_before_its_time() -> None:
    with open_port("emulated:loop,delay=50000000", promiscuous=True) as port:
        before = time.monotonic_ns()
        port.send([b"\xff" * 12 + TAG + bytes(46)])
        next(iter(port.recv(PATIENCE_S)))
        assert time.monotonic_ns() - before >= 50_000_000


@pytest.mark.slow
def test_frames_of_all_lengths_keep_their_bytes_and_their_order_on_the_way() -> None:
    """More than the line's buffer, so its records go past its end."""
    lengths = [60, 61, 75, 1514, 1000, 64, 1499]
    with open_ports("emulated:cable=long,delay=300000", "emulated:cable=long", promiscuous=True) as (one, two):
        for first in range(0, 6000, 200):
            frames = [
                b"\xff" * 12 + TAG + (first + number).to_bytes(4, "big") * ((lengths[number % 7] - 14) // 4)
                for number in range(200)
            ]
            one.send(frames, timeout=PATIENCE_S)
            for sent, came in zip(frames, two.recv(PATIENCE_S), strict=False):
                assert came == sent.ljust(60, b"\0")


@pytest.mark.slow
def test_a_full_line_of_any_length_loses_no_frame_on_the_way() -> None:
    """A record in the line's buffer may take more bytes than its frame takes of the wire: one of 61 bytes does."""
    nic = ByHand("loop,delay=25000000", paced=True, slots=512)
    for _ in range(512):
        nic.post(frame(61))
    nic.tx[0].tail = 511
    for _ in range(800):
        nic.kick()
        while int(nic.regs.TDH[0].read()) != nic.tx[0].tail:
            nic.nic.step(64, 1000)
        nic.tx[0].tail = (nic.tx[0].tail + 511) % 512
    nic.nic.step(64, 25_000_000)
    while nic.nic.step(64):
        pass
    left = int(nic.regs.GPTC.read())
    assert left == 800 * 511 and int(nic.regs.GPRC.read()) == left
    nic.close()


def test_a_frame_with_a_wrong_crc_is_as_long_on_its_way_as_the_frames_around_it() -> None:
    with open_ports("emulated:cable=crc,delay=1000000", "emulated:cable=crc", promiscuous=True) as (one, two):
        ring = one.tx_rings[0]
        span = ring.reserve(3)
        one.buffers[span.buf_idx, :100] = np.frombuffer(b"\xff" * 12 + TAG + bytes(86), np.uint8)
        span.len[:] = 100
        span.flags[1] = SlotFlag.NS_OWN_CRC  # four zeros, which are wrong
        ring.advance(3)
        one.txsync()
        assert len(list(islice(two.recv(PATIENCE_S), 2))) == 2
        assert two.stats()["CRCERRS"] == 1 and two.stats()["GPRC"] == 2


@pytest.mark.slow
def test_a_port_that_closes_takes_the_frames_on_its_way_with_it() -> None:
    with open_port("emulated:cable=cut,delay=50000000") as one:
        with open_port("emulated:cable=cut", promiscuous=True) as two:
            one.wait_link(PATIENCE_S)
            one.send([b"\xff" * 12 + TAG + bytes(46)])
            one.flush(PATIENCE_S)
            assert two.stats()["GPRC"] == 0
        with open_port("emulated:cable=cut", promiscuous=True) as two:
            assert two.stats()["GPRC"] == 0


@pytest.mark.slow
def test_the_delay_cancels_in_an_exchange_of_messages() -> None:
    """PTP measures the difference of two clocks, whatever the cable's delay is."""
    with open_ports("emulated:cable=ptp,delay=0", "emulated:cable=ptp", promiscuous=True) as (one, two):
        one.clock.now()
        two.clock.step(1_000_000)
        first, second = exchange(one, two, 1), exchange(one, two, 2)
        assert abs(first.delay) < CYCLE_NS and abs(first.offset - second.offset) < 2 * CYCLE_NS
