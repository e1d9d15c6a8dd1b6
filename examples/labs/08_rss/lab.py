"""Lab 08: the NIC spreads flows over queues."""

import time

from course import bring_up, load, open_nic, prepare_receive, start_receive_queue, start_receiving, store

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers

QUEUES, SLOTS, BUFFER = 4, 256, 2048
FRAMES = 192
PATIENCE_S = 1
DD = 1
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)  # any 40 bytes do; these are common


def queue_of(entry: int) -> int:
    """Which queue this entry of the table names: they take turns."""
    return entry % QUEUES


def prepare_rss(nic: Registers) -> None:
    """Before reception starts (4.6.7)."""
    ...  # GAP 1: Write the key: four bytes to each of RSSRK[0] to RSSRK[9], little-endian.

    ...  # GAP 2: Write the table, RETA[0] to RETA[31]: each has four entries, ENTRY_0 to ENTRY_3, the first is entry 0.

    ...  # GAP 3: Switch it on for UDP: MRQC.MRQE is 1, and IPV4, UDPIPV4 say what is hashed.

    ...  # GAP 4: Have the hash written into the descriptor: RXCSUM.PCSD.


class Receiver:
    """One queue, with slots for all frames of this lab. `hashes` has those that came."""

    def __init__(self, device: Device, nic: Registers, queue: int) -> None:
        self.queue = queue
        self.hashes: list[int] = []
        self.ring, self.buffers = device.alloc_dma(SLOTS * 16), device.alloc_dma(SLOTS * BUFFER)
        start_receive_queue(nic, queue, self.ring, SLOTS)
        for slot in range(SLOTS):
            store(self.ring, slot, self.buffers.iova + slot * BUFFER, 0)
        nic.RDT[queue].write(SLOTS - 1)

    def receive(self) -> bool:
        """Take the next frame's hash, if there is a frame."""
        q0, q1 = load(self.ring, len(self.hashes))
        if not q1 & DD:
            return False
        hash = 0
        ...  # GAP 5: The hash is in bits 63:32 of the first word.

        self.hashes.append(hash)
        return True

    def predicted(self) -> int:
        """Of how many frames the hash, and the table, say that they belong here."""
        right = 0
        ...  # GAP 6: Count them: the lowest 7 bits of a hash are the number of an entry in the table.

        return right


with open_nic() as device:
    nic = bring_up(device)
    prepare_receive(nic)
    prepare_rss(nic)
    receivers = []
    ...  # GAP 7: Make a Receiver for each queue, 0 to QUEUES - 1.

    start_receiving(nic)
    count, end = 0, time.monotonic() + PATIENCE_S
    while count < FRAMES and time.monotonic() < end:
        count += sum(receiver.receive() for receiver in receivers)
    for receiver in receivers:
        print(f"queue {receiver.queue}: frames={len(receiver.hashes)} predicted={receiver.predicted()}")
