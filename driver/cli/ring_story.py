"""A short scene with a ring: what the program, the syncs and the NIC do to it, step by step."""

from __future__ import annotations

from collections.abc import Callable

from ..port import Port
from ..ring_view import Recording, Step

BROADCAST = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(46)  # the EtherType for local experiments
BATCH = 12
ROUNDS = 7  # enough to wrap a ring of 64 slots


def play(port: Port, nic_works: Callable[[int], object], rounds: int = ROUNDS) -> list[Step]:
    """Send frames by TX ring 0 and receive by RX ring 0. nic_works(n): let the NIC move about n frames.

    Raises RingError, DeviceGone.
    """
    recording = Recording(port)
    recording.look(
        "After open_port(). The program owns all slots of the TX ring but one. The NIC owns all slots of the RX ring "
        "but one, and writes the next frames into them."
    )
    tx, rx = port.tx_rings[0], port.rx_rings[0]
    for number in range(rounds):
        span = tx.reserve(BATCH)  # fewer at the end of the ring
        span.len[:] = len(BROADCAST)
        port.write(span, BROADCAST)
        tx.advance(len(span))
        recording.look(
            f"The program wrote {len(span)} frames into buffers and their lengths into slots. It advanced: head and "
            "cur moved. The NIC does not know of these frames yet."
        )
        port.txsync()
        recording.look(
            "txsync wrote a descriptor for each slot, then wrote TDT, the NIC's tail, once. It also took back the "
            "slots that the NIC had sent: tail moved."
        )
        nic_works(BATCH // 2)
        recording.look(
            "The NIC fetched descriptors and sent frames: its head on the TX ring moved. Frames came back from the "
            "wire: its head on the RX ring moved."
        )
        port.rxsync()
        recording.look(
            "rxsync turned written-back descriptors into slots of the program, [head, tail). Released slots got new "
            "descriptors: the NIC's tail moved."
        )
        rx.advance(rx.space // 2 if number % 2 else rx.space)
        recording.look(
            "The program read frames and advanced: it released these slots. The next rxsync gives them to the NIC."
        )
        nic_works(BATCH)
        recording.look("The NIC sent and received the remaining frames.")
    return recording.steps
