"""Pipes between programs: either end first, with and without a port of their name."""

from __future__ import annotations

import pytest

from ixrings.driver.daemon.abi import Flag, Mode
from tests.support.netmap_client import RX, TX, RunningDaemon, errno_of
from tests.support.programs import wait_for

FRAMES = [bytes([number]) * 60 for number in range(40)]


@pytest.mark.parametrize("name", ["ix0", "nothing"])
def test_what_one_end_sends_the_other_receives(running: RunningDaemon, name: str) -> None:
    with running.client() as left, running.client() as right:
        body = left.register(f"{name}{{1")
        assert (body.nr_tx_rings, body.nr_host_tx_rings, body.nr_mem_id) == (1, 0, 1)
        assert body.nr_tx_slots == (64 if name == "ix0" else 1024)
        right.register(f"{name}}}1")
        assert left.send(FRAMES) == 40
        assert right.receive_until(40) == FRAMES
        assert right.send(FRAMES) == 40
        assert left.receive_until(40) == FRAMES
        running.buffers()


def test_frames_wait_for_an_end_that_is_opened_later_or_again(running: RunningDaemon) -> None:
    with running.client() as left:
        left.register("ix0{a")
        left.send(FRAMES[:10])
        with running.client() as right:
            right.register("ix0}a")
            assert right.receive() == FRAMES[:10]
            right.rxsync()
            left.send(FRAMES[10:20])
        wait_for(lambda: len(running.status()["handles"]) == 1, "the handle is still there")
        left.send(FRAMES[20:30])
        with running.client() as right:
            right.register("ix0}a")
            assert right.receive() == FRAMES[10:30]
            running.buffers()
    running.wait_until_nobody_has_buffers()


def test_a_full_pipe_gets_room_when_the_receiver_releases(running: RunningDaemon) -> None:
    with running.client() as left, running.client() as right:
        left.register("ix0{1")
        right.register("ix0}1")
        while left.send(FRAMES[:8]):
            pass
        assert left.poll(TX, 0.05) == 0
        right.receive()
        right.rxsync()
        assert left.poll(TX, 20) == TX


def test_pipes_have_their_own_rules(running: RunningDaemon) -> None:
    with running.client() as client, running.client() as other:
        assert errno_of(client.register, "ix0{1", Mode.NIC_SW) == "EINVAL"
        assert errno_of(client.register, "{1") == "EINVAL"
        assert errno_of(client.register, "ix0{") == "EINVAL"
        assert errno_of(client.register, "ix0", Mode.PIPE_MASTER) == "EINVAL"
        body = client.register("two{1", nr_tx_rings=2, nr_rx_rings=1, nr_tx_slots=20, nr_rx_slots=100)
        assert (body.nr_tx_rings, body.nr_rx_rings, body.nr_tx_slots, body.nr_rx_slots) == (2, 1, 20, 100)
        body = other.register("two}1", flags=Flag.EXCLUSIVE)
        assert (body.nr_tx_rings, body.nr_rx_rings, body.nr_tx_slots, body.nr_rx_slots) == (1, 2, 100, 20)
        with running.client() as third:
            assert errno_of(third.register, "two}1") == "EBUSY"
            third.register("two{1")


def test_a_buffer_of_another_owner_does_not_enter_a_pipe(running: RunningDaemon) -> None:
    with running.client() as left:
        left.register("ix0{1")
        ring = left.rings.tx_rings[0]
        own = int(ring.slots["buf_idx"][0])
        ring.slots["buf_idx"][0] = 2  # the NIC's ring rests with it
        left.send([FRAMES[0]])
        assert (ring.head, ring.cur) == (0, 0)
        ring.slots["buf_idx"][0] = own
        left.send([FRAMES[0]])
        assert ring.head == 1


def test_a_null_port_has_the_rings_that_are_asked_for(running: RunningDaemon) -> None:
    with running.client() as client:
        assert errno_of(client.register, "any", Mode.NULL) == "EINVAL"
        counts = {"nr_tx_rings": 10, "nr_rx_rings": 5, "nr_tx_slots": 256, "nr_rx_slots": 100}
        body = client.register("any", Mode.NULL, nr_mem_id=1, **counts)
        assert {name: getattr(body, name) for name in counts} == counts
        client.txsync()
        assert client.poll(RX, 0.05) == 0
    with running.client() as client:
        client.register("any", Mode.NULL, nr_mem_id=1)
