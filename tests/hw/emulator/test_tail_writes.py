"""Tail registers written through write32: no lock, the same rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from ixrings.hw.emulator import Policy
from ixrings.hw.emulator.rules.findings import RuleBroken
from tests.support.by_hand import ByHand, frame

PHASE_S = 0.03
PHASES = 8
ATTEMPTS = 5


def in_another_thread(work: Callable[[], object]) -> bool:
    """Whether `work` ends while this thread holds the engine's lock."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


def test_a_repeated_tail_is_written_while_the_engine_is_frozen() -> None:
    by_hand = ByHand("sink")
    by_hand.send(frame(), frame())
    with by_hand.nic._engine.frozen():
        ended = in_another_thread(by_hand.kick)
    by_hand.close()
    assert ended


def test_any_tail_is_written_while_the_engine_is_frozen_if_no_rule_looks_at_it() -> None:
    by_hand = ByHand("sink", rules=Policy.IGNORE)
    by_hand.post(frame())
    with by_hand.nic._engine.frozen():
        ended = in_another_thread(by_hand.kick)
    assert ended and by_hand.nic.step() == 1
    by_hand.close()


@pytest.mark.breaks_rules("tail_within_ring")
def test_a_repeated_tail_is_checked_each_time() -> None:
    by_hand = ByHand("sink")
    for _ in range(2):
        by_hand.regs.TDT[0].write(64)
        assert [violation.rule.name for violation in by_hand.nic.violations] == ["tail_within_ring"]
        by_hand.nic.clear_violations()
    by_hand.close()


@pytest.mark.breaks_rules("tail_within_ring")
def test_a_tail_that_breaks_a_rule_is_written_and_raises_each_time() -> None:
    by_hand = ByHand("sink", rules=Policy.RAISE)
    for _ in range(2):
        with pytest.raises(RuleBroken, match="less than the ring's number"):
            by_hand.regs.TDT[0].write(64)
    assert by_hand.regs.TDT[0].read() == 64
    by_hand.close()


@pytest.mark.breaks_rules("tail_moves_forward")
def test_a_tail_that_moves_back_is_found_while_the_engine_runs() -> None:
    by_hand = ByHand("sink", manual=False)
    for _ in range(8):
        by_hand.post(frame())
    by_hand.nic.set_link(False)  # frames stay in their ring
    by_hand.kick()
    by_hand.regs.TDT[0].write(3)
    found = [str(violation) for violation in by_hand.nic.violations]
    by_hand.close()
    assert len(found) == 1 and "the NIC owned 8 descriptors, now 3" in found[0]


def frames_a_second(by_hand: ByHand, work: Callable[[], object]) -> float:
    """How many frames the source plays while this thread repeats `work`."""
    before, start = by_hand.nic.frames_played, time.monotonic()
    while time.monotonic() < start + PHASE_S:
        for _ in range(20):
            work()
    return (by_hand.nic.frames_played - before) / (time.monotonic() - start)


def test_a_flood_of_tail_writes_costs_the_nic_few_frames() -> None:
    """Both threads are busy in either case, so on a loaded machine the rates fall together."""
    by_hand = ByHand("source", rx=0, manual=False)  # no queue takes the frames, so they are as many as the engine plays
    ratios: list[float] = []
    for _ in range(ATTEMPTS):
        quiet, flood = 0.0, 0.0
        for _ in range(PHASES):
            quiet += frames_a_second(by_hand, lambda: sum(range(500)))
            flood += frames_a_second(by_hand, lambda: by_hand.regs.TDT[0].write(0))
        ratios.append(flood / quiet)
        if ratios[-1] > 0.8:
            break
    by_hand.close()
    print("frames during a flood, of those without:", *(f"{ratio:.2f}" for ratio in ratios))
    assert ratios[-1] > 0.8
