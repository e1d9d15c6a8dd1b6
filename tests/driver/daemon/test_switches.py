"""VALE switches of the daemon: ports for programs, NICs, and the requests about them."""

from __future__ import annotations

from ixrings.driver.daemon.abi import (
    Flag,
    Mode,
    PortHeader,
    PortInfo,
    Register,
    Request,
    ValeAttach,
    ValeDetach,
    ValeList,
    ValeNewif,
    ValePolling,
)
from tests.support.netmap_client import RX, NetmapClient, RunningDaemon, call_of, errno_of
from tests.support.programs import wait_for


def frame(to: int, source: int, number: int = 0) -> bytes:
    """An Ethernet frame between addresses of one byte; 255: broadcast."""
    destination = b"\xff" * 6 if to == 255 else bytes([2, 0, 0, 0, 0, to])
    return destination + bytes([2, 0, 0, 0, 0, source]) + b"\x08\x00" + bytes([number]) * 46


def ask(client: NetmapClient, kind: int, name: str, body: object = None) -> object:
    done, fds = client.ctrl(call_of(kind, name, body))  # type: ignore[arg-type]
    assert not fds
    return done.body


def test_ports_of_a_switch_exchange_frames_and_have_memory_of_their_own(running: RunningDaemon) -> None:
    with running.client() as a, running.client() as b, running.client() as c:
        bodies = [each.register(f"vale0:{name}") for name, each in (("a", a), ("b", b), ("c", c))]
        assert len({body.nr_mem_id for body in bodies} | {1}) == 4
        assert [(body.nr_tx_slots, body.nr_host_tx_rings) for body in bodies] == [(1024, 0)] * 3
        a.send([frame(2, 1)])
        assert b.receive_until(1) == c.receive_until(1) == [frame(2, 1)]
        b.send([frame(1, 2)])
        assert a.receive_until(1) == [frame(1, 2)]
        a.send([frame(2, 1, 7)])
        assert b.receive_until(1) == [frame(2, 1, 7)]
        assert c.poll(RX, 0.05) == 0
        listed = ask(a, Request.VALE_LIST, "vale0:b", ValeList())
        assert isinstance(listed, ValeList)
        assert (listed.nr_bridge_idx, listed.nr_port_idx) == (0, 1)
        with running.client() as shared:
            assert shared.register("vale0:a").nr_mem_id == bodies[0].nr_mem_id
    wait_for(lambda: not running.status()["handles"], "handles are still there")
    with running.client() as client:
        assert errno_of(ask, client, Request.VALE_LIST, "vale0:a", ValeList()) == "ENOENT"


def test_a_nic_on_a_switch(running: RunningDaemon) -> None:
    with running.client() as far, running.client() as near:
        far.register("ix2")
        near.register("vale1:me")
        attach = ValeAttach(reg=Register(nr_mode=Mode.ALL_NIC))
        with running.client() as other:
            done = ask(other, Request.VALE_ATTACH, "vale1:ix1", attach)
            assert isinstance(done, ValeAttach)
            assert (done.port_index, done.reg.nr_mem_id, done.reg.nr_flags) == (1, 0, 0)
            assert errno_of(other.register, "ix1") == "EBUSY"
            assert errno_of(other.register, "vale1:ix1") == "EBUSY"
            assert errno_of(ask, other, Request.VALE_ATTACH, "vale1:ix1", attach) == "EBUSY"
        near.send([frame(255, 1)])
        assert far.receive_until(1) == [frame(255, 1)]
        far.send([frame(1, 9)])
        assert near.receive_until(1) == [frame(1, 9)]
        ask(near, Request.VALE_DETACH, "vale1:ix1", ValeDetach())
        assert errno_of(ask, near, Request.VALE_DETACH, "vale1:ix1", ValeDetach()) == "ENXIO"
        with running.client() as nic:
            nic.register("ix1")
            near.send([frame(9, 1)])
            far.rxsync()
            assert nic.send([frame(255, 3)]) == 1
            assert far.receive_until(1) == [frame(255, 3)]
        assert errno_of(ask, near, Request.VALE_ATTACH, "vale1:ix2", attach) == "EBUSY"
        assert errno_of(ask, near, Request.VALE_ATTACH, "vale1:none", attach) == "EINVAL"


def test_a_persistent_port_lives_from_newif_to_delif(running: RunningDaemon) -> None:
    with running.client() as client, running.client() as other:
        made = ask(client, Request.VALE_NEWIF, "per4", ValeNewif())
        assert isinstance(made, ValeNewif)
        assert (made.nr_tx_slots, made.nr_tx_rings) == (1024, 1)
        assert errno_of(ask, client, Request.VALE_NEWIF, "per4", ValeNewif()) == "EEXIST"
        assert errno_of(client.register, "vale3:per4") == "EINVAL"
        ask(client, Request.VALE_ATTACH, "vale3:per4", ValeAttach(reg=Register(nr_mode=1)))
        assert client.register("vale3:per4").nr_mem_id == made.nr_mem_id
        other.register("vale3:x")
        client.send([frame(255, 1)])
        assert other.receive_until(1) == [frame(255, 1)]
        assert errno_of(ask, other, Request.VALE_DELIF, "per4") == "EBUSY"
        client.close()
        wait_for(lambda: len(running.status()["handles"]) == 1, "the handle is still there")
        ask(other, Request.VALE_DETACH, "vale3:per4", ValeDetach())
        ask(other, Request.VALE_DELIF, "per4")
        assert errno_of(ask, other, Request.VALE_DELIF, "per4") == "ENXIO"
        assert errno_of(ask, other, Request.VALE_DELIF, "ix1") == "EINVAL"


def test_a_handle_without_rings_keeps_its_port(running: RunningDaemon) -> None:
    with running.client() as client, running.client() as other:
        body = client.register("vale5:none", Mode.DEFAULT, flags=Flag.RX_RINGS_ONLY | Flag.TX_RINGS_ONLY)
        assert (client.rings.tx_rings, client.rings.rx_rings) == ([], [])
        assert other.register("vale5:none").nr_mem_id == body.nr_mem_id


def test_headers_polling_and_questions(running: RunningDaemon) -> None:
    with running.client() as client, running.client() as other:
        client.register("vale:eph0")
        for size in (12, 0, 10):
            ask(other, Request.PORT_HDR_SET, "vale:eph0", PortHeader(nr_hdr_len=size))
            got = ask(other, Request.PORT_HDR_GET, "vale:eph0", PortHeader())
            assert isinstance(got, PortHeader)
            assert got.nr_hdr_len == size
        assert errno_of(ask, other, Request.PORT_HDR_SET, "vale:eph0", PortHeader(nr_hdr_len=5)) == "EINVAL"
        assert errno_of(ask, other, Request.PORT_HDR_SET, "ix1", PortHeader()) == "ENXIO"
        assert errno_of(ask, other, Request.PORT_HDR_GET, "ix1{9", PortHeader()) == "ENODEV"
        assert errno_of(other.register, "vale:eph0") == "EIO"
        other.register("vale:eph0", flags=Flag.ACCEPT_VNET_HDR)
        info = ask(client, Request.PORT_INFO_GET, "vale9:new", PortInfo(nr_tx_slots=64))
        assert isinstance(info, PortInfo)
        assert (info.nr_tx_slots, info.nr_rx_slots) == (64, 1024)
        assert errno_of(ask, client, Request.VALE_LIST, "vale9:new", ValeList()) == "ENOENT"
        ask(client, Request.VALE_ATTACH, "vale:ix1", ValeAttach(reg=Register(nr_mode=1)))
        wanted = ValePolling(nr_mode=1, nr_num_polling_cpus=1)
        ask(client, Request.VALE_POLLING_ENABLE, "vale:ix1", wanted)
        assert errno_of(ask, client, Request.VALE_DETACH, "vale:ix1", ValeDetach()) == "EBUSY"
        ask(client, Request.VALE_POLLING_DISABLE, "vale:ix1", ValePolling())
        ask(client, Request.VALE_DETACH, "vale:ix1", ValeDetach())


def test_a_port_in_the_memory_of_another_exchanges_buffers_with_it(running: RunningDaemon) -> None:
    with running.client() as first, running.client() as second, running.client() as third:
        mem_id = first.register("vale6:a", nr_tx_slots=64, nr_rx_slots=64).nr_mem_id
        assert second.register("vale6:b", nr_mem_id=mem_id, nr_tx_slots=64, nr_rx_slots=64).nr_mem_id == mem_id
        assert errno_of(third.register, "vale6:c", nr_mem_id=mem_id + 1000) == "EINVAL"
        assert third.register("none", Mode.NULL, nr_mem_id=mem_id).nr_mem_id == mem_id
        first.close()
        wait_for(lambda: len(running.status()["handles"]) == 2, "the handle is still there")
        with running.client() as other:
            assert other.register("vale6:d", nr_mem_id=mem_id, nr_tx_slots=32, nr_rx_slots=32).nr_mem_id == mem_id
            second.send([frame(255, 1)])
            assert other.receive_until(1) == [frame(255, 1)]


def test_zero_copy_monitors_of_a_switch_port_have_room_in_its_memory(running: RunningDaemon) -> None:
    with running.client() as port, running.client() as sender, running.client() as one, running.client() as two:
        mem_id = port.register("vale6:m").nr_mem_id
        sender.register("vale6:s")
        for monitor in (one, two):
            assert monitor.register("vale6:m", flags=Flag.ZCOPY_MON).nr_mem_id == mem_id
        sender.send([frame(255, 1)])
        assert port.receive_until(1) == [frame(255, 1)]
        port.rxsync()
        assert one.receive_until(1) == two.receive_until(1) == [frame(255, 1)]
        port.close()  # its memory stays as long as a monitor has it
        wait_for(lambda: len(running.status()["handles"]) == 3, "the handle is still there")
        one.rings.buffers[2, :] = 1


def test_a_persistent_port_joins_two_switches(running: RunningDaemon) -> None:
    attach = ValeAttach(reg=Register(nr_mode=1))
    with running.client() as left, running.client() as right, running.client() as asks:
        for name in ("v0", "v1"):
            ask(asks, Request.VALE_NEWIF, name, ValeNewif(nr_tx_slots=64, nr_rx_slots=64))
        left.register("vale0A:l")
        right.register("vale0B:r")
        ask(asks, Request.VALE_ATTACH, "vale0A:v0", attach)
        assert errno_of(ask, asks, Request.VALE_ATTACH, "vale0A:v0", attach) == "EBUSY"
        ask(asks, Request.VALE_ATTACH, "vale0B:v0", attach)
        assert errno_of(ask, asks, Request.VALE_ATTACH, "vale0C:v0", attach) == "EBUSY"
        assert errno_of(asks.register, "v0") == errno_of(asks.register, "vale0A:v0") == "EBUSY"
        assert errno_of(ask, asks, Request.VALE_DELIF, "v0") == "EBUSY"
        left.send([frame(255, 1)])
        assert right.receive_until(1) == [frame(255, 1)]
        right.send([frame(1, 2)])
        assert left.receive_until(1) == [frame(1, 2)]
        ask(asks, Request.VALE_ATTACH, "vale0B:v1", attach)
        ask(asks, Request.VALE_ATTACH, "vale0A:v1", attach)  # a circle: frames may come twice, and end
        left.send([frame(255, 1, 5)])
        assert right.receive_until(1)[0] == frame(255, 1, 5)
        assert errno_of(ask, asks, Request.VALE_DETACH, "vale0A:v0", ValeDetach()) == "EBUSY"
        for name in ("vale0A:v1", "vale0B:v1", "vale0B:v0"):
            ask(asks, Request.VALE_DETACH, name, ValeDetach())
        left.send([frame(255, 1)] * 3)
        assert asks.register("vale0A:v0").nr_mem_id > 1
        asks.close()
    with running.client() as asks:
        wait_for(lambda: not errno_of(ask, asks, Request.VALE_DELIF, "v1"), "v1 does not go")
        ask(asks, Request.VALE_DETACH, "vale0A:v0", ValeDetach())
        ask(asks, Request.VALE_DELIF, "v0")
