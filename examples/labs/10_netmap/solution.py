"""Lab 10: lab 05 again, with the netmap API: rings in shared memory, and no byte copied."""

import time
from select import POLLIN

from course import nic_name

from ixrings import Port, open_port
from ixrings.rings.layout import SlotFlag

FRAMES = 500
PATIENCE_S = 1.0


def turn_around(port: Port, buffer: int) -> None:
    """Exchange destination and source of the frame in this buffer, in place."""
    frame = port.buffers[buffer]
    # GAP 1: `frame` is a numpy array of bytes. Exchange frame[0:6] and frame[6:12]; copy() one of them first.
    destination = frame[0:6].copy()
    frame[0:6] = frame[6:12]
    frame[6:12] = destination


def answer(port: Port) -> int:
    """Answer the frames in the receive ring, as many as the transmit ring has room for. Returns their number."""
    receive, transmit = port.rx_rings[0], port.tx_rings[0]
    count = 0
    # GAP 2: `count` is the smaller ring.space of both rings: received frames in one, free slots in the other.
    count = min(receive.space, transmit.space)

    # reserve() returns consecutive slots, so it may return fewer at the end of a ring.
    received, sent = receive.reserve(count), transmit.reserve(count)
    count = min(len(received), len(sent))
    for i in range(count):
        turn_around(port, int(received.buf_idx[i]))
        # GAP 3: Copy the frame's length to the transmit slot: sent.len[i].
        sent.len[i] = received.len[i]

        # GAP 4: Exchange the buffers: received.buf_idx[i] and sent.buf_idx[i].
        #   Mark both slots: add SlotFlag.NS_BUF_CHANGED to received.flags[i] and sent.flags[i].
        received.buf_idx[i], sent.buf_idx[i] = int(sent.buf_idx[i]), int(received.buf_idx[i])
        received.flags[i] |= SlotFlag.NS_BUF_CHANGED
        sent.flags[i] |= SlotFlag.NS_BUF_CHANGED

    # GAP 5: Release `count` slots of both rings: advance().
    receive.advance(count)
    transmit.advance(count)

    return count


with open_port(nic_name(), rx_slots=64, tx_slots=64) as port:
    answered, end = 0, time.monotonic() + 5 * PATIENCE_S
    while answered < FRAMES and time.monotonic() < end:
        # GAP 6: Wait for frames with port.poll(PATIENCE_S, POLLIN), which also syncs the receive ring.
        #   If it returns 0: raise SystemExit(f"no more frames after {answered}").
        if not port.poll(PATIENCE_S, POLLIN):
            raise SystemExit(f"no more frames after {answered}")

        answered += answer(port)
        port.txsync()
    # GAP 7: Wait until the NIC has sent the last one: port.flush().
    port.flush()

    print(f"{answered} frames answered, {port.rx_rings[0].space} wait")
