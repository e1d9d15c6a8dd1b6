"""Pause an emulated NIC, step it, and look at it, while a driver uses it."""

from __future__ import annotations

import time

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.emulator.watching import SEEN, SEEN_BYTES
from ixrings.hw.registers import Registers
from tests.support.by_hand import ByHand
from tests.support.programs import wait_for

FRAME = bytes(range(200))


def test_the_clock_of_a_paused_nic_stands_and_goes_on_from_there() -> None:
    with Emulated82599() as nic:
        nic.pause()
        nic.pause()
        stands, paused = nic.now_ns, nic.paused
        assert paused
        time.sleep(0.01)
        assert nic.now_ns == stands
        nic.step(frames=1, ns=5_000_000_000)  # further than real time
        assert nic.now_ns == stands + 5_000_000_000
        nic.go_on()
        nic.go_on()
        assert not nic.paused
        assert stands + 5_000_000_000 <= nic.now_ns < stands + 5_000_000_000 + 30_000_000_000


def test_frames_move_only_in_steps_of_a_paused_nic() -> None:
    driver = ByHand(manual=False)
    with driver.nic as nic:
        nic.pause()
        for _ in range(3):
            driver.post(FRAME)
        driver.kick()
        time.sleep(0.01)
        assert driver.regs.TDH[0].read() == 0
        nic.step(frames=1)
        assert driver.regs.TDH[0].read() == 1
        nic.go_on()
        wait_for(lambda: driver.regs.TDH[0].read() == 3, "the NIC does not go on")


def test_a_nic_that_is_stepped_by_hand_stays_so_after_a_pause() -> None:
    driver = ByHand()
    with driver.nic as nic:
        before = nic.now_ns
        nic.pause()
        nic.go_on()
        driver.post(FRAME)
        driver.kick()
        time.sleep(0.01)
        assert (nic.now_ns, driver.regs.TDH[0].read()) == (before, 0)


def test_the_last_frames_at_the_wire_are_kept_while_somebody_looks() -> None:
    driver = ByHand(slots=2048, wire="sink")
    with driver.nic as nic:
        assert nic.frames_seen(0) == (0, [])
        nic.watch_wire(True)
        for number in range(SEEN + 10):
            driver.send(number.to_bytes(2, "big") + FRAME)
        while nic.step():
            pass
        count, frames = nic.frames_seen(5)
        assert count == SEEN + 10
        assert [frame.number for frame in frames] == list(range(10, SEEN + 10))  # the first ten are gone
        assert frames[0].data == (b"\0\x0a" + FRAME)[:SEEN_BYTES]
        assert (frames[0].length, frames[0].leaves) == (202, True)
        nic.watch_wire(False)
        driver.send(FRAME)
        nic.step()
        assert nic.frames_seen(0) == (0, [])


def test_frames_that_arrive_are_seen_too() -> None:
    driver = ByHand(wire="source=300", slots=64)
    with driver.nic as nic:
        nic.watch_wire(True)
        nic.step(frames=3)
        count, frames = nic.frames_seen(0)
        assert count == driver.regs.RDH[0].read() == 3
        assert [frame.data[42:50] for frame in frames] == [number.to_bytes(8, "big") for number in range(3)]
        assert {(frame.leaves, frame.length) for frame in frames} == {(False, 300)}


def test_a_look_at_registers_clears_no_counter_and_breaks_no_rule() -> None:
    driver = ByHand()
    with driver.nic as nic:
        for _ in range(2):
            driver.send(FRAME)
        nic.step()
        for _ in range(2):
            words = nic.register_words()
            assert words[Registers.GPTC.offset() >> 2] == 2
            assert words[Registers.TDH.offset(0) >> 2] == 2
        assert driver.regs.GPTC.read() == 2
        assert nic.peek_memory(0, driver.tx[0].buffer(0), 200) == FRAME
        assert nic.peek_memory(0, 0, 16) is None
        assert nic.violations == []
