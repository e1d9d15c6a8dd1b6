"""Two users of one daemon: neither reaches memory and ports that belong to the other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ixrings.driver.daemon.abi import Flag, Mode, PortHeader, Register, Request, ValeAttach, ValeDetach, ValeNewif
from tests.support.netmap_client import NetmapClient, RunningDaemon, call_of, daemon, errno_of
from tests.support.programs import wait_for
from tests.support.two_users import as_nobody

pytestmark = [
    pytest.mark.slow,  # each test starts a daemon
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users"),
]


@pytest.fixture
def shared() -> Iterator[RunningDaemon]:
    """A daemon that serves every user. ix1 is isolated."""
    with tempfile.TemporaryDirectory(prefix="ixrings-users-") as folder:  # pytest's are closed to other users
        os.chmod(folder, 0o755)
        options = ("--slots", "64", "--mode", "0666", "--isolate", "ix1", "--allow", "vale2:both=root,nobody")
        with daemon(Path(folder), "ix0=emulated", "ix1=emulated", *options, memory=48) as running:
            yield running


def test_memory_of_a_user_is_closed_to_another(shared: RunningDaemon) -> None:
    with shared.client() as isolated, shared.client() as port, shared.client() as switch, shared.client() as pipe:
        numbers = [isolated.register("ix1").nr_mem_id, port.register("vale0:mine").nr_mem_id]
        numbers.append(switch.register("vale2:both").nr_mem_id)
        pipe.register("own{1", nr_mem_id=numbers[1], nr_tx_slots=16, nr_rx_slots=16)

        def reach() -> dict[str, Any]:
            told, few = {}, {"nr_tx_slots": 16, "nr_rx_slots": 16}
            with NetmapClient(shared.path) as client:
                for number in numbers:
                    told[f"null {number}"] = errno_of(client.register, "n", Mode.NULL, nr_mem_id=number, **few)
                    told[f"port {number}"] = errno_of(client.register, "vale5:x", nr_mem_id=number)
                for name in ("ix1", "vale0:mine"):
                    told[name] = errno_of(client.register, name)
                    told[f"{name}/r"] = errno_of(client.register, name, flags=Flag.MONITOR_RX, **few)
                    told[f"{name}/z"] = errno_of(client.register, name, flags=Flag.ZCOPY_MON, **few)
            with NetmapClient(shared.path) as client:
                told["pipe"] = errno_of(client.register, "own}1")
            with NetmapClient(shared.path) as client:
                told["allowed"] = errno_of(client.register, "vale2:both")
            return told

        told = as_nobody(reach, lambda: None)
    refused = dict.fromkeys(["ix1", "ix1/r", "ix1/z"], "EBUSY")
    assert told.pop("allowed") == ""
    assert told == dict.fromkeys(told, "EPERM") | refused
    assert "because user root has made it. To allow it: --allow vale0:mine=nobody" in shared.end()


def test_ports_that_a_user_has_made_are_closed_to_changes_of_another(shared: RunningDaemon) -> None:
    with shared.client() as owner:
        owner.ctrl(call_of(Request.VALE_NEWIF, "v0", ValeNewif()))
        owner.ctrl(call_of(Request.VALE_ATTACH, "vale0:v0", ValeAttach(reg=Register(nr_mode=1))))
        owner.ctrl(call_of(Request.VALE_NEWIF, "v1", ValeNewif()))

        attach = ValeAttach(reg=Register(nr_mode=1))
        calls = [
            call_of(Request.VALE_DETACH, "vale0:v0", ValeDetach()),
            call_of(Request.VALE_ATTACH, "vale0:v1", attach),
            call_of(Request.VALE_DELIF, "v1"),
            call_of(Request.PORT_HDR_SET, "vale0:v0", PortHeader(nr_hdr_len=12)),
        ]

        def change() -> dict[str, Any]:
            with NetmapClient(shared.path) as client:
                told = {str(call.kind): errno_of(client.ctrl, call) for call in calls}
                return told | {"open": errno_of(client.register, "v1")}

        assert set(as_nobody(change, lambda: None).values()) == {"EPERM"}
        owner.ctrl(call_of(Request.VALE_DETACH, "vale0:v0", ValeDetach()))
        for name in ("v0", "v1"):
            owner.ctrl(call_of(Request.VALE_DELIF, name))


def test_a_user_leaves_switches_to_others(shared: RunningDaemon) -> None:
    kept: list[NetmapClient] = []

    def take() -> dict[str, Any]:
        for number in range(9):
            kept.append(NetmapClient(shared.path))
            if error := errno_of(kept[-1].register, f"vale{number}:x", nr_tx_slots=16, nr_rx_slots=16):
                return {"error": error}
        return {"error": ""}

    def others_work() -> None:
        with shared.client() as owner:
            owner.register("vale9:mine")

    assert as_nobody(take, others_work) == {"error": "ENOMEM"}
    assert "has made 4 switches, its share" in shared.end()


def test_an_isolated_port_that_a_program_has_joins_no_switch(shared: RunningDaemon) -> None:
    attach = call_of(Request.VALE_ATTACH, "vale0:ix1", ValeAttach(reg=Register(nr_mode=1)))
    with shared.client() as program, shared.client() as operator:
        program.register("ix1")
        assert errno_of(operator.ctrl, attach) == "EBUSY"
        program.send([bytes(60)])
    wait_for(lambda: not shared.status()["handles"], "the handles are still there")
    with shared.client() as operator:
        operator.ctrl(attach)
        assert errno_of(operator.register, "ix1") == "EBUSY"
