"""What an open port consists of, and what one of its queues has for itself."""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ixrings.hw.registers import Registers
from ixrings.rings import Interface, Region, RxRing, TxRing
from ixrings.rings.queue import RxQueue, TxQueue

from .config import OnePortOptions, frame_size
from .errors import DmaRefused, NothingReceived, NotOffered, PortError
from .frames import VLAN_TAG
from .function import Function, Joined
from .gate import Gate
from .hosting import HostingFunction
from .interrupts import Interrupts
from .physical_function import PhysicalFunction
from .queue_set import NicQueues, PortSet
from .standstill import Standstill, missing_write_back
from .statistics import PAIR_BITS
from .virtual_function import VirtualFunction
from .wakeups import Sides
from .window import Window, layout

HINT_S = 1.0
CRC = 4


class Session(NicQueues, PortSet):
    """Everything an open port consists of."""

    def __init__(
        self,
        function: Function,
        options: OnePortOptions,
        region: Region,
        interface: Interface,
        joined: Joined,
        interrupts: Interrupts,
        window: Window,
        *,
        refused_before: bool,
    ) -> None:
        """window: what other processes see of the port; it has the memory of the queues.

        refused_before: an earlier user's DMA was refused, and no function reset followed.
        """
        super().__init__(
            interface.name,
            interface.name,
            joined.tx,
            joined.rx,
            interface,
            function.device,
            Gate(interface.name),
            busy_poll=options["busy_poll"],
            interval_s=options["interrupt_interval_us"] / 1e6,
        )
        self.function, self.device, self.options = function, function.device, options
        self.region: Region = region
        self.joined, self.memory, self.seen_at = joined, joined.memory, joined.seen_at
        self.longest = frame_size(options) - CRC + VLAN_TAG
        self.all_queues: tuple[TxQueue | RxQueue, ...] = (*joined.tx, *joined.rx)  # those of other processes, too
        self.statistics = function.statistics
        for tx in joined.tx:
            tx.ring.limiter = function.rates
        self.hint_due_at = 0.0
        self._interrupts = interrupts
        self._refused_before = refused_before
        self._ones: dict[int, OneQueue] = {}
        self.making = threading.RLock()  # several threads may ask for queues and their vectors at once
        # No 36-bit octet counter can overflow before that many packets (8.2.3.23).
        self._packets_due = (1 << PAIR_BITS) // (2 * frame_size(self.options) * max(1, len(self.tx) + len(self.rx)))
        self._set_due()
        self._standstill = Standstill(function, (*self.tx, *self.rx))
        self._window = window
        window.show(self._facts())

    @property
    def interrupts(self) -> Interrupts:
        return self._interrupts

    def pf(self, what: str) -> PhysicalFunction:
        """The physical function that the port has. what: the caller, such as "rss". Raises NotOffered for a VF."""
        if isinstance(self.function, PhysicalFunction):
            self.function.check_offered(what)
            return self.function
        raise NotOffered(f"{self.port} is {self.function.refusal(what)}")

    @property
    def vf(self) -> VirtualFunction:
        """The virtual function that the port has. Raises NotOffered for a physical one."""
        if isinstance(self.function, VirtualFunction):
            return self.function
        raise NotOffered(f"{self.port} is {self.function.refusal('vf')}")

    @property
    def hosting(self) -> HostingFunction:
        """The physical function with its virtual ones. Raises NotOffered for a port without any."""
        if isinstance(self.function, HostingFunction):
            return self.function
        raise NotOffered(f"{self.port} is {self.function.refusal('vfs')}")

    @property
    def nic(self) -> Registers:
        return self.pf("nic").nic

    def numbers(self) -> set[int]:
        return {queue.ring.ringid for queue in self.all_queues}

    def more_queues(self, index: int) -> str:
        if index <= max(self.numbers(), default=-1):
            return ""
        return f". Open it with open_port(..., rx_queues={index + 1}, tx_queues={index + 1})"

    def queue(self, index: int) -> OneQueue:
        """The set of one queue, the same each time. The caller holds `making`."""
        if index not in self._ones:
            self._ones[index] = OneQueue(self, index)
        return self._ones[index]

    def check_selectable(self) -> None:
        for one in list(self._ones.values()):
            if one.selectable:
                raise PortError(
                    f"fileno() of {one.name} is in use, and takes messages of the port. Use fileno() of each queue, or "
                    "only the port's"
                )

    def leave_to_workers(self, indices: Collection[int]) -> None:
        """Share these queues, and use all others: no sync and no wait of the port touches a shared queue.

        The caller has ended all other uses of a queue before it is shared.
        """
        self.shared = frozenset(indices)
        own = [queue for queue in self.all_queues if queue.ring.ringid not in self.shared]
        self.set_queues(
            [queue for queue in own if isinstance(queue, TxQueue)],
            [queue for queue in own if isinstance(queue, RxQueue)],
        )
        self.interrupts.use({queue.ring.ringid for queue in self.rx}, {queue.ring.ringid for queue in self.tx})
        self._set_due()
        self._standstill = Standstill(self.function, (*self.tx, *self.rx))
        for index in self.shared:
            self._ones.pop(index, None)
        for queue in self.all_queues:
            queue.end_forwards()

    def close_gate(self) -> None:
        """End the waits of other threads, let nobody in any more, and wait until all have left."""
        self.gate.close(self._wake)

    def _wake(self) -> None:
        """Sleeps that wait only for room end within a second by themselves."""
        self.interrupts.nudge()
        for one in list(self._ones.values()):
            one.wake()

    def accumulate(self) -> None:
        """Read the NIC's counters. Raises DeviceGone."""
        self.statistics.accumulate()
        self._set_due()

    def look_after(self) -> None:
        """Do what a sync asks for by returning True: read the counters when due, check the device.

        Raises DeviceGone, DmaRefused. Several threads may call it at once, each after the sync of its queue.
        """
        with self.gate:
            if any(queue.packets >= queue.statistics_due for queue in (*self.tx, *self.rx)):
                self.accumulate()
            self.check()

    def check(self) -> None:
        """Check that the device is present and reaches its memory; read its counters when due.

        Raises DeviceGone, DmaRefused.
        """
        self.function.check_present()
        self.function.check()
        if not self._refused_before and self.device.dma_refused():
            raise DmaRefused(
                f"{self.device.name} was refused a DMA access, and one of its queues has stopped: a descriptor or a "
                "buffer index pointed outside the port's memory. To see the address: sudo dmesg | grep DMAR. Close the "
                "port and open it again"
            )
        now = time.monotonic()
        if now >= self.statistics.due_at:
            self.accumulate()
        if self._window.watched(now):
            self._show()

    def _show(self) -> None:
        """Show a watcher (`ixrings top`) the NIC's counters, link and address. Raises DeviceGone."""
        self.accumulate()
        link = self.function.glance()
        self._window.show(
            {
                **self._facts(),
                "mac": self.function.mac().hex(":"),
                "link": str(link),
                "speed_mbps": link.speed_mbps,
                "shared": sorted(self.shared),
                "stats": asdict(self.statistics.totals()),
            }
        )

    def _facts(self) -> dict[str, object]:
        """What does not change. rings: where each ring is in the region, and its queue in the window."""
        places = [
            *(("tx", queue.ring, self._window.tx_at(i)) for i, queue in enumerate(self.joined.tx)),
            *(("rx", queue.ring, self._window.rx_at(i)) for i, queue in enumerate(self.joined.rx)),
        ]
        return {
            "pid": os.getpid(),
            "name": self.interface.name,
            "device": self.device.name,
            "region": os.fstat(self.region.fd).st_ino,
            "layout": layout(),
            "rings": [
                {"side": side, "queue": ring.ringid, "ring_at": ring.offset, "slots": ring.num_slots, "at": at}
                for side, ring, at in places
            ],
        }

    def look_for_standstill(self) -> None:
        """After a wait that found nothing. Raises PortStuck if frames move only after the port is opened again."""
        self._standstill.look()

    def warn_of_losses(self, name: str) -> None:
        """Warn the caller of recv(), once a port, if frames came and none was received. Raises DeviceGone.

        It reads the counters at most once a second. A port that only listens is not told of frames that its filters
        refuse: every network has some.
        """
        now = time.monotonic()
        if now < self.hint_due_at or any(queue.packets for queue in self.rx):
            return
        self.hint_due_at = now + HINT_S
        self.accumulate()
        totals = self.statistics.totals()
        if totals.losses and (totals["GPTC"] or not totals.refused):
            self.hint_due_at = math.inf
            warnings.warn(f"{name} received nothing: {'; '.join(totals.losses)}", NothingReceived, stacklevel=4)

    def _set_due(self) -> None:
        for queue in (*self.tx, *self.rx):
            queue.statistics_due = queue.packets + self._packets_due

    def leave(self, sentence: str) -> None:
        """In a forked child: refuse every use of what belongs to the parent, with this sentence (forked.py)."""
        self.device.leave()
        self._window.leave()
        self.interface.leave(sentence)
        for queue in self.all_queues:
            queue.leave(sentence)

    def descriptors(self, ring: TxRing | RxRing) -> npt.NDArray[np.uint64]:
        """The descriptors of a ring of this port, shape (num_slots, 2): the two halves of each."""
        return self.joined.descriptors(ring)

    def why_unsent(self, queues: Sequence[TxQueue] | None = None) -> str:
        state = self.function.link()
        if not state.up:
            return f"the link is {state}"
        unwritten = missing_write_back(self.function.queues, self.tx if queues is None else queues)
        return unwritten or "the link is up, but the wire does not take them fast enough"


class OneQueue(NicQueues):
    """Queue `index` of an open port. Its wake-ups, its standstill and `selectable` are its own: no lock is needed."""

    def __init__(self, session: Session, index: int) -> None:
        super().__init__(
            f"queue {index} of {session.port}",
            session.port,
            [queue for queue in session.tx if queue.ring.ringid == index],
            [queue for queue in session.rx if queue.ring.ringid == index],
            session.interface,
            session.bell,
            session.gate,
            busy_poll=session.busy_poll,
            interval_s=session.interval_s,
        )
        self._session, self._index = session, index
        self._standstill = Standstill(session.function, (*self.tx, *self.rx))

    @cached_property
    def _interrupts(self) -> Sides:
        return self._session.interrupts.of_queue(self._index)

    @property
    def interrupts(self) -> Sides:
        with self._session.making:
            return self._interrupts

    def wake(self) -> None:
        """End a sleep that waits for frames."""
        sides = self.__dict__.get("_interrupts")
        if sides is not None:
            sides.nudge()

    def look_after(self) -> None:
        self._session.look_after()

    def check(self) -> None:
        self._session.check()

    def look_for_standstill(self) -> None:
        self._standstill.look()

    def why_unsent(self) -> str:
        return self._session.why_unsent(self.tx)

    def descriptors(self, ring: TxRing | RxRing) -> npt.NDArray[np.uint64]:
        return self._session.descriptors(ring)

    def check_selectable(self) -> None:
        if self._session.selectable:
            raise PortError(
                f"fileno() of the port {self.port} is in use, and takes the messages of {self.name}. Use fileno() of "
                "each queue, or only the port's"
            )
