"""Take a queue over from a worker that ended in the middle of its work (82599 4.6.7.1, 4.6.8.1).

A worker may be killed between any two instructions. Nothing of its queue's state is trusted then: the queue is switched
off, its rings go back to their initial state, and it is switched on again. Other queues go on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ixrings.rings import Interface, RxRing, TxRing
from ixrings.rings.layout import RESERVED_BUFFERS
from ixrings.rings.queue import RxQueue, TxQueue

from . import queues, reset
from .errors import PortError
from .queue_registers import QueueRegisters

SENT_S = 0.050  # a full ring of 8192 short frames takes 0.6 ms at line rate, of 1500 bytes 10 ms
DONE = 1  # DD of a receive descriptor (7.1.6.2)
Descriptors = npt.NDArray[np.uint64]


def restart_receive(nic: QueueRegisters, rx: RxQueue, descriptors: Descriptors) -> int:
    """Restart a receive queue (4.6.7.1). Returns how many slots had received frames, which are lost."""
    stop_receive(nic, rx)
    lost = unreceived(rx, descriptors)
    start_receive(nic, rx, descriptors)
    return lost


def stop_receive(nic: QueueRegisters, rx: RxQueue) -> None:
    """Switch a receive queue off: the NIC writes to its buffers no more."""
    reset.disable_receive_queue(nic, rx.ring.ringid)
    time.sleep(100e-6)


def unreceived(rx: RxQueue, descriptors: Descriptors) -> int:
    """How many slots have received frames."""
    head, tail, slots = rx.ring.head, rx.ring.tail, rx.num_slots
    lost = (tail - head) % slots if max(head, tail) < slots else 0
    return min(lost + int(np.count_nonzero(descriptors[:, 1] & DONE)), slots)


def start_receive(
    nic: QueueRegisters, rx: RxQueue, descriptors: Descriptors, buffers: npt.NDArray[np.uint32] | None = None
) -> None:
    """Switch a receive queue on again that is off. buffers: as of RxQueue.fill()."""
    queue = rx.ring.ringid
    descriptors[:] = 0
    rx.ring.slots["flags"] = 0
    nic.RDH[queue].write(0)
    nic.RDT[queue].write(0)
    queues.enable_receive_queue(nic, queue)
    rx.restart()
    rx.fill(buffers)


def restart_transmit(
    nic: QueueRegisters, tx: TxQueue, descriptors: Descriptors, head_word: npt.NDArray[np.uint32]
) -> int:
    """Restart a transmit queue (4.6.8.1). Returns how many descriptors were not sent.

    What the worker has given to the NIC is sent first, if the link takes it in time.
    """
    unsent = stop_transmit(nic, tx)
    start_transmit(nic, tx, descriptors, head_word)
    return unsent


def stop_transmit(nic: QueueRegisters, tx: TxQueue, patience_s: float = SENT_S) -> int:
    """Switch a transmit queue off: the NIC reads its buffers no more. Returns how many descriptors were not sent.

    patience_s: the time in which the NIC may send what it has been given.
    """
    queue = tx.ring.ringid
    end = time.monotonic() + patience_s
    while (unsent := nic.TDT[queue].read() - nic.TDH[queue].read()) and time.monotonic() < end:
        time.sleep(100e-6)
    reset.disable_transmit_queue(nic, queue)
    return unsent % tx.num_slots


def start_transmit(
    nic: QueueRegisters, tx: TxQueue, descriptors: Descriptors, head_word: npt.NDArray[np.uint32]
) -> None:
    """Switch a transmit queue on again that is off."""
    queue = tx.ring.ringid
    descriptors[:] = 0
    head_word[0] = 0
    tx.ring.slots["flags"] = 0
    nic.TDH[queue].write(0)
    nic.TDT[queue].write(0)
    queues.enable_transmit_queue(nic, queue)
    tx.restart()


def mend_buffers(
    rings: Iterable[TxRing | RxRing], given: set[int], interfaces: Iterable[Interface], total_buffers: int
) -> None:
    """Give every slot of `rings` a buffer of its own again.

    A worker that is killed while it exchanges two buffers leaves one of them in two slots and the other in none. given:
    the buffers that were in these rings when the worker got them. interfaces: all ports of the region. Raises PortError
    if buffers are missing, because the worker kept more than one exchange would explain.
    """
    own = list(rings)
    taken: set[int] = set()
    for interface in interfaces:
        for ring in (*interface.tx_rings, *interface.rx_rings):
            if not any(ring is each for each in own):
                taken.update(ring.slots["buf_idx"].tolist())
    bad: list[tuple[TxRing | RxRing, int]] = []
    for ring in own:
        for slot, index in enumerate(ring.slots["buf_idx"].tolist()):
            if not RESERVED_BUFFERS <= index < total_buffers or index in taken:
                bad.append((ring, slot))
            taken.add(index)
    spare = sorted(given - taken)
    if len(bad) > len(spare):
        raise PortError(
            f"{own[0].name} and its other direction lack {len(bad) - len(spare)} buffers: the worker that ended had "
            "taken them out of its rings. Close the port and open it again"
        )
    for (ring, slot), index in zip(bad, spare):
        ring.slots["buf_idx"][slot] = index
