"""Programs open the daemon's ports as netmap's: modes, rings, exclusive use, extra buffers, errors."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from ixrings.driver.daemon.abi import Flag, Mode
from ixrings.driver.daemon.ask import ask
from ixrings.driver.daemon.protocol import Kind, Message
from ixrings.rings import layout
from tests.support.netmap_client import RX, TX, NetmapClient, RunningDaemon, errno_of
from tests.support.programs import wait_for

FRAME = bytes.fromhex("ffffffffffff0200000000010800") + bytes(46)


def test_a_program_sends_and_receives_through_the_daemon(running: RunningDaemon) -> None:
    with running.client() as client:
        body = client.register("ix0")
        assert (body.nr_tx_rings, body.nr_rx_rings, body.nr_tx_slots, body.nr_mem_id) == (2, 2, 64, 1)
        assert [ring.space for ring in client.rings.tx_rings] == [63, 63]
        assert client.poll(RX | TX, 0) == TX
        assert client.send([FRAME] * 10) == 10
        assert client.receive_until(10) == [FRAME] * 10
        assert client.poll(RX, 0.05) == 0


def test_a_program_finds_the_initial_state_after_another_one(running: RunningDaemon) -> None:
    with running.client() as first:
        first.register("ix0")
        first.send([FRAME] * 50)
        first.receive_until(50)
        first.rings.rx_rings[0].flags = layout.RingFlag.NR_FORWARD
    wait_for(lambda: not running.status()["handles"], "the handle is still there")
    with running.client() as second:
        second.register("ix0")
        for ring in (*second.rings.tx_rings, *second.rings.rx_rings):
            assert (ring.head, ring.cur) == (0, 0)
            assert ring.flags == 0
            assert set(ring.slots["len"]) == {2112}
        assert second.receive() == []


@pytest.mark.parametrize(
    ("mode", "ringid", "flags", "tx", "rx"),
    [
        (Mode.ALL_NIC, 7, 0, [0, 1], [0, 1]),
        (Mode.ONE_NIC, 1, 0, [1], [1]),
        (Mode.ALL_NIC, 0, Flag.RX_RINGS_ONLY, [], [0, 1]),
        (Mode.ONE_NIC, 0, Flag.TX_RINGS_ONLY | 0x1000, [0], []),
        (Mode.DEFAULT, 0, Flag.TX_RINGS_ONLY | Flag.RX_RINGS_ONLY, [], []),
    ],
)
def test_a_mode_binds_its_rings(
    running: RunningDaemon, mode: int, ringid: int, flags: int, tx: list[int], rx: list[int]
) -> None:
    with running.client() as client:
        body = client.register("ix0", mode, ringid=ringid, flags=flags)
        assert [ring.ringid for ring in client.rings.tx_rings] == tx
        assert [ring.ringid for ring in client.rings.rx_rings] == rx
        assert (body.nr_mode, body.nr_ringid, body.nr_flags) == (mode, ringid, flags)


@pytest.mark.parametrize(
    ("name", "mode", "ringid", "more", "error"),
    [
        ("ix9", Mode.ALL_NIC, 0, {}, "ENXIO"),
        ("ix0", Mode.ONE_NIC, 2, {}, "EINVAL"),
        ("ix0", Mode.DEFAULT, 0, {}, "EINVAL"),
        ("ix0", 99, 0, {}, "EINVAL"),
        ("ix0", Mode.ALL_NIC, 0, {"nr_mem_id": 99}, "EINVAL"),
    ],
)
def test_a_wrong_registration_gets_netmaps_errno(
    running: RunningDaemon, name: str, mode: int, ringid: int, more: dict[str, int], error: str
) -> None:
    with running.client() as client:
        assert errno_of(client.register, name, mode, ringid=ringid, **more) == error
        client.register("ix0")  # the same descriptor may try again
        assert errno_of(client.register, "ix0") == "EBUSY"


def test_exclusive_rings_are_refused_to_others_and_other_rings_are_not(running: RunningDaemon) -> None:
    with running.client() as owner, running.client() as other, running.client() as third:
        owner.register("ix0", Mode.ONE_NIC, ringid=0, flags=Flag.EXCLUSIVE)
        assert errno_of(other.register, "ix0") == "EBUSY"
        other.register("ix0", Mode.ONE_NIC, ringid=1)
        assert errno_of(third.register, "ix0", Mode.ONE_NIC, ringid=1, flags=Flag.EXCLUSIVE) == "EBUSY"
        third.register("ix0", Mode.ONE_NIC, ringid=1)


def test_extra_buffers_are_given_and_come_back(running: RunningDaemon) -> None:
    before = running.buffers()["free"]
    with running.client() as client:
        assert client.register("ix0", extra=20).nr_extra_bufs == 20
        extra = client.rings.extra_buffers()
        assert len(extra) == 20
        in_rings = {int(index) for ring in client.rings.tx_rings for index in ring.slots["buf_idx"]}
        assert not in_rings & set(extra)
        assert running.buffers()["free"] == before - 20 - 4 * 64
        with running.client() as greedy:
            given = greedy.register("ix0", extra=10**6).nr_extra_bufs
            assert given == before - 20 - 4 * 64
            assert running.buffers()["free"] == 0
    running.wait_until_nobody_has_buffers()


def test_two_programs_share_rings_until_the_last_one_closes(running: RunningDaemon) -> None:
    with running.client() as first:
        first.register("ix0")
        with running.client() as second:
            second.register("ix0")
            second.send([FRAME] * 3)
        wait_for(lambda: len(running.status()["handles"]) == 1, "the second handle is still there")
        assert first.receive_until(3) == [FRAME] * 3


def test_a_process_that_gets_the_descriptor_asks_for_the_rest(running: RunningDaemon) -> None:
    with running.client() as client:
        assert errno_of(client.attach) == "ENXIO"
        body = client.register("ix0")
        client.leave_descriptors()
        assert client.attach().nr_offset == body.nr_offset
        client.send([FRAME])
        assert client.receive_until(1) == [FRAME]


def test_a_broken_rule_is_reported_and_the_program_goes_on(running: RunningDaemon) -> None:
    with running.client() as client:
        client.register("ix0")
        assert ask_json(client, Kind.VIOLATION) == {}
        ring = client.rings.tx_rings[0]
        own = int(ring.slots["buf_idx"][0])
        ring.slots["buf_idx"][0] = 10**9
        ring.head = ring.cur = 1
        client.txsync()
        assert (ring.head, ring.cur) == (0, 0)
        told = ask_json(client, Kind.VIOLATION)
        assert (told["ring"], told["rule"], told["value"]) == ("ix0 TX ring 0", "BUF_IDX", 10**9)
        ring.slots["buf_idx"][0] = own
        client.send([FRAME])
        assert client.receive_until(1) == [FRAME]


def test_python_clients_ask_the_owner(running: RunningDaemon) -> None:
    with running.client() as client:
        assert ask_json(client, Kind.OWNER, {"port": "ix0", "call": "link"})["result"]["up"]
        assert "GPRC" in ask_json(client, Kind.OWNER, {"port": "ix0", "call": "stats"})["result"]["port"]
        mac = ask_json(client, Kind.OWNER, {"port": "ix1", "call": "mac"})["result"]
        new = {"port": "ix1", "call": "set_mac", "arguments": ["02:00:00:00:00:77"]}
        assert ask_json(client, Kind.OWNER, new) == {"result": None}
        assert ask_json(client, Kind.OWNER, {"port": "ix1", "call": "mac"}) == {"result": "02:00:00:00:00:77"}
        assert ask_json(client, Kind.OWNER, {**new, "arguments": [mac]}) == {"result": None}
        bad = ask_json(client, Kind.OWNER, {**new, "arguments": ["nonsense"]})
        assert (bad["kind"], "nonsense" in bad["error"]) == ("ValueError", True)
        assert "does not do 'filters'" in ask_json(client, Kind.OWNER, {"port": "ix0", "call": "filters"})["error"]


def test_interface_questions_are_answered_for_ports(running: RunningDaemon) -> None:
    with running.client() as client:
        (mtu,) = struct.unpack_from("i", ask_interface(client, 0x8921, "ix0"), 16)
        (flags,) = struct.unpack_from("H", ask_interface(client, 0x8913, "ix0"), 16)
        assert (mtu, flags & 0x41) == (1500, 0x41)
        assert ask_interface(client, 0x8927, "ix0")[16:19] == b"\x01\x00\x02"
        assert errno_of(ask_interface, client, 0x8921, "lo") == "ENODEV"
        assert errno_of(ask_interface, client, 0x8946, "ix0") == "EINVAL"


def ask_interface(client: NetmapClient, number: int, name: str) -> bytes:
    reply = ask(client.sock, Message(Kind.INTERFACE, struct.pack("16s24x", name.encode()), value=number))
    if reply.error:
        raise OSError(reply.error, name)
    return reply.payload


def ask_json(client: NetmapClient, kind: Kind, question: object = None) -> Any:
    asked = b"" if question is None else json.dumps(question).encode()
    return json.loads(ask(client.sock, Message(kind, asked)).payload)
