"""MSI-X: which cause raises which vector, and how a thread sleeps until one does (82599 7.3, 8.2.3.5).

Receive queues have the first vectors, transmit queues the next ones, all other causes (link) the last one. A NIC has 64
vectors. If there are more queues, the queues of a direction share its vectors: queue k uses vector k modulo their
number. A receive queue and a transmit queue never share a vector, because two threads may wait for them.

A message clears its cause (EIAC; from vector 16 on the hardware always does) and masks its vector (EIAM, GPIE.EIAME),
so it comes once until the vector is armed again. A cause that is set while its vector is masked stays set, and its
message is sent as soon as the vector is armed. So no wake-up is lost between the look at a ring and the sleep.

Interrupts has the vectors; NicInterrupts has the registers of the whole NIC. A virtual function's are in
vf_interrupts.py. For a device with one interrupt line, see driver/line.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence

from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers

from .config import ITR_UNIT_US
from .errors import PortError
from .line import OTHER, OTHER_CAUSES, RX, TX, Line, LineWakeups
from .wakeups import Sides, Vector, VectorWakeups

ALL = 0xFFFF_FFFF
AUTO_CLEAR = 0xFFFF
LEAST_VECTORS = 3


def share_vectors(rx_queues: int, tx_queues: int, vectors: int) -> tuple[int, int]:
    """How many of `vectors` the receive queues get, and how many the transmit queues; the last one is the link's.

    If both need half or more, each gets half. Otherwise one side gets what the other does not need. vectors 0: the
    device has only a line, and each queue counts as a vector.
    """
    left = vectors - 1 if vectors else rx_queues + tx_queues
    tx_vectors = min(tx_queues, max(left // 2, left - rx_queues))
    return min(rx_queues, left - tx_vectors), tx_vectors


class Interrupts(Sides, ABC):
    """The port's vectors. A subclass has the registers."""

    def __init__(
        self,
        device: Device,
        *,
        rx_queues: int,
        tx_queues: int,
        bound_rx: Collection[int],
        bound_tx: Collection[int],
        interval_us: float,
    ) -> None:
        if 0 < device.max_vectors < LEAST_VECTORS:
            raise DeviceError(
                f"{device.name} has {device.max_vectors} interrupt vectors; a port needs {LEAST_VECTORS}: one to "
                "receive, one to send, one for its link"
            )
        super().__init__()
        rx_vectors, tx_vectors = share_vectors(rx_queues, tx_queues, device.max_vectors)
        count = rx_vectors + tx_vectors + 1
        self._device = device
        self._shared = rx_queues > rx_vectors or tx_queues > tx_vectors
        self._other = 1 << (count - 1)
        self._rx_vectors: dict[int, Vector] = {}  # by queue
        self._tx_vectors: dict[int, Vector] = {}
        self._of_queues: dict[int, Sides] = {}
        self._closing: list[Callable[[], None]] = [super().close, device.disable_interrupts]
        try:
            fds = device.enable_interrupts(count)
            if len(fds) == count:
                self._join_vectors(fds, rx_vectors, tx_vectors, bound_rx, bound_tx)
                self._map_causes(rx_queues, tx_queues, rx_vectors, tx_vectors)
            else:
                self._join_line(fds[0], rx_queues, tx_queues, bound_rx, bound_tx)
                count = 1
            self._moderate(count, interval_us)
        except BaseException:
            self.close()
            raise

    def _join_vectors(
        self, fds: Sequence[int], rx_vectors: int, tx_vectors: int, bound_rx: Collection[int], bound_tx: Collection[int]
    ) -> None:
        vectors = [Vector(fd, 1 << number) for number, fd in enumerate(fds)]
        self._rx_vectors = {queue: vectors[queue % rx_vectors] for queue in bound_rx}
        self._tx_vectors = {queue: vectors[rx_vectors + queue % tx_vectors] for queue in bound_tx}
        rx = once(self._rx_vectors.values())
        others = {fds[-1]: self._other, **self.nudged_by(rx)}
        tx = once(self._tx_vectors.values())
        self.join(VectorWakeups(self.unmask, rx, others), VectorWakeups(self.unmask, tx, {}))

    def use(self, rx_queues: Collection[int], tx_queues: Collection[int]) -> None:
        """Let only these queues end the port's waits. With one line, every queue does."""
        if self._rx_vectors or self._tx_vectors:
            self.rx.use(once(vector for queue, vector in self._rx_vectors.items() if queue in rx_queues))
            self.tx.use(once(vector for queue, vector in self._tx_vectors.items() if queue in tx_queues))

    def of_queue(self, queue: int) -> Sides:
        """The vectors of one queue, the same object each time. Raises PortError if it has none of its own.

        They are open as long as the port. The link's vector stays the port's.
        """
        if queue in self._of_queues:
            return self._of_queues[queue]
        if not self._rx_vectors and not self._tx_vectors:
            why = "has one interrupt line for all queues"
        elif self._shared:
            why = f"has {self._device.max_vectors} interrupt vectors, so queues of this port share them"
        else:
            rx = [vector for vector in [self._rx_vectors.get(queue)] if vector]
            tx = [vector for vector in [self._tx_vectors.get(queue)] if vector]
            sides = Sides()
            self._closing.append(sides.close)
            sides.join(VectorWakeups(self.unmask, rx, sides.nudged_by(rx)), VectorWakeups(self.unmask, tx, {}))
            self._of_queues[queue] = sides  # a queue that was shared meanwhile gets them again
            return sides
        raise PortError(
            f"{self._device.name} {why}, and queue {queue} cannot sleep alone. Wait with poll(busy=True), or for the "
            "whole port, or open the port with fewer queues"
        )

    # ---- the registers of a PF or a VF ----

    @abstractmethod
    def unmask(self, vectors: int) -> None:
        """Let the hardware send messages for these vectors."""

    @abstractmethod
    def _map_causes(self, rx_queues: int, tx_queues: int, rx_vectors: int, tx_vectors: int) -> None:
        """Map causes to vectors; the last vector is for all causes that are not a queue's."""

    @abstractmethod
    def _moderate(self, count: int, interval_us: float) -> None:
        """Set the least time between two messages of each of `count` vectors, and let the other causes interrupt."""

    @abstractmethod
    def _others_came(self) -> None:
        """The message of the other causes was taken: let the next one come."""

    @abstractmethod
    def _join_line(
        self, fd: int, rx_queues: int, tx_queues: int, bound_rx: Collection[int], bound_tx: Collection[int]
    ) -> None:
        """Use a device that has one interrupt line."""

    def drain_receive(self) -> int:
        """rx.drain(); after it, the NIC may report a link change again."""
        came = self.rx.drain()
        if came & self._other:
            self._others_came()
        return came

    def close(self) -> None:
        """Switch the vectors off and close the descriptors. May be called again.

        The caller masks the causes in the NIC (disable_interrupts).
        """
        while self._closing:
            self._closing[-1]()
            self._closing.pop()


class NicInterrupts(Interrupts):
    """The vectors, or the line, of a port on the whole NIC."""

    def __init__(
        self,
        device: Device,
        nic: Registers,
        *,
        rx_queues: int,
        tx_queues: int,
        bound_rx: Collection[int],
        bound_tx: Collection[int],
        interval_us: float,
    ) -> None:
        self._nic = nic
        super().__init__(
            device,
            rx_queues=rx_queues,
            tx_queues=tx_queues,
            bound_rx=bound_rx,
            bound_tx=bound_tx,
            interval_us=interval_us,
        )

    def unmask(self, vectors: int) -> None:
        if vectors & ALL:
            self._nic.EIMS_EX[0].write(vectors & ALL)
        if vectors >> 32:
            self._nic.EIMS_EX[1].write(vectors >> 32)

    def _others_came(self) -> None:
        self._nic.EICR.write(OTHER_CAUSES)  # not cleared automatically; writing ones clears (8.2.3.5.1)

    def _join_line(
        self, fd: int, rx_queues: int, tx_queues: int, bound_rx: Collection[int], bound_tx: Collection[int]
    ) -> None:
        line = Line(self._device, self._nic, fd)
        self._closing.append(line.close)
        line.map_causes(rx_queues, tx_queues)
        self._other = OTHER
        rx = [Vector(line.rx, RX)] if bound_rx else []
        tx = [Vector(line.tx, TX)] if bound_tx else []
        self.join(
            LineWakeups(line, rx, {line.other: OTHER, **self.nudged_by([Vector(line.rx, RX)])}),
            LineWakeups(line, tx, {}),
        )

    def _map_causes(self, rx_queues: int, tx_queues: int, rx_vectors: int, tx_vectors: int) -> None:
        """Map causes to vectors (8.2.3.5.16). An IVAR register has a byte for RX and one for TX of two queues."""
        nic = self._nic
        for register in nic.IVAR:
            register.write(0)
        for queue in range(rx_queues):
            self._allocate(queue, 2 * (queue % 2), queue % rx_vectors)
        for queue in range(tx_queues):
            self._allocate(queue, 2 * (queue % 2) + 1, rx_vectors + queue % tx_vectors)
        nic.IVAR_MISC.write(INT_ALLOC_1=rx_vectors + tx_vectors, INT_ALLOC_VAL_1=1)
        nic.GPIE.update(MSIX_MODE=1, OCD=1, EIAME=1, PBA_SUPPORT=1)
        nic.EIAC.write(AUTO_CLEAR)
        for masks in nic.EIAM_EX:
            masks.write(ALL)

    def _allocate(self, queue: int, byte: int, vector: int) -> None:
        self._nic.IVAR[queue // 2].update(**{f"INT_ALLOC_{byte}": vector, f"INT_ALLOC_VAL_{byte}": 1})

    def _moderate(self, count: int, interval_us: float) -> None:
        """Set the least time between two messages of a vector (8.2.3.5.12)."""
        interval = round(interval_us / ITR_UNIT_US)
        for vector in range(count):
            self._nic.EITR[vector].write(ITR_INTERVAL=interval, CNT_WDIS=1)
        self._nic.EIMS.write(LSC=1)


def once(vectors: Iterable[Vector]) -> list[Vector]:
    """Each vector once: several queues may share it."""
    return list({vector.bit: vector for vector in vectors}.values())
