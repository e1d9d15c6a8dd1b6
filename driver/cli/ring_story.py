"""A short play with a ring: what the program, the syncs and the NIC do to it, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from ixrings.driver.port import Port
from ixrings.driver.ring_view import Recording, Step

BROADCAST = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(46)  # EtherType for local experiments
BATCH = 12
ROUNDS = 7  # a ring of 64 slots comes round


def play(port: Port, nic_works: Callable[[int], object], rounds: int = ROUNDS) -> list[Step]:
    """Frames out of TX ring 0, and whatever comes into RX ring 0. nic_works(n): let the NIC move about n frames."""
    recording = Recording(port)
    recording.look(
        "As open_port() leaves it. The program owns the whole TX ring but one slot; the NIC waits for frames in the whole RX ring but one."
    )
    tx, rx = port.tx_rings[0], port.rx_rings[0]
    for number in range(rounds):
        span = tx.reserve(BATCH)  # fewer at the end of the ring
        span.len[:] = len(BROADCAST)
        port.buffers[span.buf_idx, : len(BROADCAST)] = list(BROADCAST)
        tx.advance(len(span))
        recording.look(
            f"The program wrote {len(span)} frames into buffers, their lengths into slots, and advanced: head and cur move. "
            "Nobody else knows yet."
        )
        port.txsync()
        recording.look(
            "txsync: a descriptor for each slot, then one write to TDT, the NIC's tail. It also took back what the NIC had sent: tail moves."
        )
        nic_works(BATCH // 2)
        recording.look(
            "The NIC fetched descriptors and sent frames: its head moves on the TX ring. What came back from the wire moved its head on the RX ring."
        )
        port.rxsync()
        recording.look(
            "rxsync: written-back descriptors became slots of the program, [head, tail). Slots it had released got fresh "
            "descriptors: the NIC's tail moves."
        )
        rx.advance(rx.space // 2 if number % 2 else rx.space)
        recording.look("The program has read frames and advanced: these slots are given back, at the next rxsync.")
        nic_works(BATCH)
        recording.look("The NIC sent and received what was left.")
    return recording.steps
