"""Server(ask_beyond=True): DMA outside of the windows is sent to the client, whose IOMMU can refuse and report it."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.vfio_user.memory import TOP, AskedMemory
from ixrings.hw.vfio_user.protocol import DMA_ACCESS, Command
from tests.support.dma_by_messages import (
    FRAMES,
    HEAD,
    MEMORY,
    RING,
    ByMessages,
    descriptor,
    faults,
    reply,
    request,
    ring_doorbell,
)
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Peer, memfd, served

pytestmark = pytest.mark.breaks_rules  # queues are set up with as few messages as possible

OUTSIDE = 0x7654_3000
PAGE = 0x1000


@pytest.fixture
def memory(nic: Emulated82599) -> AskedMemory:
    memory = AskedMemory(nic)
    memory.open()
    return memory


def add(memory: AskedMemory, address: int, size: int = PAGE) -> None:
    memory.map(address, size, None, 0, readable=True, writable=True)


def test_a_frame_outside_of_the_windows_is_requested_and_its_refusal_is_a_fault(
    nic: Emulated82599, tmp_path: Path
) -> None:
    with served(nic, tmp_path / "nic", ask_beyond=True), Peer(tmp_path / "nic") as peer, memfd(0x3000) as fd:
        assert peer.map(MEMORY, 0x3000, fd) == 0
        os.pwrite(fd, descriptor(OUTSIDE), 0)
        by_hand = ByMessages(peer)
        by_hand.transmit_queue(head=HEAD)
        ring_doorbell(by_hand, 1)
        read = request(peer, Command.DMA_READ)
        assert DMA_ACCESS.unpack(read.payload) == (OUTSIDE, 60)
        assert nic.faults == []
        reply(peer, read, b"", error=errno.EFAULT)
        wait_for(lambda: nic.faults, "no DMA fault came")
        assert faults(nic) == [("dma_read", OUTSIDE)]


def test_mapped_memory_is_not_requested(nic: Emulated82599, tmp_path: Path) -> None:
    with served(nic, tmp_path / "nic", ask_beyond=True), Peer(tmp_path / "nic") as peer, memfd(0x3000) as fd:
        for first in (HEAD, RING, FRAMES):
            assert peer.map(first, PAGE, fd, offset=first - MEMORY) == 0
        os.pwrite(fd, descriptor(FRAMES), 0)
        by_hand = ByMessages(peer)
        by_hand.transmit_queue(head=HEAD)
        by_hand.regs.TDT[0].write(1)
        wait_for(lambda: os.pread(fd, 4, 0x2000) == b"\1\0\0\0", "the head was not written back")
        assert nic.faults == []


def test_overlapping_and_partial_windows_are_refused_and_nothing_changes(
    nic: Emulated82599, memory: AskedMemory
) -> None:
    add(memory, 4 * PAGE, 4 * PAGE)
    for address, size in ((4 * PAGE, PAGE), (7 * PAGE, 2 * PAGE), (3 * PAGE, 2 * PAGE), (0, 16 * PAGE)):
        with pytest.raises(OSError) as refused:
            add(memory, address, size)
        assert refused.value.errno == errno.EEXIST
    for address, size in ((5 * PAGE, PAGE), (0, 5 * PAGE), (7 * PAGE, 9 * PAGE), (0, 0)):
        with pytest.raises(OSError) as refused:
            memory.unmap(address, size)
        assert refused.value.errno == errno.EINVAL
    assert len(memory) == 1 and nic.dma_windows == 3


def test_windows_cover_every_address_after_any_sequence_of_changes(nic: Emulated82599, memory: AskedMemory) -> None:
    chance = random.Random(1)
    mapped: set[int] = set()
    for _ in range(600):
        page = chance.randrange(24)
        if page in mapped:
            memory.unmap(page * PAGE, PAGE)
            mapped.remove(page)
        else:
            add(memory, page * PAGE)
            mapped.add(page)
        gaps = sum(1 for page in range(25) if page not in mapped and (page == 0 or page - 1 in mapped))
        assert len(memory) == len(mapped) and nic.dma_windows == len(mapped) + gaps
    memory.unmap(0, TOP)
    assert len(memory) == 0 and nic.dma_windows == 1
