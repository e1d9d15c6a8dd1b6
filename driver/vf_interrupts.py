"""A virtual function's three vectors: receive, transmit, mailbox (82599 8.3.5.2).

VTIVAR has one bit for the vector of a queue, so vector 0 is for all receive queues and vector 1 for all transmit
queues. Vector 2 is for the mailbox; it is never masked, and its cause is cleared when its message is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NoReturn

from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import VF_VECTORS, VfRegisters

from .config import ITR_UNIT_US
from .interrupts import Interrupts

ALL_VECTORS = (1 << VF_VECTORS) - 1
MAILBOX = 1 << (VF_VECTORS - 1)


class VfInterrupts(Interrupts):
    """The vectors of a port on a virtual function. on_message: called after the PF has used the mailbox."""

    def __init__(
        self,
        device: Device,
        nic: VfRegisters,
        *,
        rx_queues: int,
        tx_queues: int,
        bound_rx: Collection[int],
        bound_tx: Collection[int],
        interval_us: float,
        on_message: Callable[[], None],
    ) -> None:
        self._nic, self._on_message = nic, on_message
        self._queues, self._interval_us = (rx_queues, tx_queues), interval_us
        super().__init__(
            device,
            rx_queues=rx_queues,
            tx_queues=tx_queues,
            bound_rx=bound_rx,
            bound_tx=bound_tx,
            interval_us=interval_us,
        )

    def restart(self) -> None:
        """Set the registers up again after a reset of the function. Vectors that were armed are armed again.

        Threads that sleep are woken by messages: a queue stays off until its own thread syncs it.
        """
        rx_queues, tx_queues = self._queues
        self._map_causes(rx_queues, tx_queues, 1, 1)
        self._moderate(VF_VECTORS, self._interval_us)
        for number, side in enumerate((self.rx, self.tx)):
            if side.armed:
                self.unmask(1 << number)
        self._nic.VTEICS.write(VECTOR=ALL_VECTORS & ~MAILBOX)

    def unmask(self, vectors: int) -> None:
        self._nic.VTEIMS.write(VECTOR=vectors & ALL_VECTORS)

    def _map_causes(self, rx_queues: int, tx_queues: int, rx_vectors: int, tx_vectors: int) -> None:
        nic = self._nic
        for register in nic.VTIVAR:
            register.write(0)
        for queue in range(rx_queues):
            self._allocate(queue, 2 * (queue % 2), 0)
        for queue in range(tx_queues):
            self._allocate(queue, 2 * (queue % 2) + 1, rx_vectors)
        nic.VTIVAR_MISC.write(INT_ALLOC=rx_vectors + tx_vectors, INT_ALLOC_VAL=1)
        nic.VTEIAC.write(VECTOR=ALL_VECTORS)
        nic.VTEIAM.write(VECTOR=ALL_VECTORS & ~MAILBOX)

    def _allocate(self, queue: int, byte: int, vector: int) -> None:
        self._nic.VTIVAR[queue // 2].update(**{f"INT_ALLOC_{byte}": vector, f"INT_ALLOC_VAL_{byte}": 1})

    def _moderate(self, count: int, interval_us: float) -> None:
        for register in self._nic.VTEITR:  # vector 2 has none
            register.write(ITR_INTERVAL=round(interval_us / ITR_UNIT_US), CNT_WDIS=1)
        self._nic.VTEIMS.write(VECTOR=MAILBOX)

    def _others_came(self) -> None:
        self._on_message()

    def _join_line(
        self, fd: int, rx_queues: int, tx_queues: int, bound_rx: Collection[int], bound_tx: Collection[int]
    ) -> NoReturn:
        raise DeviceError(
            f"{self._device.name} is a virtual function, which has {VF_VECTORS} MSI-X vectors and no interrupt line "
            "(82599 9.6). Bind it to vfio-pci"
        )
