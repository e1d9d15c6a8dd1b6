"""Lab 04: receive one frame."""

import time

from course import bring_up, get, load, open_nic, prepare_receive, store

from ixrings.hw.device import DmaMemory
from ixrings.hw.registers import Registers

PATIENCE_S = 1
SLOTS = 64
DD = 1  # bit 0 of the second word that the NIC writes back (7.1.6.2)


def make_queue(nic: Registers, ring: DmaMemory) -> None:
    """Give receive queue 0 its ring, and enable it (4.6.7)."""
    # GAP 1: Write RDBAL[0], RDBAH[0] and RDLEN[0], as TDBAL[0], TDBAH[0] and TDLEN[0] in lab 03.
    nic.RDBAL[0].write(ring.iova & 0xFFFF_FFFF)
    nic.RDBAH[0].write(ring.iova >> 32)
    nic.RDLEN[0].write(SLOTS * 16)

    # GAP 2: Write SRRCTL[0]: BSIZEPACKET is the size of a buffer in KB, 2; DESCTYPE 1 is "advanced, one buffer".
    nic.SRRCTL[0].update(BSIZEPACKET=2, DESCTYPE=1)

    # GAP 3: Clear DCA_RXCTRL[0].MUST_BE_ZERO, which is 1 after a reset.
    nic.DCA_RXCTRL[0].update(MUST_BE_ZERO=0)

    # GAP 4: Set RXDCTL[0].ENABLE, and wait until it reads 1.
    nic.RXDCTL[0].update(ENABLE=1)
    nic.RXDCTL[0].wait(ENABLE=1, timeout=0.1)


def give_buffer(nic: Registers, ring: DmaMemory, buffer: DmaMemory) -> None:
    """Descriptor 0 tells the NIC where to write the next frame."""
    q0, q1 = 0, 0
    # GAP 5: q0 is the NIC's address of the buffer; q1 stays 0.
    q0 = buffer.iova

    store(ring, 0, q0, q1)
    # GAP 6: Write the tail, RDT[0]: the first descriptor that is not the NIC's.
    nic.RDT[0].write(1)


def start_receiving(nic: Registers) -> None:
    """Switch reception on (4.6.7 step 11)."""
    # GAP 7: Stop the path from the wire (SECRXCTRL.RX_DIS=1), wait until it is empty (SECRXSTAT.SECRX_RDY is 1),
    #   set RXCTRL.RXEN, and open the path again (RX_DIS=0).
    nic.SECRXCTRL.update(RX_DIS=1)
    nic.SECRXSTAT.wait(SECRX_RDY=1, timeout=0.1)
    nic.RXCTRL.update(RXEN=1)
    nic.SECRXCTRL.update(RX_DIS=0)


def wait_for_frame(ring: DmaMemory, buffer: DmaMemory) -> bytes:
    """Wait for the frame, for PATIENCE_S at most, and return it."""
    end = time.monotonic() + PATIENCE_S
    # GAP 8: Load descriptor 0 in a loop until DD is set in its second word.
    #   When time.monotonic() is past `end`: raise SystemExit("no frame came").
    while not load(ring, 0)[1] & DD:
        if time.monotonic() > end:
            raise SystemExit("no frame came")

    length = 0
    # GAP 9: Take the length of the frame from bits 47:32 of the second word.
    length = load(ring, 0)[1] >> 32 & 0xFFFF

    return get(buffer, 0, length)


with open_nic() as device:
    nic = bring_up(device)
    prepare_receive(nic)
    ring, buffer = device.alloc_dma(SLOTS * 16), device.alloc_dma(2048)
    make_queue(nic, ring)
    start_receiving(nic)
    give_buffer(nic, ring, buffer)
    print(wait_for_frame(ring, buffer).hex())
