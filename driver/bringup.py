"""Bring a device up as a working NIC with rings, and stop it again (82599 4.6.3; driver/README.md, contract 4).

Every step that acquires something puts its undoing on an ExitStack. A start that fails half-way, an exception and an
ordinary close therefore end the same way: interrupts off, queues off, master disable, reset; then memory is released.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass

from ixrings.hw.device import Device, DmaMemory
from ixrings.hw.errors import DeviceError, DeviceGone, DmaError
from ixrings.hw.memory.hugepages import make_memfd
from ixrings.hw.registers import Registers
from ixrings.rings import Interface, Region
from ixrings.rings.memory import Memory
from ixrings.rings.pages import PageTable
from ixrings.rings.queue import RxQueue, TxQueue

from . import filters, link, queues, reset, rss
from .config import BUFFER, PAGED_BUFFER, RSS_KEY, OnePortOptions, drop_en
from .errors import PortBusy, PortClosed
from .flow_director import Director
from .gate import closed
from .interrupts import Interrupts
from .session import Session
from .statistics import Statistics

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
        joined.tx,
        joined.rx,
        joined.memory,
        joined.seen_at,
        interrupts,
        statistics,
        director,
        refused_before=refused_before,
    )
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
        undo.callback(queue.close, closed(interface.name), PortClosed)
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
