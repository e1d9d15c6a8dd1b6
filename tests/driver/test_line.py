"""INTx and scattered pages, as with UIO. Here the emulated NIC provides both."""

from __future__ import annotations

import os
import random
import select
import threading
import time
from collections.abc import Iterator
from select import POLLIN, POLLOUT

import numpy as np
import pytest

from ixrings import Port, open_port
from ixrings.hw.device import DmaMapping
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from ixrings.rings import Region
from ixrings.rings.pages import PageTable
from tests.support.driver_watch import emulated
from tests.support.rings_nic import RxSide, TxSide

PAGE = 64 << 10


class OneLine(Emulated82599):
    """An 82599 with INTx: one line, which the kernel masks when it is raised."""

    def enable_interrupts(self, vectors: int) -> list[int]:
        self.line = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.connect_line(self.line)
        return [self.line]

    def rearm_line(self) -> None:
        try:
            os.eventfd_read(self.line)
        except BlockingIOError:
            pass
        self.mask_line(False)


class Scattered(Emulated82599):
    """An 82599 without an IOMMU: the pages of its memory are scattered."""

    scattered = True

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        places = [0x4_0000_0000 + (len(self.used) + i) * 3 * PAGE for i in range(-(-size // PAGE))]
        self.used += places
        random.Random(5).shuffle(places)
        for i, place in enumerate(places):
            self.map_dma_at(place, min(PAGE, size - i * PAGE), fd, i * PAGE)
        return DmaMapping(address, size, places[0], tuple(places), PAGE)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        for i, place in enumerate(mapping.pages):
            self.unmap_dma_range(place, min(PAGE, mapping.size - i * PAGE))

    def __init__(self, wire: str = "loop") -> None:
        self.used: list[int] = []
        super().__init__(wire)


@pytest.fixture
def line() -> Iterator[Port]:
    with OneLine("loop") as nic, open_port(nic, promiscuous=True, tx_slots=64, rx_slots=64) as port:
        yield port


def frame(number: int) -> bytes:
    return b"\x02" * 12 + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(42)


def test_frames_wake_a_sleeping_reader_by_the_line(line: Port) -> None:
    for number in range(50):
        line.send([frame(number)])
        assert next(line.recv(timeout=30)) == frame(number)


def test_a_sleeping_reader_receives_every_frame(line: Port) -> None:
    count = 3000
    sender = threading.Thread(target=lambda: line.send(map(frame, range(count)), timeout=10))
    sender.start()
    got = [int.from_bytes(next(line.recv(timeout=10))[14:18], "big") for _ in range(count)]
    sender.join()
    assert got == list(range(count))
    assert emulated(line).faults == []


def test_poll_sleeps_until_its_timeout_when_nothing_arrives(line: Port) -> None:
    start = time.monotonic()
    assert line.poll(0.2) == 0
    assert 0.15 < time.monotonic() - start < 20


def test_a_descriptor_becomes_readable_only_for_a_frame(line: Port) -> None:
    fd = line.fileno()
    line.rxsync()
    assert select.select([fd], [], [], 0.05)[0] == []
    for number in range(20):
        line.send([frame(number)])
        assert select.select([fd], [], [], 30)[0] == [fd]
        deadline = time.monotonic() + 30
        while not line.rx_rings[0].space and time.monotonic() < deadline:
            line.rxsync()
        assert line.rx_rings[0].space == 1
        line.rx_rings[0].advance(1)
        line.rxsync()


def test_room_in_a_full_ring_wakes_a_wait_for_it() -> None:
    with OneLine("sink") as nic, open_port(nic, tx_slots=64, rx_slots=64) as port:
        for _ in range(200):
            span = port.tx_rings[0].reserve(64)
            span.len[:] = 60
            port.tx_rings[0].advance(len(span))
            port.txsync()
            assert port.poll(5, POLLOUT) == POLLOUT
        port.flush(30)


def test_the_line_is_programmed_without_msix(line: Port) -> None:
    nic = line.nic
    assert nic.GPIE.read() == 0 and nic.EIAC.read() == 0 and nic.EIAM.read() == 0
    assert nic.IVAR[0].read() & 0xFFFF == 0x8180  # queue 0: RX to bit 0, TX to bit 1


def test_waiting_for_both_directions_returns_what_is_ready(line: Port) -> None:
    line.send([frame(1)])
    line.flush()
    assert line.poll(5, POLLIN | POLLOUT) == POLLIN | POLLOUT


# ---- scattered pages ----


def test_a_port_on_scattered_pages_neither_loses_nor_changes_frames() -> None:
    nic = Scattered()
    with nic, open_port(nic, promiscuous=True, tx_queues=2, rx_queues=2, tx_slots=512, rx_slots=512) as port:
        sent = [frame(number) for number in range(2000)]
        received: list[bytes] = []
        for start in range(0, len(sent), 200):
            port.send(sent[start : start + 200])
            while len(received) < start + 200:
                received.append(next(port.recv(timeout=30)))
        assert received == sent
        assert nic.faults == []


def test_descriptors_point_to_the_page_that_holds_the_buffer() -> None:
    with Region.for_ports(tx_slots=64, rx_slots=64) as region:
        interface = region.register("ix0", tx_slots=[64], rx_slots=[64])
        places = [0x7_0000_0000 - i * 5 * 4096 for i in range(region.size // 4096)]
        tx, rx = (
            TxSide(region, interface.tx_rings[0], iova=PageTable(places, 4096)),
            RxSide(region, interface.rx_rings[0], iova=PageTable(places, 4096)),
        )
        tx.put(*[60] * 63)
        tx.sync()
        for side, slots in ((tx, range(63)), (rx, range(64))):
            for i in slots:
                offset = region.buffers_offset + int(side.ring.slots["buf_idx"][i]) * 2048
                assert int(side.memory[i, 0]) == places[offset // 4096] + offset % 4096
        interface.close()


def test_buffers_across_two_pages_are_refused() -> None:
    with Region.for_ports(tx_slots=64, rx_slots=64, buf_size=2112) as region:
        ring = region.register("ix0", tx_slots=[64], rx_slots=[64]).tx_rings[0]
        with pytest.raises(ValueError, match=r"must be in one page.*buf_size=2048"):
            TxSide(region, ring, iova=PageTable([0] * (region.size // 4096), 4096))
        with pytest.raises(ValueError, match="do not cover the region"):
            TxSide(region, ring, iova=PageTable([0], 4096))
    with pytest.raises(ValueError, match="power of two"):
        PageTable([0], 3000)


def test_memory_for_a_ring_is_in_one_page_or_refused() -> None:
    with Scattered() as nic:
        nic.alloc_dma(PAGE).release()
        with pytest.raises(Exception, match="must be contiguous"):
            nic.alloc_dma(2 * PAGE)
        assert isinstance(Registers(nic).STATUS.read(), int)
        assert np.count_nonzero(nic.alloc_dma(4096).view) == 0
