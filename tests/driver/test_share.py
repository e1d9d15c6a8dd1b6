"""Queues of a port in other processes: counted, taken over from killed workers, refused where they must be."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ixrings import Port, PortError, PortTimeout, Share, open_port
from ixrings.rings import RegionError
from tests.support.programs import ENVIRONMENT, wait_for
from tests.support.queue_worker import has_opened, last_words, worker

PATIENCE_S = 30
FLOWS = 32


def udp(flow: int) -> bytes:
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes([10, 0, 0, flow]), bytes([10, 0, 1, flow]))
    header = bytes.fromhex("ffffffffffff0200000000010800")
    return (header + ip + struct.pack("!HHHH", 1000 + flow, 9, 8, 0)).ljust(60, b"\0")


FRAMES = [udp(flow) for flow in range(FLOWS)]


def of_queue(port: Port, queue: int) -> list[bytes]:
    """Those of FRAMES that RSS gives to `queue` of the port, which has a looped cable."""
    found: list[bytes] = []
    for frame in FRAMES:
        port.send([frame])
        port.flush(PATIENCE_S)
        assert port.poll(PATIENCE_S)
        ring = next(ring for ring in port.rx_rings if ring.space)
        ring.advance(ring.space)
        found += [frame] if ring.ringid == queue else []
    assert found
    return found


def buffers_of(port: Port) -> list[int]:
    return [index for ring in (*port.tx_rings, *port.rx_rings) for index in ring.slots["buf_idx"].tolist()]


def received(share: Share, count: int) -> None:
    wait_for(lambda: share.rx_packets >= count, f"the worker has not received {count} frames", PATIENCE_S)


def test_a_worker_syncs_its_queue_and_the_port_all_others() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        mine, theirs = of_queue(port, 0), of_queue(port, 1)
        share = port.share(1)
        with worker(share, "hold") as process:
            has_opened(process)
            for _ in range(30):
                port.send(mine + theirs)
                port.flush(PATIENCE_S)
            received(share, 30 * len(theirs))
            assert len([frame for _, frame in zip(range(30 * len(mine)), port.recv(5))]) == 30 * len(mine)
            with pytest.raises(PortError, match=f"queue 1 of emulated:loop is shared with process {process.pid}"):
                port.queue(1)
            with pytest.raises(RegionError, match="queue 1 of emulated:loop is shared"):
                port.rx_rings[1].space
            assert share.reclaim() == 0
            assert "queue 1 of emulated:loop was taken back" in last_words(process)
        port.send(theirs)  # the worker left its frames in the ring, and the port goes on there
        assert len([frame for _, frame in zip(range(31 * len(theirs)), port.recv(5))]) == 31 * len(theirs)
        stats = port.stats()
        assert [queue["QPRC"] for queue in stats.rx[:2]] == [32 * len(mine), 33 * len(theirs)]


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_a_worker_killed_in_mid_sync_leaves_its_queue_to_be_taken_over(kills: int) -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2, tx_slots=64, rx_slots=64) as port:
        theirs = of_queue(port, 1)
        before = sorted(buffers_of(port))
        for _ in range(kills):
            share = port.share(1)
            with worker(share, "forward") as process:
                has_opened(process)
                port.send(theirs)  # they go round for ever
                received(share, 1000)
                process.send_signal(signal.SIGKILL)
                assert share.wait(PATIENCE_S)
            assert 0 <= share.reclaim() <= 128
            assert sorted(buffers_of(port)) == before
            for _ in port.recv(0.05):  # frames that were on the way
                pass
            port.send(theirs * 3, ring=1)
            assert sorted(frame for _, frame in zip(range(3 * len(theirs)), port.recv(5))) == sorted(theirs * 3)
