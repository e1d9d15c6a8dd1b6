"""A NIC served at a socket by a thread of this process, and a peer connected to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599
from tests.support.vfio_user_peer import Peer, served


@pytest.fixture
def nic() -> Iterator[Emulated82599]:
    with Emulated82599() as nic:
        yield nic


@pytest.fixture
def path(nic: Emulated82599, tmp_path: Path) -> Iterator[Path]:
    with served(nic, tmp_path / "nic.sock"):
        yield tmp_path / "nic.sock"


@pytest.fixture
def peer(path: Path) -> Iterator[Peer]:
    with Peer(path) as peer:
        yield peer
