"""Lab 03: send one frame with one descriptor."""

import time

from course import bring_up, load, open_nic, prepare_transmit, put, read_mac, store

from ixrings.hw.device import DmaMemory
from ixrings.hw.registers import Registers

PATIENCE_S = 1
SLOTS = 64  # descriptors in the ring, 16 bytes each
EOP, IFCS, RS, DEXT = 1 << 24, 1 << 25, 1 << 27, 1 << 29  # bits of a descriptor's second word (7.2.3.2.4)
DATA = 3 << 20  # DTYP: an advanced data descriptor
DD = 1 << 32


def make_queue(nic: Registers, ring: DmaMemory) -> None:
    """Give transmit queue 0 its ring, and enable it (4.6.8)."""
    # GAP 1: Set DMATXCTL.TE: without it no queue transmits.
    nic.DMATXCTL.update(TE=1)

    # GAP 2: Write the address of the ring, ring.iova, in two halves: TDBAL[0] and TDBAH[0].
    #   Write the length of the ring in bytes: TDLEN[0].
    nic.TDBAL[0].write(ring.iova & 0xFFFF_FFFF)
    nic.TDBAH[0].write(ring.iova >> 32)
    nic.TDLEN[0].write(SLOTS * 16)

    # GAP 3: Set TXDCTL[0].ENABLE, and wait until it reads 1, for 0.1 s at most.
    nic.TXDCTL[0].update(ENABLE=1)
    nic.TXDCTL[0].wait(ENABLE=1, timeout=0.1)


def send(nic: Registers, ring: DmaMemory, buffer: DmaMemory, frame: bytes) -> None:
    """Copy the frame into the buffer, write descriptor 0, and move the tail."""
    put(buffer, 0, frame)
    q0, q1 = 0, 0
    # GAP 4: The first word, q0, is the NIC's address of the buffer. The second word, q1, combines
    #   the length of the data in bits 15:0, the length of the whole frame from bit 46 on,
    #   DATA and DEXT (the format), EOP (the frame ends here), IFCS (add the CRC) and RS (report).
    q0 = buffer.iova
    q1 = len(frame) | len(frame) << 46 | DATA | DEXT | EOP | IFCS | RS

    store(ring, 0, q0, q1)
    # GAP 5: Write the tail, TDT[0]: the number of the first descriptor that is not the NIC's.
    nic.TDT[0].write(1)


def wait_until_sent(ring: DmaMemory) -> None:
    """Wait until the NIC has set DD in the descriptor, for PATIENCE_S at most."""
    end = time.monotonic() + PATIENCE_S
    # GAP 6: Load descriptor 0 in a loop until DD is set in its second word.
    #   When time.monotonic() is past `end`: raise SystemExit("the NIC did not send the frame").
    while not load(ring, 0)[1] & DD:
        if time.monotonic() > end:
            raise SystemExit("the NIC did not send the frame")


with open_nic() as device:
    nic = bring_up(device)
    prepare_transmit(nic)
    ring, buffer = device.alloc_dma(SLOTS * 16), device.alloc_dma(2048)
    frame = b"\xff" * 6 + read_mac(nic) + b"\x88\xb5" + b"Hello, wire!"
    make_queue(nic, ring)
    send(nic, ring, buffer, frame)
    wait_until_sent(ring)
    print("sent")
