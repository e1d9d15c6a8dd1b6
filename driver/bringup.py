"""Bring a device up as a working NIC with rings, and stop it again (82599 4.6.3; driver/README.md, contract 4).

Every step that acquires something puts its undoing on an ExitStack. A start that fails half-way, an exception and an
ordinary close therefore end the same way: interrupts off, queues off, master disable, reset; then memory is released.
"""

from __future__ import annotations

from contextlib import ExitStack

from ixrings.hw.device import Device, DmaMemory
from ixrings.hw.errors import DeviceError, DeviceGone, DmaError
from ixrings.hw.memory.hugepages import make_memfd
from ixrings.rings import Interface, Region
from ixrings.rings.memory import Memory
from ixrings.rings.pages import PageTable

from . import queues
from .config import BUFFER, PAGED_BUFFER, OnePortOptions
from .errors import PortBusy, PortClosed
from .function import Bound, Function, Joined
from .gate import closed
from .hosting import physical_function
from .session import Session
from .virtual_function import VirtualFunction
from .window import Window

# Bytes between head write-back words: a cache line and its neighbour, which prefetchers fetch with it.
HEAD_STRIDE = 128


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
    function: Function = VirtualFunction(device, options) if device.virtual else physical_function(device, options)
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

    device.enable_bus_master(False)
    function.quiet(name)
    window = undo.enter_context(Window(len(interface.tx_rings), len(interface.rx_rings)))
    joined = map_memory(undo, function, interface, region, window)
    stopping = Stopping(function)
    undo.callback(stopping)  # twice: Ctrl-C between two steps of an ExitStack drops the next callback
    undo.callback(stopping)
    refused_before = device.dma_refused()
    device.enable_bus_master(True)
    function.set_up(joined, region.buf_size)
    device.ring_doorbells()
    interrupts = function.make_interrupts(bound)
    undo.callback(interrupts.close)
    function.start(receives=bool(joined.rx))
    return Session(function, options, region, interface, joined, interrupts, window, refused_before=refused_before)


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


def map_memory(
    undo: ExitStack, function: Function, interface: Interface, region: Region, window: Window
) -> Joined:  # fmt: skip
    """Map the region for the device, and allocate descriptor rings outside it (driver/README.md, contract 1)."""
    device, registers = function.device, function.queues
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
    tx = tuple(window.tx(i) for i in range(len(tx_rings)))
    rx = tuple(window.rx(i) for i in range(len(rx_rings)))
    for i, queue in enumerate(tx):
        ring = interface.tx_rings[i]
        queue.join(
            ring,
            region,
            region_iova=seen_at,
            descriptors=tx_rings[i].address,
            doorbell=device.doorbell(registers.TDT[ring.ringid].offset),
            head_writeback=heads.address + i * HEAD_STRIDE,
        )
        queue.restart()
    for i, rx_queue in enumerate(rx):
        rx_ring = interface.rx_rings[i]
        rx_queue.join(
            rx_ring,
            region,
            region_iova=seen_at,
            descriptors=rx_rings[i].address,
            doorbell=device.doorbell(registers.RDT[rx_ring.ringid].offset),
        )
        rx_queue.restart()
    for each in (*tx, *rx):
        undo.callback(each.close, closed(interface.name), PortClosed)
    return Joined(
        tx,
        rx,
        tuple(each.iova for each in tx_rings),
        tuple(each.iova for each in rx_rings),
        tuple(heads.iova + i * HEAD_STRIDE for i in range(len(tx))),
        tuple(memory),
        seen_at,
    )


class Stopping:
    """Calls stop() until one call has completed."""

    def __init__(self, function: Function) -> None:
        self._function, self._done = function, False

    def __call__(self) -> None:
        if not self._done:
            stop(self._function)
            self._done = True


def stop(function: Function) -> None:
    """Stop all DMA and interrupts, even if a step fails. Memory may be unmapped only afterwards."""
    device = function.device
    try:
        function.stop()
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
