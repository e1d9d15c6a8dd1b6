"""Lab 09: give the NIC an address that is not mapped, and recover."""

import time

from course import DESCRIPTOR, bring_up, load, open_nic, prepare_transmit, put, read_mac, start_transmit_queue, store

from ixrings.hw.device import DmaMemory
from ixrings.hw.registers import Registers

SLOTS = 64
PATIENCE_S = 0.5
DD = 1 << 32
EOP, IFCS, RS, DEXT, DATA = 1 << 24, 1 << 25, 1 << 27, 1 << 29, 3 << 20


def send(nic: Registers, ring: DmaMemory, address: int, length: int) -> bool:
    """Give the NIC descriptor 0. Returns whether it was sent within PATIENCE_S."""
    store(ring, 0, address, length | length << 46 | DATA | DEXT | EOP | IFCS | RS)
    nic.TDT[0].write(1)
    end = time.monotonic() + PATIENCE_S
    ...  # GAP 1: Return True as soon as DD is set in descriptor 0, and False past `end`.

    return False


def restart(nic: Registers, ring: DmaMemory) -> None:
    """Switch the queue, which has stopped at the bad descriptor, off and on again (4.6.8, 4.6.8.1)."""
    ...  # GAP 2: Clear TXDCTL[0].ENABLE, and wait until it reads 0.

    ...  # GAP 3: Let the queue start at descriptor 0 again: TDH[0] and TDT[0].

    ...  # GAP 4: Set TXDCTL[0].ENABLE, and wait until it reads 1.


with open_nic() as device:
    nic = bring_up(device)
    prepare_transmit(nic)
    ring, buffer = device.alloc_dma(SLOTS * DESCRIPTOR), device.alloc_dma(2048)
    frame = b"\xff" * 6 + read_mac(nic) + b"\x88\xb5" + b"after the fault"
    put(buffer, 0, frame)
    start_transmit_queue(nic, 0, ring, SLOTS)
    nowhere = buffer.iova
    ...  # GAP 5: Choose an address that is not mapped for the NIC: 2 ** 40 bytes after the buffer.

    if send(nic, ring, nowhere, len(frame)):
        print("the NIC sent memory that is not ours")
    ...  # GAP 6: Ask device.dma_refused() whether a read of the NIC was refused, and print "refused" if so.

    restart(nic, ring)
    sent = False
    ...  # GAP 7: Send the frame again, now from its real address.

    print("recovered" if sent else "still broken")
