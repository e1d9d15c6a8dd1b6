"""Another process writes anything into the region during syncs: no descriptor ever points outside the buffers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ixrings.rings import Region, RingError
from ixrings.rings.hotloop import Forward
from tests.support.rings_nic import IOVA, RxSide, TxSide

DTYP, CONTEXT = np.uint64(15 << 20), np.uint64(2 << 20)

# One assignment with a repeated index changes a slot between good and bad every few nanoseconds: between any two reads.
SCRIBBLER = """
import sys
import time
import numpy as np
from ixrings.rings import L4, Context, attach

port = attach(int(sys.argv[1]), int(sys.argv[2]))
rng = np.random.default_rng(int(sys.argv[3]))
FLIPS = 400
CONTEXT_WORD = Context(14, 20, 20, L4.TCP, l4_checksum=True, mss=1000).word()

def flip(field, k, bad, good):
    values = np.full(FLIPS, good, field.dtype)
    values[0::2] = bad
    field[np.full(FLIPS, k)] = values

print("ready", flush=True)
while True:
    for ring in (*port.tx_rings, *port.rx_rings):
        n = len(ring.slots)
        for _ in range(20):
            k = int(rng.integers(0, n))
            bad = int(rng.choice([0, 1, port.total_buffers, 2**31, 2**32 - 1]))
            flip(ring.slots["buf_idx"], k, bad, rng.integers(2, port.total_buffers))
            flip(ring.slots["len"], k, int(rng.choice([0, 2049, 65535])), 60)
            flip(ring.slots["flags"], k, int(rng.choice([0x10, 0x20, 0x80, 0xFFFF])), 0)
            flip(ring.slots["ptr"], k, rng.integers(2**64, dtype=np.uint64), CONTEXT_WORD)
        if rng.random() < 0.1:
            good = ring.slots["buf_idx"].copy()
            ring.slots["buf_idx"] = bad  # in all slots, so that a sync in between meets one however slow the machine is
            time.sleep(0.0002)
            ring.slots["buf_idx"] = good
        if rng.random() < 0.3:
            ring.head = int(rng.choice([0, 5, n - 1, n, 2**32 - 1]))
            ring.cur = int(rng.integers(0, n + 2))
            ring._words[7] = int(rng.integers(0, n + 2))
            ring._words[2] = int(rng.integers(0, 2**32))
"""


@pytest.fixture
def scribbled() -> tuple[Region, RxSide, TxSide]:
    region = Region.for_ports(tx_slots=256, rx_slots=256)
    port = region.register("ix0", tx_slots=[256], rx_slots=[256])
    return region, RxSide(region, port.rx_rings[0]), TxSide(region, port.tx_rings[0])


def start_scribbler(region: Region, offset: int, seed: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parent.parent.parent / ".package")
    scribbler = subprocess.Popen(
        [sys.executable, "-c", SCRIBBLER, str(region.fd), str(offset), str(seed)],
        pass_fds=[region.fd],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert scribbler.stdout is not None and scribbler.stdout.readline() == "ready\n"
    return scribbler


def assert_inside(region: Region, memory: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64]) -> None:
    """Every descriptor written so far points to a valid buffer, and its data ends in that buffer."""
    used = memory[:, 0] != 0
    offset = memory[used, 0].astype(np.int64) - IOVA - region.buffers_offset
    assert (offset >= 2 * region.buf_size).all() and (offset < region.total_buffers * region.buf_size).all()
    assert (offset % region.buf_size == 0).all()
    assert (lengths[used] <= region.buf_size).all()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_descriptor_points_outside_the_buffers_and_every_refusal_is_reported(
    scribbled: tuple[Region, RxSide, TxSide], seed: int
) -> None:
    region, rx, tx = scribbled
    forward = Forward((rx.queue, tx.queue))
    scribbler = start_scribbler(region, 0, seed)
    errors = 0
    rules: set[str] = set()
    start = time.monotonic()
    turn = 0

    def seen_enough() -> bool:
        traffic = tx.queue.packets > 20_000 and rx.queue.packets > 2_000
        return traffic and {"HEAD_RANGE", "BUF_IDX"} <= rules and time.monotonic() - start > 1

    try:
        while not seen_enough():
            assert time.monotonic() - start < 200, (tx.queue.packets, rx.queue.packets, rules)
            turn += 1
            for step in (tx.sync, rx.sync, forward):
                try:
                    if step is tx.sync:
                        span = tx.ring.reserve(64 if turn % 16 else 1)  # one slot has a lane of its own
                        tx.ring.advance(len(span))
                    elif step is rx.sync and turn % 2:
                        rx.ring.advance(min(rx.ring.space, 1 if turn % 16 == 1 else 32))
                    step()
                except RingError as error:
                    for one in (error, *error.also):
                        assert one.ring in ("ix0 TX ring 0", "ix0 RX ring 0")
                        errors += one.rule.name not in ("ADVANCE", "NOT_A_SLOT")
                        rules.add(one.rule.name)
                assert tx.tdt < 256 and rx.rdt < 256
                frames = tx.memory[(tx.memory[:, 1] & DTYP) != CONTEXT]  # a context has no address
                assert_inside(region, frames, frames[:, 1] & np.uint64(0xFFFF))
                assert_inside(region, rx.memory, np.zeros(256, np.uint64))
                tx.nic_sends()
            rx.nic_receives(*[60] * min(rx.nic_space, 32))
    finally:
        scribbler.kill()
        scribbler.wait()
        assert scribbler.stdout is not None
        scribbler.stdout.close()
    assert errors == tx.queue.violations + rx.queue.violations > 0

    for side in (tx, rx):
        side.ring.slots["buf_idx"] = np.arange(256) + 2
        side.ring.slots["len"] = 60
        side.ring.slots["flags"] = 0
        try:
            side.sync()
        except RingError:
            pass  # the scribbler left wrong indices; the ring is reset now
    violations = tx.queue.violations + rx.queue.violations
    tx.nic_sends()
    rx.nic_receives(*[61] * min(rx.nic_space, 1))
    assert forward(limit=1000) > 0 and tx.queue.violations + rx.queue.violations == violations
