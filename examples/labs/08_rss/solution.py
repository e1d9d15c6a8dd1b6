"""Lab 08: the NIC spreads flows over queues."""

import time

from course import bring_up, load, open_nic, prepare_receive, start_receive_queue, start_receiving, store

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers

QUEUES, SLOTS, BUFFER = 4, 256, 2048
FRAMES = 192
PATIENCE_S = 1
DD = 1
# Any 40 bytes work; these are common.
KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")


def queue_of(entry: int) -> int:
    """The queue in this entry of the table: entries 0, 1, 2, ... have the queues 0, 1, 2, 3, 0, 1, ..."""
    return entry % QUEUES


def prepare_rss(nic: Registers) -> None:
    """Set RSS up; call it before reception starts (4.6.7)."""
    # GAP 1: Write the key: four bytes to each of RSSRK[0] to RSSRK[9], in little-endian order.
    for word in range(10):
        nic.RSSRK[word].write(int.from_bytes(KEY[4 * word : 4 * word + 4], "little"))

    # GAP 2: Write the table, RETA[0] to RETA[31]. Each register has four entries, the fields ENTRY_0 to ENTRY_3.
    for entry in range(0, 128, 4):
        nic.RETA[entry // 4].write(
            ENTRY_0=queue_of(entry),
            ENTRY_1=queue_of(entry + 1),
            ENTRY_2=queue_of(entry + 2),
            ENTRY_3=queue_of(entry + 3),
        )

    # GAP 3: Switch RSS on for UDP: MRQC.MRQE is 1, and IPV4 and UDPIPV4 select what is hashed.
    nic.MRQC.write(MRQE=1, IPV4=1, UDPIPV4=1)

    # GAP 4: Let the NIC write the hash into the descriptor: RXCSUM.PCSD.
    nic.RXCSUM.update(PCSD=1)


class Receiver:
    """One queue, with slots for all frames of this lab. `hashes` has the hash of each frame received."""

    def __init__(self, device: Device, nic: Registers, queue: int) -> None:
        self.queue = queue
        self.hashes: list[int] = []
        self.ring, self.buffers = device.alloc_dma(SLOTS * 16), device.alloc_dma(SLOTS * BUFFER)
        start_receive_queue(nic, queue, self.ring, SLOTS)
        for slot in range(SLOTS):
            store(self.ring, slot, self.buffers.iova + slot * BUFFER, 0)
        nic.RDT[queue].write(SLOTS - 1)

    def receive(self) -> bool:
        """Take the hash of the next frame. Returns False when there is no frame."""
        q0, q1 = load(self.ring, len(self.hashes))
        if not q1 & DD:
            return False
        hash = 0
        # GAP 5: The hash is in bits 63:32 of the first word.
        hash = q0 >> 32

        self.hashes.append(hash)
        return True

    def predicted(self) -> int:
        """The number of frames whose hash leads to this queue by the table."""
        right = 0
        # GAP 6: Count these frames: the lowest 7 bits of a hash are the number of an entry in the table.
        for hash in self.hashes:
            right += queue_of(hash & 0x7F) == self.queue

        return right


with open_nic() as device:
    nic = bring_up(device)
    prepare_receive(nic)
    prepare_rss(nic)
    receivers = []
    # GAP 7: Make a Receiver for each queue, 0 to QUEUES - 1.
    receivers = [Receiver(device, nic, queue) for queue in range(QUEUES)]

    start_receiving(nic)
    count, end = 0, time.monotonic() + PATIENCE_S
    while count < FRAMES and time.monotonic() < end:
        count += sum(receiver.receive() for receiver in receivers)
    for receiver in receivers:
        print(f"queue {receiver.queue}: frames={len(receiver.hashes)} predicted={receiver.predicted()}")
