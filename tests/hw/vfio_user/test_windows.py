"""DMA_MAP and DMA_UNMAP: which windows and files are accepted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import (
    DMA_MAP,
    DMA_UNMAP,
    Command,
)
from tests.support.driver_watch import held
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Peer, memfd

OK = 0


def test_only_whole_windows_are_unmapped(nic: Emulated82599, peer: Peer) -> None:
    with memfd(0x10000) as fd:
        for page in range(16):
            assert peer.map(0x1000 * page, 0x1000, fd, offset=0x1000 * page) == OK
        assert peer.map(0x8000, 0x1000, fd) == errno.EEXIST
        assert peer.map(0x20000, 0x10000, fd) == OK
        assert peer.unmap(0x28000, 0x1000) == errno.EINVAL  # a part of a window
        assert peer.unmap(0x1F000, 0x2000) == errno.EINVAL
        assert nic.dma_windows == 17
        answer = peer.request(Command.DMA_UNMAP, DMA_UNMAP.pack(24, 0, 0x4000, 0x2000))
        assert answer.payload == DMA_UNMAP.pack(24, 0, 0x4000, 0x2000)
        assert nic.dma_windows == 15
        assert peer.unmap(1 << 40, 1 << 62) == OK  # no window is there
        assert peer.unmap(1 << 63, 1 << 63) == OK
        assert peer.unmap(0, 0x20000) == OK
        assert nic.dma_windows == 1
        assert peer.unmap(0, 0, p.UNMAP_ALL) == OK
        assert nic.dma_windows == 0
        for address, size, flags in (
            (0, 0, 0),
            (0x1000, 0x1000, 1),
            (0x1000, 0x1000, 2),
            (0, 0, 3),
            (1 << 63, (1 << 63) + 1, 0),
        ):
            assert peer.unmap(address, size, flags) == errno.EINVAL


@pytest.mark.parametrize(("iova", "size", "offset", "flags", "number"), [
    (0, 0, 0, 3, errno.EINVAL), (0, 0x11000, 0, 3, errno.EINVAL), (0, 0x1000, 0x10000, 3, errno.EINVAL),
    (0, 0x1000, 1 << 63, 3, errno.EINVAL), (0, 100, 0, 3, errno.EINVAL), (0x10, 0x1000, 0, 3, errno.EINVAL),
    (0, 0x1000, 0x10, 3, errno.EINVAL), (0, 0x1000, 0, 0, errno.EINVAL), (0, 0x1000, 0, 4, errno.EINVAL),
    (2**64 - 0x1000, 0x2000, 0, 3, errno.EINVAL), (2**64 - 0x1000, 0x1000, 0, 3, errno.EINVAL),
    (0, 2**64 - 0x1000, 0, 3, errno.EINVAL), (2**64 - 0x2000, 0x1000, 0, 3, 0), (0, 0x10000, 0, 1, 0),
    (0, 0x8000, 0x8000, 2, 0),
])  # fmt: skip
def test_impossible_windows_are_refused(
    nic: Emulated82599, peer: Peer, iova: int, size: int, offset: int, flags: int, number: int
) -> None:
    with memfd(0x10000) as fd:
        assert peer.map(iova, size, fd, offset=offset, flags=flags) == number
    assert nic.dma_windows == (0 if number else 1)


def test_files_that_cannot_be_mapped_are_refused(nic: Emulated82599, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(0x1000))
    reader, writer = os.pipe()
    opened = [
        os.open("/dev/zero", os.O_RDWR),
        os.open(tmp_path, os.O_RDONLY),
        os.open("/dev/null", os.O_RDWR),
        reader,
        writer,
    ]
    read_only = os.open(tmp_path / "file", os.O_RDONLY)
    for fd in opened:
        assert peer.map(0, 0x1000, fd) == errno.EINVAL
    assert peer.map(0, 0x1000, read_only) == errno.EACCES
    assert peer.map(0, 0x1000, read_only, flags=1) == OK
    for fd in (*opened, read_only):
        os.close(fd)


def test_thousands_of_windows_keep_no_fds(nic: Emulated82599, peer: Peer) -> None:
    before = held()[0]
    with memfd(4096 * 3000) as fd:
        for first in range(0, 3000, 100):
            for page in range(first, first + 100):
                peer.send(Command.DMA_MAP, DMA_MAP.pack(32, 3, 4096 * page, 8192 * page, 4096), [fd])
            answers = [peer.receive() for _ in range(100)]
            assert all(answer is not None and answer.error == 0 for answer in answers)
        assert nic.dma_windows == 3000
    wait_for(lambda: held()[0] == before, "fds are still open")
    assert peer.unmap(0, 8192 * 3000) == OK
