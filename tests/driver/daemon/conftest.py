"""One daemon for all everyday tests: a start takes longer than a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.netmap_client import RunningDaemon, daemon

PORTS = ("ix0=emulated", "ix1=emulated:cable=c", "ix2=emulated:cable=c")
QUEUES = ("--tx-queues", "2", "--rx-queues", "2", "--slots", "64", "--promiscuous")


@pytest.fixture(scope="session")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with daemon(tmp_path_factory.mktemp("daemon"), *PORTS, *QUEUES, memory=128) as running:
        yield running
        running.wait_until_nobody_has_buffers()
        running.end()


@pytest.fixture
def running(one_for_all: RunningDaemon) -> RunningDaemon:
    """A daemon whose NICs nobody uses: ix0 at a loop, ix1 and ix2 at one cable. Two queues each way of 64 slots."""
    one_for_all.wait_until_nobody_has_handles()
    return one_for_all
