"""The link is trained again (82599 3.7, 8.2.3.22.19), or the cable is pulled and put back, during traffic."""

from __future__ import annotations

import random
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ixrings import LinkDown, Port, open_port
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from tests.support.arrivals import PATIENCE_S, came
from tests.support.by_hand import ByHand, frame

TRAINING_S = 0.002
FLAPS = 50
BURST, BURSTS = 64, 400


@pytest.fixture
def ends() -> Iterator[tuple[Emulated82599, Emulated82599]]:
    with (
        Emulated82599("cable=flaps", link_up_s=TRAINING_S) as left,
        Emulated82599("cable=flaps", link_up_s=TRAINING_S) as right,
    ):
        yield left, right


def retrain(nic: Emulated82599) -> None:
    Registers(nic).AUTOC.update(RESTART_AN=1)


def replug(nic: Emulated82599) -> None:
    nic.set_link(False)
    nic.set_link(True)


def numbered(first: int) -> list[bytes]:
    return [
        frame(64, to=b"\xff" * 6)[:14] + number.to_bytes(4, "big") + bytes(46) for number in range(first, first + BURST)
    ]


def test_when_one_end_trains_again_both_lose_the_link_and_get_an_interrupt() -> None:
    near, far = ByHand("cable=training", link_up_s=0.5), ByHand("cable=training", link_up_s=0.5)
    both = (near, far)

    def step(ns: int) -> None:
        for end in both:
            end.nic.step(ns=ns)

    def seen() -> list[tuple[int, int]]:
        return [(end.regs.LINKS.read().LINK_UP, end.regs.EICR.read().LSC) for end in both]

    try:
        step(500_000_000)
        assert seen() == [(1, 1), (1, 1)]
        near.regs.AUTOC.update(RESTART_AN=1)
        assert seen() == [(0, 1), (0, 1)]
        near.send(frame(70))
        far.send(frame(80))
        step(499_999_999)
        assert seen() == [(0, 0), (0, 0)] and near.received() == far.received() == []
        step(1)
        assert seen() == [(1, 1), (1, 1)]
        step(0)
        assert (near.received(), far.received()) == ([frame(80)], [frame(70)])
    finally:
        near.close()
        far.close()


def test_a_forced_link_is_up_at_once_but_carries_nothing_without_a_cable() -> None:
    near, far = ByHand("cable=forced", link_up_s=0.5), ByHand("cable=forced", link_up_s=0.5)
    loop, source = ByHand("loop"), ByHand("source")
    try:
        for end in (near, far, loop, source):
            end.nic.set_link(False)
            end.regs.AUTOC.update(FLU=1)
            assert end.regs.LINKS.read().LINK_UP
            end.send(frame(70))
            assert end.regs.GPTC.read() == 1, "sent, though no cable carries it"
        for end in (near, far, loop, source):
            end.nic.step()
            assert end.received() == []
        near.nic.set_link(True)
        far.nic.set_link(True)
        near.send(frame(80))
        assert far.received() == [frame(80)]
        far.nic.unplug()
        near.send(frame(90))
        assert far.received() == [frame(80)], "a NIC that is gone writes no memory"
    finally:
        for end in (near, far, loop, source):
            end.close()


@pytest.mark.parametrize("flap", [pytest.param(retrain, marks=pytest.mark.slow), replug])
def test_a_port_works_after_many_flaps(
    ends: tuple[Emulated82599, Emulated82599], flap: Callable[[Emulated82599], None]
) -> None:
    left, right = ends
    with open_port(left, link_timeout=0) as a, open_port(right) as b:
        for number in range(FLAPS):
            assert a.wait_link(30).up and b.wait_link(30).up
            a.nic.EICR.read(), b.nic.EICR.read()
            flap(ends[number % 2])
            assert a.nic.EICR.read().LSC and b.nic.EICR.read().LSC
        assert a.wait_link(30).up and b.wait_link(30).up
        a.send(numbered(0))
        assert len(came(b, BURST)) == BURST


def test_a_lost_link_makes_the_descriptor_readable(ends: tuple[Emulated82599, Emulated82599]) -> None:
    left, right = ends
    with open_port(left, link_timeout=0) as a, open_port(right) as b:
        a.wait_link(30)
        b.rxsync()
        for _ in range(5):
            while select.select([b], [], [], 0.02)[0]:
                b.rxsync()
            left.set_link(False)
            assert select.select([b], [], [], 30)[0], "no message"
            assert not b.link.up
            with pytest.raises(LinkDown, match="no link after 0.01 s"):
                b.wait_link(0.01)
            left.set_link(True)
            assert b.wait_link(30).up


def lost(port: Port) -> int:
    stats = port.stats()
    return stats["MPC"] + sum(queue["QPRDC"] for queue in stats.rx)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_every_frame_lost_by_flaps_in_traffic_is_counted(ends: tuple[Emulated82599, Emulated82599], seed: int) -> None:
    left, right = ends
    stop, flaps = threading.Event(), 0

    def disturb() -> None:
        nonlocal flaps
        chance = random.Random(seed)
        while not stop.wait(chance.uniform(0, 3 * TRAINING_S)):
            chance.choice((retrain, replug))(chance.choice(ends))
            flaps += 1

    with open_port(left, link_timeout=0, tx_slots=256) as a, open_port(right) as b:
        a.wait_link(30)
        thread = threading.Thread(target=disturb)
        thread.start()
        numbers: list[int] = []
        bursts, end = 0, time.monotonic() + PATIENCE_S
        try:
            while bursts < BURSTS or (flaps <= 3 and time.monotonic() < end):
                a.send(numbered(bursts * BURST))
                bursts += 1
                numbers += [int.from_bytes(each[14:18], "big") for each in b.recv(0)]
        finally:
            stop.set()
            thread.join()
        a.wait_link(30)
        a.flush()
        while len(numbers) + lost(b) < BURST * bursts and time.monotonic() < end:
            numbers += [int.from_bytes(each[14:18], "big") for each in b.recv(0.05)]
        assert flaps > 3
        assert a.stats()["GPTC"] == BURST * bursts == len(numbers) + lost(b)
        assert numbers == sorted(set(numbers)), "in order, and none twice"
