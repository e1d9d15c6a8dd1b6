"""Lab 07: wait for frames by polling, and by interrupts."""

import os
import select
import time

from course import bring_up, load, open_nic, prepare_receive, start_receive_queue, start_receiving, store

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers

SLOTS, BUFFER = 64, 2048
FRAMES = 10
PATIENCE_S = 1
DD = 1


class Receiver:
    """A ring large enough for all frames of this lab. `looks` counts the looks at it."""

    def __init__(self, device: Device, nic: Registers) -> None:
        self.ring, self.buffers = device.alloc_dma(SLOTS * 16), device.alloc_dma(SLOTS * BUFFER)
        self.next = self.looks = 0
        start_receive_queue(nic, 0, self.ring, SLOTS)
        for slot in range(SLOTS):
            store(self.ring, slot, self.buffers.iova + slot * BUFFER, 0)
        nic.RDT[0].write(SLOTS - 1)

    def has_frame(self) -> bool:
        """Look at the next descriptor, and take the frame if there is one."""
        self.looks += 1
        if not load(self.ring, self.next)[1] & DD:
            return False
        self.next += 1
        return True


def poll(receiver: Receiver, frames: int) -> None:
    """Take `frames` frames by looking again and again."""
    end = time.monotonic() + PATIENCE_S
    ...  # GAP 1: Call receiver.has_frame() until it found `frames` frames; raise SystemExit("no frame came") past `end`.


def prepare_interrupts(nic: Registers) -> None:
    """Let receive queue 0 send a message, vector 0, for a received frame (7.3). The vector stays masked until armed."""
    ...  # GAP 2: Map the cause: IVAR[0].INT_ALLOC_0 is the vector of receive queue 0, INT_ALLOC_VAL_0 makes it valid.

    ...  # GAP 3: Use MSI-X, and let a message mask its vector: GPIE.MSIX_MODE and GPIE.EIAME, bit 0 of EIAM_EX[0].
    #   Let a message clear its cause: bit 0 of EIAC.


def sleep(nic: Registers, receiver: Receiver, frames: int, message: int) -> int:
    """Take `frames` frames and sleep between them. Returns the number of wake-ups.

    message: an eventfd, readable when a message has come.
    """
    wakes = 0
    while frames:
        ...  # GAP 4: Unmask vector 0: bit 0 of EIMS_EX[0]. A frame that came while it was masked sends its message now.

        ...  # GAP 5: Sleep in select.select() until `message` is readable, for PATIENCE_S at most; raise SystemExit if it
        #   is not. Then call os.eventfd_read(message), which makes it unreadable again, and count the wake-up.

        found = 0
        ...  # GAP 6: Take every frame that is there, and count them in `found`: one message may stand for several frames.

        frames -= min(found, frames)
        if not wakes:
            raise SystemExit("the script never slept")
    return wakes


with open_nic() as device:
    nic = bring_up(device)
    prepare_receive(nic)
    receiver = Receiver(device, nic)
    message = device.enable_interrupts(1)[0]
    prepare_interrupts(nic)
    start_receiving(nic)
    poll(receiver, FRAMES)
    print(f"polling: frames={receiver.next} looks={receiver.looks}")
    receiver.looks = 0
    wakes = sleep(nic, receiver, FRAMES, message)
    print(f"interrupts: frames={receiver.next - FRAMES} looks={receiver.looks} wakes={wakes}")
