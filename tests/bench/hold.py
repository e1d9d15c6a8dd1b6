"""Holds 10 Gbit/s for some time: a paced engine, 64-byte frames, rings of 8192 slots. The program naps or spins.

A napping program wakes by a timer every NAP_S. At 14.88 Mpps one ring holds 550 us of frames; eight rings, over which
RSS spreads them, hold 4.4 ms. CPU shares are percent of one core, for the program's thread and for the engine's thread,
which keeps the wire's clock and so always runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from loops import DRAIN_S, WARM_UP_S, Run, check_equal, fill, name, on_two_cpus

from ixrings import Port, open_port
from ixrings.driver.statistics import PortStatistics
from ixrings.hw.emulator import Emulated82599

SLOTS = 8192
QUEUES = 8
NAP_S = 0.0001
WIRE_MPPS = 10e9 / (84 * 8) / 1e6  # 84 bytes: a frame of 64 with preamble and gap


@dataclass(frozen=True)
class Held:
    """wire_percent: of 10 Gbit/s. program_cpu_percent, engine_cpu_percent: of one core each."""

    what: str
    seconds: float
    mpps: float
    wire_percent: float
    lost: int
    program_cpu_percent: float
    engine_cpu_percent: float


def transmit(port: Port, seconds: float, nap: bool) -> int:
    """Fill the ring, then nap, for `seconds`. Returns the number of frames handed over."""
    ring, end = port.tx_rings[0], time.perf_counter() + seconds
    sent = 0
    while time.perf_counter() < end:
        count = ring.space
        ring.advance(count)
        port.txsync()
        sent += count
        if nap:
            time.sleep(NAP_S)
    return sent


def take(port: Port, seconds: float, nap: bool) -> int:
    """Take all received frames, then nap, for `seconds`. Returns the number of frames."""
    received, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        received += take_once(port)
        if nap:
            time.sleep(NAP_S)
    return received


def take_once(port: Port) -> int:
    """Take all frames that are in the rings after a sync. Returns their number."""
    received = 0
    port.rxsync()
    for ring in port.rx_rings:
        count = ring.space
        ring.advance(count)
        received += count
    return received


def missed(stats: PortStatistics) -> int:
    """Frames lost since open_port(), because there was no descriptor or no room in the packet buffer."""
    return stats["MPC"] + sum(queue["QPRDC"] for queue in stats.rx)


def check_missed(port: Port, received: int) -> None:
    """Pull the cable, empty the NIC's packet buffer, and check that the program got every frame that was not missed."""
    assert isinstance(port.device, Emulated82599)
    port.device.set_link(False)
    end = time.perf_counter() + DRAIN_S
    stats = port.stats()
    delivered = stats["GPRC"] - missed(stats)
    while received < delivered and time.perf_counter() < end:
        received += take_once(port)
    received += take_once(port)  # more frames than that would be wrong, too
    check_equal("GPRC without missed frames", received, delivered)


def hold_tx(port: Port, seconds: float, nap: bool) -> Run:
    fill(port)
    start = time.perf_counter()
    sent = transmit(port, seconds, nap)
    port.flush()
    spent = time.perf_counter() - start
    check_equal("GPTC", sent, port.stats()["GPTC"])
    return Run(sent, spent, 0)


def hold_rx(port: Port, seconds: float, nap: bool) -> Run:
    before = take(port, WARM_UP_S, nap=False)
    missed_before = missed(port.stats())
    start = time.perf_counter()
    received = take(port, seconds, nap)
    spent = time.perf_counter() - start
    lost = missed(port.stats()) - missed_before
    check_missed(port, before + received)
    return Run(received, spent, lost)


def measure(seconds: float) -> list[Held]:
    rows = []
    for what, wire, queues, run, nap in (
        ("send, napping", "sink", 1, hold_tx, True),
        ("send, spinning", "sink", 1, hold_tx, False),
        ("receive by one ring, napping", "source", 1, hold_rx, True),
        ("receive by one ring, spinning", "source", 1, hold_rx, False),
        (f"receive by {QUEUES} rings, napping", "source", QUEUES, hold_rx, True),
        (f"receive by {QUEUES} rings, spinning", "source", QUEUES, hold_rx, False),
    ):
        with open_port(name(wire, paced=True), tx_slots=SLOTS, rx_slots=SLOTS, rx_queues=queues) as port, on_two_cpus():
            thread, process, start = time.thread_time(), time.process_time(), time.perf_counter()
            done = run(port, seconds, nap)
            program, both, spent = (
                time.thread_time() - thread,
                time.process_time() - process,
                time.perf_counter() - start,
            )
        rows.append(
            Held(
                what,
                round(done.seconds, 2),
                round(done.mpps, 3),
                round(100 * done.mpps / WIRE_MPPS, 2),
                done.lost,
                round(100 * program / spent, 1),
                round(100 * (both - program) / spent, 1),
            )
        )
    return rows
