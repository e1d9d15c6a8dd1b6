"""Bring a device up as a working NIC with rings, and stop it again (82599 4.6.3; driver/README.md, contract 4).

Every step that acquires something puts its undoing on an ExitStack. A start that fails half-way, an exception and an
ordinary close therefore end the same way: interrupts off, queues off, master disable, reset; then memory is released.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ixrings.hw.device import Device, DmaMemory
from ixrings.hw.errors import DeviceError, DeviceGone, DmaError
from ixrings.hw.memory.hugepages import make_memfd
from ixrings.hw.registers import Registers
from ixrings.rings import Interface, Region, RxRing, TxRing
from ixrings.rings.hotloop import PageTable, RxQueue, TxQueue
from ixrings.rings.memory import Memory

from . import filters, link, queues, reset, rss
from .clock import Clock
from .config import BUFFER, PAGED_BUFFER, RSS_KEY, OnePortOptions, drop_en, frame_size
from .errors import DmaRefused, NothingReceived, PortBusy, PortError
from .flow_director import Director
from .gate import Gate
from .interrupts import Interrupts
from .queue_set import OneQueue, QueueSet
from .standstill import Standstill, missing_write_back
from .statistics import PAIR_BITS, Statistics

HINT_S = 1.0
# Bytes between head write-back words: a cache line and its neighbour, which prefetchers fetch with it.
HEAD_STRIDE = 128


@dataclass(frozen=True)
class Bound:
    """The NIC's queues that this port has rings for (`-k`, /R, /T)."""

    tx: Collection[int]
    rx: Collection[int]


@dataclass(frozen=True)
class Joined:
    """Rings joined to queues, and the IOVA of each descriptor ring and each head write-back word."""

    tx: tuple[TxQueue, ...]
    rx: tuple[RxQueue, ...]
    tx_iova: tuple[int, ...]
    rx_iova: tuple[int, ...]
    head_iova: tuple[int, ...]
    memory: tuple[DmaMemory, ...]
    seen_at: int | PageTable  # the region's byte 0, or its pages, as the NIC sees them


class Session(QueueSet):
    """Everything an open port consists of."""

    def __init__(
        self,
        device: Device,
        nic: Registers,
        options: OnePortOptions,
        region: Region,
        interface: Interface,
        joined: Joined,
        interrupts: Interrupts,
        statistics: Statistics,
        director: Director | None,
        *,
        refused_before: bool,
    ) -> None:
        """refused_before: an earlier user's DMA was refused, and no function reset followed."""
        super().__init__(
            interface.name,
            interface.name,
            joined.tx,
            joined.rx,
            interface.buffers,
            device,
            Gate(interface.name),
            busy_poll=options["busy_poll"],
            interval_s=options["interrupt_interval_us"] / 1e6,
        )
        self.device, self.nic, self.options = device, nic, options
        self.region, self.interface, self.memory = region, interface, joined.memory
        self.joined = joined
        self.lent: frozenset[int] = frozenset()  # queues that other processes have (share.py)
        self.statistics, self.director = statistics, director
        self.clock: Clock | None = None
        self.hint_due_at = 0.0
        self._interrupts = interrupts
        self._refused_before = refused_before
        self._ones: dict[int, OneQueue] = {}
        # No 36-bit octet counter can overflow before that many packets (8.2.3.23).
        self._packets_due = (1 << PAIR_BITS) // (2 * frame_size(self.options) * max(1, len(self.tx) + len(self.rx)))
        self._set_due()
        self._standstill = Standstill(device, nic, (*self.tx, *self.rx))

    @property
    def interrupts(self) -> Interrupts:
        return self._interrupts

    def queue(self, index: int) -> OneQueue:
        """The set of one queue, the same each time. The caller has entered the gate."""
        one = self._ones.get(index)
        # setdefault: two threads may ask for a queue at once
        return one if one is not None else self._ones.setdefault(index, OneQueue(self, index))

    def check_selectable(self) -> None:
        for one in list(self._ones.values()):
            if one.selectable:
                raise PortError(
                    f"fileno() of {one.name} is in use, and takes messages of the port. Use fileno() of each queue, or "
                    "only the port's"
                )

    def lend(self, indices: Collection[int]) -> None:
        """Leave these queues to other processes, and use all others: no sync and no wait touches a queue that is lent.

        The caller has ended all other uses of a queue before it is lent.
        """
        self.lent = frozenset(indices)
        self.set_queues(
            [queue for queue in self.joined.tx if queue.ring.ringid not in self.lent],
            [queue for queue in self.joined.rx if queue.ring.ringid not in self.lent],
        )
        self._set_due()
        self._standstill = Standstill(self.device, self.nic, (*self.tx, *self.rx))
        for index in self.lent:
            self._ones.pop(index, None)
        for queue in (*self.joined.tx, *self.joined.rx):
            queue.end_forwards()

    def head_offset(self, tx: TxQueue) -> int:
        """Bytes from the start of memory block 0 to the word that the NIC writes a transmit queue's head to."""
        return HEAD_STRIDE * self.joined.tx.index(tx)

    def head_word(self, tx: TxQueue) -> npt.NDArray[np.uint32]:
        """That word, shape (1,)."""
        start = self.head_offset(tx)
        return self.memory[0].view[start : start + 4].view(np.uint32)

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
        self.nic.check_present("the port")
        if not self._refused_before and self.device.dma_refused():
            raise DmaRefused(
                f"{self.device.name} was refused a DMA access, and one of its queues has stopped: a descriptor or a "
                "buffer index pointed outside the port's memory. To see the address: sudo dmesg | grep DMAR. Close the "
                "port and open it again"
            )
        if time.monotonic() >= self.statistics.due_at:
            self.accumulate()

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
        self.interface.leave(sentence)
        for queue in (*self.tx, *self.rx):
            queue.close(sentence)

    def descriptors(self, ring: TxRing | RxRing) -> npt.NDArray[np.uint64]:
        """The descriptors of a ring of this port, shape (num_slots, 2): the two halves of each."""
        index = next(index for index, queue in enumerate((*self.joined.tx, *self.joined.rx)) if queue.ring is ring)
        block = self.memory[1 + index]  # block 0 holds the head write-back words
        return block.view[: queues.DESCRIPTOR_SIZE * ring.num_slots].view("<u8").reshape(-1, 2)

    def why_unsent(self, queues: Sequence[TxQueue] | None = None) -> str:
        state = link.read_link(self.device, self.nic)
        if not state.up:
            return f"the link is {state}"
        unwritten = missing_write_back(self.nic, self.tx if queues is None else queues)
        return unwritten or "the link is up, but the wire does not take them fast enough"


def region_memory(hugepages: bool | None) -> Memory:
    """The `memory` argument of Region, for memory on 2 MiB pages.

    hugepages: True takes them or raises DmaError, None takes them if enough are free, False never.
    """

    def make(size: int) -> tuple[int, int] | None:
        if hugepages is False:
            return None
        try:
            return make_memfd("netmap-region", size, True)
        except DmaError:
            if hugepages:
                raise
            return None

    return make


def bring_up(undo: ExitStack, device: Device, name: str, options: OnePortOptions, bound: Bound) -> Session:
    """Carry out 4.6.3 in its order, up to reception. The link may still be training at the end.

    Raises DeviceError, RegionError, PortBusy; `undo` then undoes everything that was acquired.
    """
    claim(undo, device, name)
    region = options["region"]
    if region is None:
        region = undo.enter_context(
            Region.for_ports(
                tx_rings=options["tx_queues"],
                rx_rings=options["rx_queues"],
                tx_slots=options["tx_slots"],
                rx_slots=options["rx_slots"],
                buf_size=buffer_size(device, options),
                extra_bufs=options["extra_bufs"],
                memory=region_memory(device.hugepages),
            )
        )
    elif options["buf_size"] not in (None, region.buf_size):
        raise ValueError(
            f"the region's buffers have {region.buf_size} bytes. Open the port with buf_size={region.buf_size}"
        )
    interface = region.register(
        name,
        tx_slots=[options["tx_slots"]] * options["tx_queues"],
        rx_slots=[options["rx_slots"]] * options["rx_queues"],
        bound_tx=bound.tx,
        bound_rx=bound.rx,
        extra_bufs=options["extra_bufs"],
    )
    undo.callback(interface.close)

    nic = Registers(device)
    device.enable_bus_master(False)
    nic.check_present(name)
    reset.quiesce(device, nic, link=not nic.LINKS.read().LINK_UP)  # an earlier user may have left it running
    reset.wait_eeprom_auto_read(nic)
    reset.check_eeprom(nic)
    reset.wait_dma_init(nic)

    joined = map_memory(undo, device, interface, region)
    stopping = Stopping(device, nic)
    undo.callback(stopping)  # twice: Ctrl-C between two steps of an ExitStack drops the next callback
    undo.callback(stopping)
    refused_before = device.dma_refused()
    device.enable_bus_master(True)
    link.setup_link(nic, options["loopback"])
    statistics = Statistics(nic, options["rx_queues"], options["tx_queues"], drops=options["flow_director"] is not None)
    director = Director(nic, options["flow_director"]) if options["flow_director"] else None
    set_up(nic, options, joined, region.buf_size)
    device.ring_doorbells()
    interrupts = Interrupts(
        device,
        nic,
        rx_queues=options["rx_queues"],
        tx_queues=options["tx_queues"],
        bound_rx=bound.rx,
        bound_tx=bound.tx,
        interval_us=options["interrupt_interval_us"],
    )
    undo.callback(interrupts.close)
    if joined.rx:
        queues.enable_receive(nic)
    nic.CTRL_EXT.update(DRV_LOAD=1)
    session = Session(
        device,
        nic,
        options,
        region,
        interface,
        joined,
        interrupts,
        statistics,
        director,
        refused_before=refused_before,
    )
    undo.callback(session.close_gate)
    return session


def buffer_size(device: Device, options: OnePortOptions) -> int:
    """Bytes of a buffer, if the port has a region of its own."""
    if options["buf_size"] is not None:
        return options["buf_size"]
    return PAGED_BUFFER if device.scattered else BUFFER


def claim(undo: ExitStack, device: Device, name: str) -> None:
    """Make `name` the only port of the device, until `undo` runs. Raises PortBusy."""
    if device.owner:
        raise PortBusy(f"{device.name} is already open as port {device.owner}; close that port first, or use it")
    device.owner = name
    undo.callback(setattr, device, "owner", "")


def map_memory(undo: ExitStack, device: Device, interface: Interface, region: Region) -> Joined:
    """Map the region for the device, and allocate descriptor rings outside it (driver/README.md, contract 1)."""
    mapping = device.map_dma(region.fd, region.address, region.size)
    undo.callback(device.unmap_dma, mapping)
    seen_at = PageTable(mapping.pages, mapping.page_size) if mapping.pages else mapping.iova
    memory: list[DmaMemory] = []

    def allocate(size: int) -> DmaMemory:
        memory.append(device.alloc_dma(size))
        undo.callback(memory[-1].release)
        return memory[-1]

    heads = allocate(HEAD_STRIDE * max(1, len(interface.tx_rings)))
    tx_rings = [allocate(ring.num_slots * queues.DESCRIPTOR_SIZE) for ring in interface.tx_rings]
    rx_rings = [allocate(ring.num_slots * queues.DESCRIPTOR_SIZE) for ring in interface.rx_rings]
    tx = tuple(
        TxQueue(
            ring,
            region,
            region_iova=seen_at,
            descriptors=descriptors.address,
            doorbell=device.doorbell(Registers.TDT.offset(ring.ringid)),
            head_writeback=heads.address + i * HEAD_STRIDE,
        )
        for i, (ring, descriptors) in enumerate(zip(interface.tx_rings, tx_rings))
    )
    rx = tuple(
        RxQueue(
            ring,
            region,
            region_iova=seen_at,
            descriptors=descriptors.address,
            doorbell=device.doorbell(Registers.RDT.offset(ring.ringid)),
        )
        for ring, descriptors in zip(interface.rx_rings, rx_rings)
    )
    for queue in (*tx, *rx):
        undo.callback(queue.close, f"port {interface.name} is closed; open it again")
    return Joined(
        tx,
        rx,
        tuple(each.iova for each in tx_rings),
        tuple(each.iova for each in rx_rings),
        tuple(heads.iova + i * HEAD_STRIDE for i in range(len(tx))),
        tuple(memory),
        seen_at,
    )


def set_up(nic: Registers, options: OnePortOptions, joined: Joined, buf_size: int) -> None:
    """Set up filters and queues. Reception itself starts later, by enable_receive()."""
    queues.init_receive(nic, options)
    if options["mac"] is not None:
        filters.write_mac(nic, options["mac"])
    filters.write_multicast(nic, ())
    filters.set_promiscuous(nic, everything=options["promiscuous"], all_multicast=False)
    rss.init_rss(nic, options["rx_queues"], options["rss_key"] or RSS_KEY)
    for rx, iova in zip(joined.rx, joined.rx_iova):
        queues.setup_receive_queue(nic, rx.ring.ringid, iova, rx.num_slots, buf_size, drop_en(options))
        queues.enable_receive_queue(nic, rx.ring.ringid)
        rx.fill()
    queues.init_transmit(nic, options)
    for tx, iova, head in zip(joined.tx, joined.tx_iova, joined.head_iova):
        queues.setup_transmit_queue(nic, tx.ring.ringid, iova, tx.num_slots, head)
    queues.enable_transmit(nic)
    for tx in joined.tx:
        queues.enable_transmit_queue(nic, tx.ring.ringid)


class Stopping:
    """Calls stop() until one call has completed."""

    def __init__(self, device: Device, nic: Registers) -> None:
        self._device, self._nic, self._done = device, nic, False

    def __call__(self) -> None:
        if not self._done:
            stop(self._device, self._nic)
            self._done = True


def stop(device: Device, nic: Registers) -> None:
    """Stop all DMA and interrupts, even if a step fails. Memory may be unmapped only afterwards."""
    try:
        reset.quiesce(device, nic)
        nic.CTRL_EXT.update(DRV_LOAD=0)  # returns the NIC to the firmware (8.2.3.1.3)
    except DeviceGone:
        return  # a device that is gone does no DMA
    except BaseException:  # a bit that did not change, Ctrl-C: a function reset ends all DMA too
        device.reset()
        raise
    finally:
        try:
            device.enable_bus_master(False)
        except DeviceError:  # it is gone by now
            pass
