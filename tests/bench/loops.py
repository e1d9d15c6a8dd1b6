"""The loops that the benchmarks time: Python programs as a user writes them, on rings of emulated NICs.

A Run has the number of frames carried and lost, checked by the NIC's counters or the numbers in a source's frames.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from building import BenchError as BenchError
from machine import choose_cpus

from ixrings import Port, open_port, open_ports

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "examples"))

from packets import UDP, checksum, mac, udp_frame

FRAME = 60  # bytes without CRC
TOUCHED = 26  # the byte of each packet that is changed: the first of an IPv4 source address
ROUNDS = 64  # turns of a loop between two reads of the clock
DRAIN_S = 5.0
WARM_UP_S = 0.02  # not measured: a paced source sends while the program opens the port, and those frames are lost
SEQUENCE = slice(42, 50)  # the bytes of a source's frame that have its number
FLOW = (bytes([10, 0, 0, 1]), 1234), (bytes([10, 0, 0, 2]), 1234)  # addresses and UDP ports of the frames sent
UDP_HEADER, UDP_CHECKSUM = 34, slice(40, 42)  # bytes of a frame


@dataclass(frozen=True)
class Run:
    frames: int
    seconds: float
    lost: int

    @property
    def mpps(self) -> float:
        return self.frames / self.seconds / 1e6


def transmit(port: Port, batch: int, seconds: float) -> int:
    """Hand over a batch whenever the ring has room for one, as pktgen does. Returns the number of frames."""
    ring, txsync = port.tx_rings[0], port.txsync
    sent, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            if ring.space >= batch:
                ring.advance(batch)
                sent += batch
            txsync()
    return sent


def receive(port: Port, batch: int, seconds: float) -> int:
    """Take up to a batch at a time. Returns the number of frames."""
    ring, rxsync = port.rx_rings[0], port.rxsync
    received, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            rxsync()
            count = min(ring.space, batch)
            ring.advance(count)
            received += count
    return received


def echo(sender: Port, receiver: Port, batch: int, seconds: float) -> tuple[int, int]:
    """Send and receive in turn, on one looped port or on two. No more frames are on the way than the receive ring
    holds beside the batch that the next rxsync releases, so none is lost. Returns the numbers of frames sent and
    received."""
    tx, rx, txsync, rxsync = sender.tx_rings[0], receiver.rx_rings[0], sender.txsync, receiver.rxsync
    window = rx.num_slots - 1 - batch
    sent = received = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            if tx.space >= batch and (sent == received or sent - received + batch <= window):
                tx.advance(batch)
                sent += batch
            txsync()
            rxsync()
            count = min(rx.space, batch)
            rx.advance(count)
            received += count
    end = time.perf_counter() + DRAIN_S
    while received < sent and time.perf_counter() < end:
        txsync()
        rxsync()
        count = rx.space
        rx.advance(count)
        received += count
    return sent, received


def bridge(source: Port, sink: Port, batch: int, seconds: float) -> int:
    """Forward frames without reading them. Returns their number."""
    forward = source.forward
    moved, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            moved += forward(sink, batch)
    return moved


def bridge_touched(source: Port, sink: Port, batch: int, seconds: float) -> int:
    """Forward frames and change one byte of each. forward() syncs, so the next batch is there when it returns. Returns
    the number of frames."""
    ring, add = source.rx_rings[0], source.add
    moved, end = 0, time.perf_counter() + seconds
    touched = 0  # frames from head on that are changed but not yet forwarded
    while time.perf_counter() < end:
        for _ in range(ROUNDS):
            if not touched:
                span = ring.reserve(batch)
                touched = len(span)
                if not touched:
                    source.rxsync()
                    continue
                add(span, 1, TOUCHED)
            count = source.forward(sink, touched)
            touched -= count
            moved += count
    return moved


def udp(length: int, source_mac: bytes, destination_mac: bytes) -> bytes:
    """A UDP frame with right checksums: the NIC classifies and checks it, which frames of other types are spared."""
    frame = bytearray(udp_frame(length, source_mac, destination_mac, *FLOW))
    segment = frame[UDP_HEADER:]
    pseudo_header = FLOW[0][0] + FLOW[1][0] + struct.pack("!HH", UDP, len(segment))
    frame[UDP_CHECKSUM] = struct.pack("!H", checksum(pseudo_header + segment) or 0xFFFF)
    return bytes(frame)


def fill(port: Port, length: int = FRAME, destination_mac: str | None = None) -> None:
    """Write a UDP frame into each transmit buffer. Without another destination it is addressed to the port, which
    accepts it when it comes back."""
    frame = udp(length, mac(port.mac), mac(destination_mac or port.mac))
    for ring in port.tx_rings:
        port.buffers[ring.slots["buf_idx"], :length] = np.frombuffer(frame, np.uint8)
        ring.slots["len"] = length


def name(wire: str, paced: bool) -> str:
    return f"emulated{'@paced' if paced else ''}:{wire}"


@contextmanager
def on_two_cpus() -> Iterator[None]:
    """Bind the program's and the engine's thread to a CPU each; the scheduler would sometimes let them share one."""
    allowed = os.sched_getaffinity(0)
    cpus = choose_cpus()
    if cpus.nic is not None:
        os.sched_setaffinity(0, {cpus.program})
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text(encoding="ascii", errors="replace").strip() == "82599":
                os.sched_setaffinity(int(task.name), {cpus.nic})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def check_equal(what: str, expected: int, found: int) -> None:
    if expected != found:
        raise BenchError(f"{what}: the loop counted {expected} frames, the NIC {found}")


def run_tx(batch: int, paced: bool, seconds: float, nics: Sequence[str] = ()) -> Run:
    """nics: the first one sends; a second one is only the other end of the cable."""
    with open_ports(*(nics or [name("sink", paced)])) as ports, on_two_cpus():
        port = ports[0]
        fill(port)
        start = time.perf_counter()
        sent = transmit(port, batch, seconds)
        port.flush()
        spent = time.perf_counter() - start
        check_equal("GPTC", sent, port.stats()["GPTC"])
    return Run(sent, spent, 0)


def sequence_at_head(port: Port) -> int:
    """The number of the oldest frame in the ring. A source numbers its frames, so a gap in the numbers is a loss."""
    ring, end = port.rx_rings[0], time.perf_counter() + DRAIN_S
    while not ring.space:
        port.rxsync()
        if time.perf_counter() > end:
            raise BenchError(f"{port.name} received no frame for {DRAIN_S:g} s")
    frame = port.buffers[ring.slots["buf_idx"][ring.head]]
    return int.from_bytes(frame[SEQUENCE].tobytes(), "big")


def run_rx(batch: int, paced: bool, seconds: float) -> Run:
    with open_port(name("source", paced)) as port, on_two_cpus():
        receive(port, batch, WARM_UP_S)
        first = sequence_at_head(port)
        start = time.perf_counter()
        received = receive(port, batch, seconds)
        spent = time.perf_counter() - start
        return Run(received, spent, sequence_at_head(port) - first - received)


def run_loop(batch: int, paced: bool, seconds: float, nics: Sequence[str] = ()) -> Run:
    """nics: one looped port, or two ports with a cable between them."""
    with open_ports(*(nics or [name("loop", paced)])) as ports, on_two_cpus():
        sender, receiver = ports[0], ports[-1]
        fill(sender, destination_mac=receiver.mac)
        start = time.perf_counter()
        sent, received = echo(sender, receiver, batch, seconds)
        spent = time.perf_counter() - start
        check_equal("GPTC", sent, sender.stats()["GPTC"])
    return Run(received, spent, sent - received)


def run_bridge(loop: Callable[[Port, Port, int, float], int], batch: int, paced: bool, seconds: float) -> Run:
    with open_ports(name("source", paced), name("sink", paced)) as (source, sink), on_two_cpus():
        before = loop(source, sink, batch, WARM_UP_S)
        sink.flush()
        first = sequence_at_head(source)
        start = time.perf_counter()
        moved = loop(source, sink, batch, seconds)
        sink.flush()
        spent = time.perf_counter() - start
        lost = sequence_at_head(source) - first - moved
        check_equal("GPTC", before + moved, sink.stats()["GPTC"])
        return Run(moved, spent, lost)


RUNS: dict[str, Callable[[int, bool, float], Run]] = {
    "tx": run_tx,
    "rx": run_rx,
    "loop": run_loop,
    "bridge": lambda batch, paced, seconds: run_bridge(bridge, batch, paced, seconds),
    "bridge_touched": lambda batch, paced, seconds: run_bridge(bridge_touched, batch, paced, seconds),
}
