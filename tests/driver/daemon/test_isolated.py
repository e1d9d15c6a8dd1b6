"""A port with --isolate: its programs have memory of their own, and the daemon copies each frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixrings.driver.daemon.abi import Mode
from tests.support.netmap_client import RX, TX, daemon, errno_of
from tests.support.programs import wait_for

pytestmark = pytest.mark.slow  # each test starts a daemon

PORTS = ("ix0=emulated:cable=i", "ix1=emulated:cable=i")
FRAMES = [bytes([2, 0, 0, 0, 0, number % 3] * 2) + bytes([number]) * 48 for number in range(40)]


def test_programs_of_an_isolated_port_have_memory_that_neither_the_nic_nor_others_have(tmp_path: Path) -> None:
    queues = ("--tx-queues", "2", "--rx-queues", "2", "--slots", "64", "--promiscuous")
    with daemon(tmp_path, *PORTS, *queues, "--isolate", "ix0") as running, running.client() as plain:
        plain.register("ix1")
        with running.client() as one, running.client() as two:
            body = one.register("ix0", Mode.ONE_NIC, ringid=1, extra=10)
            assert body.nr_mem_id > 1
            assert (body.nr_tx_rings, body.nr_rx_rings, body.nr_tx_slots, body.nr_extra_bufs) == (2, 2, 64, 10)
            assert two.register("ix0", Mode.ONE_NIC).nr_mem_id == body.nr_mem_id
            one.send(FRAMES)
            assert plain.receive_until(40) == FRAMES
            assert plain.send(FRAMES) == 40
            assert two.receive_until(40) == FRAMES
            assert one.poll(RX, 0.05) == 0
            with running.client() as host, running.client() as pipe:
                assert errno_of(host.register, "ix0", Mode.SW) == "EINVAL"
                assert pipe.register("ix0{1").nr_tx_rings == 1
            gone = body.nr_mem_id
        wait_for(lambda: len(running.status()["handles"]) == 1, "the handles are still there")
        with running.client() as again:
            assert again.register("ix0").nr_mem_id not in (1, gone)
            again.send(FRAMES[:3])
            assert plain.receive_until(3) == FRAMES[:3]
        running.end()


def test_frames_that_find_the_nics_ring_full_wait_and_go_out_without_a_further_call(tmp_path: Path) -> None:
    options = ("--slots", "64", "--isolate", "ix0")
    with daemon(tmp_path, "ix0=emulated", *options) as running, running.client() as client:
        client.register("ix0")
        sent = 0
        while sent < 5000:
            sent += client.send([bytes(60)] * min(5000 - sent, 63))

        def counts() -> tuple[int, int]:
            (ring,) = running.status()["ports"][0]["tx_rings"]
            return ring["packets"], ring["drops"]

        wait_for(lambda: counts() == (sent, 0), "frames are lost, or wait for a call", 20)
        assert client.poll(TX) == TX
