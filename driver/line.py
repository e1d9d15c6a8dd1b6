"""INTx: one line for every cause, where there is no MSI-X (82599 7.3.1.1). UIO has only this.

IVAR maps queues to bits of EICR: bit 0 for all receive queues, bit 1 for all transmit queues. Reading EICR returns the
causes and clears them. As with MSI-X, an interrupt masks its side until the side is armed again; here the driver does
the masking. If a cause comes while its side is masked, the read of EICR loses it. So the caller looks at its rings
after arming, as with MSI-X.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Mapping, Sequence

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers

from .wakeups import Vector, Wakeups

RX, TX, OTHER = 1, 2, 4
OTHER_CAUSES = 0x7FFF_0000


class Line:
    """The line, and an eventfd for each kind of cause. Safe for two threads, each arming its own side."""

    def __init__(self, device: Device, nic: Registers, fd: int) -> None:
        self.fd = fd
        self._device, self._nic = device, nic
        self._lock = threading.Lock()
        self._enabled = 0
        self._raised = select.poll()
        self._raised.register(fd, select.POLLIN)
        self._eventfds: list[int] = []
        try:
            for _ in range(3):
                self._eventfds.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        except OSError:
            self.close()
            raise
        self.rx, self.tx, self.other = self._eventfds

    def map_causes(self, rx_queues: int, tx_queues: int) -> None:
        """Map queues to bits of EICR (8.2.3.5.16, 8.2.3.5.18), without MSI-X and without automatic masking."""
        nic = self._nic
        for register in nic.IVAR:
            register.write(0)
        for queue in range(rx_queues):
            self._allocate(queue, 2 * (queue % 2), 0)
        for queue in range(tx_queues):
            self._allocate(queue, 2 * (queue % 2) + 1, 1)
        # ASSUMPTION (datasheet silent): this has no effect, because the other causes have EICR bits of their own.
        nic.IVAR_MISC.write(INT_ALLOC_1=2, INT_ALLOC_VAL_1=1)
        nic.GPIE.write(0)
        nic.EIAC.write(0)
        nic.EIAM.write(0)

    def _allocate(self, queue: int, byte: int, cause: int) -> None:
        self._nic.IVAR[queue // 2].update(**{f"INT_ALLOC_{byte}": cause, f"INT_ALLOC_VAL_{byte}": 1})

    def enable(self, bits: int) -> None:
        """Unmask these causes."""
        with self._lock:
            self._enabled |= bits
            self._nic.EIMS.write(bits)

    def distribute(self) -> None:
        """If the line was raised: read the causes, mask them, write their eventfds, and re-enable the line."""
        with self._lock:
            if not self._raised.poll(0):
                return
            try:
                causes = self._nic.EICR.read()
                came = causes & self._enabled
                if came:
                    self._nic.EIMC.write(came)
                    self._enabled &= ~came
                for bit, eventfd in ((RX, self.rx), (TX, self.tx)):
                    if came & bit:
                        os.eventfd_write(eventfd, 1)
                if causes & OTHER_CAUSES:
                    os.eventfd_write(self.other, 1)
            finally:
                self._device.rearm_line()

    def close(self) -> None:
        """Close the eventfds. May be called again."""
        while self._eventfds:
            os.close(self._eventfds.pop())


class LineWakeups(Wakeups):
    """The wake-ups of one side of the line."""

    def __init__(self, line: Line, vectors: Sequence[Vector], others: Mapping[int, int]) -> None:
        super().__init__(vectors, others)
        self._line = line
        self._epoll.register(line.fd, select.EPOLLIN)  # the side that wakes first reads the causes for both

    def unmask(self, vectors: int) -> None:
        self._line.enable(vectors)

    def drain(self) -> int:
        self._line.distribute()
        return super().drain()
