"""Monitors show other programs' frames, and never hold them up."""

from __future__ import annotations

from ixrings.driver.daemon.abi import Flag
from tests.support.netmap_client import ERROR, RX, TX, RunningDaemon, errno_of
from tests.support.programs import wait_for

FRAMES = [bytes([number]) * 6 + bytes(54) for number in range(0, 40, 2)]
BOTH = Flag.MONITOR_TX | Flag.MONITOR_RX


def test_monitors_see_what_is_sent_and_received(running: RunningDaemon) -> None:
    with running.client() as owner, running.client() as sent, running.client() as all_, running.client() as taken:
        assert errno_of(sent.register, "ix0", flags=Flag.MONITOR_TX) == "EINVAL"
        owner.register("ix0", flags=Flag.EXCLUSIVE)
        body = sent.register("ix0", flags=Flag.MONITOR_TX)
        assert (body.nr_tx_rings, body.nr_rx_rings, body.nr_rx_slots) == (1, 2, 64)
        assert body.nr_mem_id > 1
        all_.register("ix0", flags=BOTH, nr_rx_slots=256)
        body = taken.register("ix0", flags=Flag.ZCOPY_MON)
        assert (body.nr_mem_id, body.nr_flags) == (1, int(Flag.ZCOPY_MON | BOTH))
        owner.send(FRAMES)
        assert sent.receive_until(20) == FRAMES
        assert owner.receive_until(20) == FRAMES
        assert all_.receive_until(40) == FRAMES * 2
        owner.rxsync()
        owner.txsync()
        assert len(taken.receive_until(40)) == 40
        running.buffers()


def test_monitors_show_the_frames_of_a_ring_with_offsets(running: RunningDaemon) -> None:
    with running.client() as owner, running.client() as copied, running.client() as taken:
        owner.register("ix0", offset=300)
        copied.register("ix0", flags=BOTH, nr_rx_slots=256)
        taken.register("ix0", flags=Flag.ZCOPY_MON)
        assert (owner.offset_mask, copied.offset_mask, taken.offset_mask) == (0xFFFF, 0, 0xFFFF)
        owner.send(FRAMES)
        assert owner.receive_until(20) == FRAMES
        assert copied.receive_until(40) == FRAMES * 2
        owner.rxsync()
        owner.txsync()
        assert sorted(taken.receive_until(40)) == sorted(FRAMES * 2)


def test_a_monitor_that_is_never_read_holds_nobody_up(running: RunningDaemon) -> None:
    with running.client() as owner, running.client() as lazy:
        owner.register("ix0")
        lazy.register("ix0", flags=BOTH)
        for _ in range(20):
            owner.send(FRAMES)
            assert owner.receive_until(20) == FRAMES
        assert [handle["drops"] for handle in running.status()["handles"]] == [0, 20 * 2 * len(FRAMES) - 63]
        assert len(lazy.receive()) == 63


def test_a_monitor_of_a_pipe_and_the_end_of_its_owner(running: RunningDaemon) -> None:
    with running.client() as right, running.client() as monitor:
        right.register("ix0}7")
        with running.client() as left:
            assert errno_of(monitor.register, "ix0{7", flags=Flag.MONITOR_TX) == "EINVAL"
            left.register("ix0{7")
            monitor.register("ix0{7", flags=Flag.MONITOR_TX)
            left.send(FRAMES)
            assert monitor.receive_until(20) == FRAMES
            assert right.receive_until(20) == FRAMES
        wait_for(lambda: len(running.status()["handles"]) == 2, "the handle is still there")
        with running.client() as left:
            left.register("ix0{7")
            left.send(FRAMES)
            assert monitor.poll(RX, 0.05) == ERROR


def test_a_monitor_is_told_when_the_last_program_of_its_port_ends(running: RunningDaemon) -> None:
    with running.client() as monitor, running.client() as taker, running.client() as second:
        owner = running.client()
        owner.register("ix0")
        second.register("ix0")
        monitor.register("ix0", flags=BOTH)
        taker.register("ix0", flags=Flag.ZCOPY_MON)
        assert monitor.poll(TX, 0) == TX | ERROR  # a monitor sends nothing
        owner.close()
        wait_for(lambda: len(running.status()["handles"]) == 3, "the handle is still there")
        second.send(FRAMES)
        assert monitor.receive_until(20)[:20] == FRAMES
        assert monitor.poll(RX, 0) == 0
        second.close()
        assert monitor.poll(RX, 20) & ERROR  # it is woken
        monitor.rxsync()  # returns in order, as in netmap
        assert taker.poll(RX, 20) in (RX, ERROR)
        with running.client() as again:
            again.register("ix0")
            again.send(FRAMES)
            assert monitor.poll(RX, 0) == ERROR
