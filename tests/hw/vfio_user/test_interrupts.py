"""SET_IRQS: eventfds of a client as INTx and MSI-X."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.vfio_user.protocol import (
    IRQ_SET,
    Command,
    Irq,
)
from tests.support.driver_watch import held
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Peer, memfd

OK = 0


def set_irqs(peer: Peer, flags: int, index: int, start: int, count: int, fds: list[int]) -> int:
    return peer.errno(Command.DEVICE_SET_IRQS, IRQ_SET.pack(20, flags, index, start, count), fds)


@pytest.fixture
def eventfds() -> Iterator[list[int]]:
    fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(16)]
    yield fds
    for fd in fds:
        os.close(fd)


def signals(fd: int) -> int:
    for _ in range(100):
        try:
            return os.eventfd_read(fd)
        except BlockingIOError:
            time.sleep(0.001)
    return 0


def test_msix_vectors_can_be_added_and_disconnected(peer: Peer, eventfds: list[int]) -> None:
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 1, eventfds[:1]) == OK
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 3, eventfds[:3]) == OK
    assert set_irqs(peer, 0x24, Irq.MSIX, 3, 2, eventfds[3:5]) == OK
    peer.write(0x00898, 0x10)  # GPIE.MSIX_MODE
    peer.write(0x00AA0, 0xFFFF)  # EIMS_EX
    for vector in (0, 2, 4):
        peer.write(0x00A90, 1 << vector)  # EICS_EX
        assert signals(eventfds[vector]) == 1
    assert set_irqs(peer, 0x24, Irq.MSIX, 4, 1, []) == OK  # no fd: disconnects that vector
    peer.write(0x00A90, 1 << 4)
    assert signals(eventfds[4]) == 0
    assert set_irqs(peer, 0x21, Irq.MSIX, 0, 0, []) == OK
    assert set_irqs(peer, 0x24, Irq.INTX, 0, 1, eventfds[:1]) == OK


def test_intx_is_masked_after_each_signal_and_raised_until_its_cause_is_cleared(
    peer: Peer, eventfds: list[int]
) -> None:
    assert set_irqs(peer, 0x24, Irq.INTX, 0, 1, eventfds[:1]) == OK
    peer.write(0x00880, 1 << 20)  # EIMS: LSC
    peer.write(0x00808, 1 << 20)  # EICS
    assert signals(eventfds[0]) == 1
    peer.write(0x00808, 1 << 20)
    assert signals(eventfds[0]) == 0  # masked
    assert set_irqs(peer, 0x11, Irq.INTX, 0, 1, []) == OK
    assert signals(eventfds[0]) == 1  # the cause is still set
    assert peer.read(0x00800) & 1 << 20  # EICR: the read clears it
    assert set_irqs(peer, 0x11, Irq.INTX, 0, 1, []) == OK
    assert signals(eventfds[0]) == 0
    assert set_irqs(peer, 0x09, Irq.INTX, 0, 1, []) == OK  # masked by the client
    peer.write(0x00808, 1 << 20)
    assert signals(eventfds[0]) == 0
    assert set_irqs(peer, 0x11, Irq.INTX, 0, 1, []) == OK
    assert signals(eventfds[0]) == 1


def test_a_full_blocking_eventfd_does_not_block_the_nic(nic: Emulated82599, peer: Peer) -> None:
    fd = os.eventfd(0)
    os.eventfd_write(fd, 2**64 - 2)
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 1, [fd]) == OK
    peer.write(0x00898, 0x10)
    peer.write(0x00AA0, 1)
    peer.write(0x00A90, 1)
    assert peer.read(8) != 0xFFFFFFFF
    os.close(fd)


@pytest.mark.parametrize(("flags", "index", "start", "count", "fds"), [
    (0x24, 2, 0, 2, 1), (0x24, 2, 0, 1, 2), (0x24, 2, 64, 1, 1), (0x24, 2, 63, 2, 2), (0x24, 0, 0, 2, 2),
    (0x24, 0, 1, 1, 1), (0x24, 3, 0, 1, 1), (0x24, 9, 0, 1, 1), (0x24, 2, 0, 0, 0), (0x21, 2, 0, 0, 1),
    (0x11, 0, 0, 1, 1), (0x20, 2, 0, 1, 1), (0x04, 2, 0, 1, 1), (0, 2, 0, 1, 1), (0x3F, 2, 0, 1, 0),
    (0xFFFF_FFFF, 2, 0, 1, 0), (0x24, 2, 0xFFFF_FFFF, 0xFFFF_FFFF, 0), (0x24, 2, 0, 0xFFFF_FFFF, 1),
    (0x11, 0, 0, 0, 0),
])  # fmt: skip
def test_invalid_set_irqs_is_refused_and_no_fd_is_kept(
    peer: Peer, eventfds: list[int], flags: int, index: int, start: int, count: int, fds: int
) -> None:
    before = held()
    assert set_irqs(peer, flags, index, start, count, eventfds[:fds]) in (errno.EINVAL, errno.EOPNOTSUPP)
    wait_for(lambda: held() == before, "fds are still open")  # the answer is sent before they are closed


def test_only_eventfds_of_one_kind_of_interrupt_are_accepted(peer: Peer, eventfds: list[int]) -> None:
    with memfd(4096) as fd:
        assert set_irqs(peer, 0x24, Irq.MSIX, 0, 2, [eventfds[0], fd]) == errno.EINVAL
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 1, eventfds[:1]) == OK
    assert set_irqs(peer, 0x24, Irq.INTX, 0, 1, eventfds[1:2]) == errno.EINVAL  # one kind at a time
