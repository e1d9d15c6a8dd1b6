"""Lab 10: lab 05 again, on the netmap API: rings in shared memory, buffers that change hands, no byte copied."""

import time
from select import POLLIN

from course import nic_name

from ixrings import Port, open_port
from ixrings.rings.layout import SlotFlag

FRAMES = 500
PATIENCE_S = 1.0


def turn_around(port: Port, buffer: int) -> None:
    """Exchange destination and source of the frame in this buffer, where it lies."""
    frame = port.buffers[buffer]
    ...  # GAP 1: frame is a numpy array of bytes. Exchange frame[0:6] and frame[6:12]; copy() one of them first.


def answer(port: Port) -> int:
    """Answer what is in the receive ring, as far as the transmit ring has room. How many."""
    receive, transmit = port.rx_rings[0], port.tx_rings[0]
    count = 0
    ...  # GAP 2: count is how many slots of mine both rings have (ring.space): frames in one, room in the other.

    # reserve() gives slots that follow each other in memory: fewer where the ring's end is in the way.
    came, go = receive.reserve(count), transmit.reserve(count)
    count = min(len(came), len(go))
    for i in range(count):
        turn_around(port, int(came.buf_idx[i]))
        ...  # GAP 3: The frame's length goes to the transmit slot: go.len[i].

        ...  # GAP 4: And so does its buffer: exchange came.buf_idx[i] and go.buf_idx[i].
        #   Say so in both slots: add SlotFlag.NS_BUF_CHANGED to came.flags[i] and go.flags[i].

    ...  # GAP 5: Both rings go on by `count` slots: advance().

    return count


with open_port(nic_name(), rx_slots=64, tx_slots=64) as port:
    answered, end = 0, time.monotonic() + 5 * PATIENCE_S
    while answered < FRAMES and time.monotonic() < end:
        ...  # GAP 6: Wait for frames with port.poll(PATIENCE_S, POLLIN), which syncs the receive ring when it waits.
        #   Raise SystemExit(f"{answered} frames, and then no more") when it gives 0.

        answered += answer(port)
        port.txsync()
    ...  # GAP 7: Wait until the NIC has sent the last one: port.flush().

    print(f"{answered} frames answered, {port.rx_rings[0].space} wait")
