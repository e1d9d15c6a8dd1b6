"""Lab 05: rings. Return every received frame to its sender."""

import time

from course import (
    bring_up,
    get,
    load,
    open_nic,
    prepare_receive,
    prepare_transmit,
    put,
    start_receive_queue,
    start_receiving,
    start_transmit_queue,
    store,
)

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers

FRAMES = 100
PATIENCE_S = 1
BUFFER = 2048
RX_DD, TX_DD = 1, 1 << 32  # descriptor done, in the second word that the NIC writes back
EOP, IFCS, RS, DEXT, DATA = 1 << 24, 1 << 25, 1 << 27, 1 << 29, 3 << 20


class ReceiveRing:
    """Slot i has descriptor i and buffer i. `next` is the slot that gets the next frame."""

    SLOTS = 32

    def __init__(self, device: Device, nic: Registers) -> None:
        self.nic = nic
        self.ring, self.buffers = device.alloc_dma(self.SLOTS * 16), device.alloc_dma(self.SLOTS * BUFFER)
        self.next = 0
        start_receive_queue(nic, 0, self.ring, self.SLOTS)
        ...  # GAP 1: Fill the descriptor of every slot (self.fill), and give the NIC all slots but the last: RDT[0].

    def fill(self, slot: int) -> None:
        """Write the slot's descriptor; the NIC's write-back has overwritten the old one."""
        ...  # GAP 2: Store a descriptor for `slot`: the first word is the NIC's address of buffer `slot`, the second is 0.

    def receive(self) -> "bytes | None":
        """The next frame, or None when there is none yet."""
        slot = self.next
        status = load(self.ring, slot)[1]
        ...  # GAP 3: Return None when DD is not set in `status`.

        frame = get(self.buffers, slot * BUFFER, status >> 32 & 0xFFFF)
        ...  # GAP 4: The frame is copied, so give the slot back: fill it, and move RDT[0].
        #   The slot at the tail is the one that is not the NIC's: this slot now.

        ...  # GAP 5: Go on to the next slot; slot 0 follows the last one.

        return frame


class TransmitRing:
    """`next` is the slot for the next frame; `used` has the slots that were given to the NIC at least once."""

    SLOTS = 8

    def __init__(self, device: Device, nic: Registers) -> None:
        self.nic = nic
        self.ring, self.buffers = device.alloc_dma(self.SLOTS * 16), device.alloc_dma(self.SLOTS * BUFFER)
        self.next = 0
        self.used: set[int] = set()
        start_transmit_queue(nic, 0, self.ring, self.SLOTS)

    def wait_for(self, slot: int) -> None:
        """Wait until the NIC has sent the frame in the slot."""
        end = time.monotonic() + PATIENCE_S
        ...  # GAP 6: If the slot was used, load its descriptor in a loop until DD is set; raise SystemExit past `end`.

    def send(self, frame: bytes) -> None:
        slot = self.next
        self.wait_for((slot + 1) % self.SLOTS)  # one slot stays free: tail equal to head means an empty ring
        put(self.buffers, slot * BUFFER, frame)
        store(
            self.ring,
            slot,
            self.buffers.iova + slot * BUFFER,
            len(frame) | len(frame) << 46 | DATA | DEXT | EOP | IFCS | RS,
        )
        self.used.add(slot)
        ...  # GAP 7: Go on to the next slot (slot 0 follows the last one), and write it to TDT[0].


def answer(frame: bytes) -> bytes:
    """The frame with destination and source exchanged."""
    ...  # GAP 8: Exchange destination (bytes 0 to 5) and source (bytes 6 to 11).

    return frame


with open_nic() as device:
    nic = bring_up(device)
    prepare_receive(nic)
    prepare_transmit(nic)
    transmit, receive = TransmitRing(device, nic), ReceiveRing(device, nic)
    start_receiving(nic)
    count, end = 0, time.monotonic() + PATIENCE_S
    while count < FRAMES:
        frame = receive.receive()
        if frame is not None:
            transmit.send(answer(frame))
            count += 1
            end = time.monotonic() + PATIENCE_S
        elif time.monotonic() > end:
            raise SystemExit(f"no more frames after {count}")
    for slot in range(transmit.SLOTS):
        transmit.wait_for(slot)
    print(count, "frames answered")
