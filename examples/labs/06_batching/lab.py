"""Lab 06: count what a frame costs, one by one and in batches."""

import time

from course import bring_up, get, open_nic, prepare_transmit, put, read_mac, start_transmit_queue, store

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers

SLOTS, BUFFER = 128, 2048
FRAMES, BATCH = 256, 32
PATIENCE_S = 1
EOP, IFCS, RS, DEXT, DATA = 1 << 24, 1 << 25, 1 << 27, 1 << 29, 3 << 20


class Sender:
    """A transmit ring. The NIC writes its head into the memory `head`."""

    def __init__(self, device: Device, nic: Registers) -> None:
        self.nic = nic
        self.ring, self.buffers, self.head = (
            device.alloc_dma(SLOTS * 16),
            device.alloc_dma(SLOTS * BUFFER),
            device.alloc_dma(4096),
        )
        self.tail = 0
        self.tail_writes = self.reports = 0
        ...  # GAP 1: Write the address of self.head in two halves: TDWBAH[0], and TDWBAL[0] with HEAD_WB_EN=1.
        #   Forbid that the write of the head overtakes others: DCA_TXCTRL[0].TXDESCWBRO=0.

        start_transmit_queue(nic, 0, self.ring, SLOTS)

    def free(self) -> int:
        """The number of slots that can be written. One slot stays free: a full ring would look like an empty one."""
        head = 0
        ...  # GAP 2: The head is a 32-bit little-endian number at the start of self.head; get() returns its bytes.

        return (head - self.tail - 1) % SLOTS

    def wait_for(self, slots: int) -> None:
        """Wait until this many slots are free."""
        end = time.monotonic() + PATIENCE_S
        while self.free() < slots:
            if time.monotonic() > end:
                raise SystemExit(f"the NIC does not report: {self.free()} slots are free")

    def add(self, frame: bytes, report: bool) -> None:
        """Write a descriptor for the frame, with RS for a report. The tail does not move yet."""
        put(self.buffers, self.tail * BUFFER, frame)
        command = DATA | DEXT | EOP | IFCS
        ...  # GAP 3: If `report` is true, add RS to the command and 1 to self.reports.

        store(self.ring, self.tail, self.buffers.iova + self.tail * BUFFER, len(frame) | len(frame) << 46 | command)
        self.tail = (self.tail + 1) % SLOTS

    def kick(self) -> None:
        """Give the NIC all descriptors that were added."""
        ...  # GAP 4: Write the tail to TDT[0], and add 1 to self.tail_writes.


def one_by_one(sender: Sender, frame: bytes) -> None:
    for _ in range(FRAMES):
        sender.wait_for(1)
        sender.add(frame, report=True)
        sender.kick()


def in_batches(sender: Sender, frame: bytes) -> None:
    """Send BATCH frames at a time, with one report and one kick for all of them."""
    ...  # GAP 5: For each batch: wait for BATCH slots, add BATCH frames with a report for the last one only, kick once.


with open_nic() as device:
    nic = bring_up(device)
    prepare_transmit(nic)
    sender = Sender(device, nic)
    frame = b"\xff" * 6 + read_mac(nic) + b"\x88\xb5" + bytes(46)
    for label, send in (("one by one", one_by_one), ("batches", in_batches)):
        sender.tail_writes = sender.reports = 0
        start = time.perf_counter()
        send(sender, frame)
        sender.wait_for(SLOTS - 1)
        us_a_frame = (time.perf_counter() - start) / FRAMES * 1e6
        counts = f"tail_writes={sender.tail_writes} reports={sender.reports}"
        print(f"{label}: frames={FRAMES} {counts} us_a_frame={us_a_frame:.1f}")
