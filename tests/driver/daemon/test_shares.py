"""A user besides the daemon's own has a share of memory and handles, and cannot take what others need."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ixrings.driver.daemon.abi import Mode
from tests.support.netmap_client import NetmapClient, RunningDaemon, daemon, errno_of
from tests.support.programs import wait_for

pytestmark = [
    pytest.mark.slow,  # each test starts a daemon
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users"),
]

BROADCAST = b"\xff" * 6 + bytes(54)


@pytest.fixture
def shared() -> Iterator[RunningDaemon]:
    """A daemon that serves every user: NICs with rings of 64 slots, ix2 isolated, and 48 MB of memory."""
    with tempfile.TemporaryDirectory(prefix="ixrings-shares-") as folder:  # pytest's are closed to other users
        os.chmod(folder, 0o755)
        options = ("--slots", "64", "--mode", "0666", "--user-share", "40", "--isolate", "ix2")
        with daemon(Path(folder), "ix0=emulated", "ix1=emulated", "ix2=emulated", *options, memory=48) as running:
            yield running


def as_nobody(work: Callable[[], dict[str, Any]], meanwhile: Callable[[], None]) -> dict[str, Any]:
    """What `work` returns in a process of user nobody, which keeps what it has open during `meanwhile`."""
    (theirs, ours), (end, go) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(go)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(ours, json.dumps(work()).encode() + b"\n")
            os.read(end, 1)
        finally:
            os._exit(0)
    os.close(ours)
    with os.fdopen(theirs) as told:
        answer = told.readline()
        if answer:
            meanwhile()
    os.close(go)
    os.close(end)
    os.waitpid(child, 0)
    assert answer, "the process of user nobody failed"
    found: dict[str, Any] = json.loads(answer)
    return found


def test_an_allowed_user_takes_no_more_than_its_share(shared: RunningDaemon) -> None:
    before = shared.buffers()
    kept: list[NetmapClient] = []

    def take(*arguments: Any, **more: Any) -> str:
        """Open until it fails, and keep what was opened. Returns the error."""
        for number in range(300):
            try:
                kept.append(NetmapClient(shared.path))
            except OSError:
                return "connect"
            if error := errno_of(kept[-1].register, arguments[0].format(number), *arguments[1:], **more):
                kept.pop().close()
                return error
        return ""

    def greedy() -> dict[str, Any]:
        client = NetmapClient(shared.path)
        told: dict[str, Any] = {"extra": client.register("ix0", extra=1 << 20).nr_extra_bufs}
        kept.append(client)
        told["pipes"] = take("x{{{}")
        told["ports"] = take("vale7:{}")
        told["rings"] = take("n", Mode.NULL, nr_mem_id=1, nr_tx_rings=4, nr_tx_slots=2, nr_rx_slots=2)
        told["opens"] = len(kept)
        return told

    def others_work() -> None:
        with shared.client() as owner, shared.client() as pipe, shared.client() as port:
            assert owner.register("ix1", extra=2000).nr_extra_bufs == 2000
            pipe.register("mine{1")
            port.register("vale1:mine")

    told = as_nobody(greedy, others_work)
    assert told["extra"] == before["free"] * 40 // 100
    assert (told["pipes"], told["ports"]) == ("ENOMEM", "ENOMEM")
    shared.wait_until_nobody_has_buffers()
    assert shared.buffers() == before
    log = shared.end()
    assert "the share of user nobody" in log
    assert "--user-share" in log


def test_an_allowed_user_leaves_handles_to_others(shared: RunningDaemon) -> None:
    def greedy() -> dict[str, Any]:
        kept = []
        for _ in range(5000):
            try:
                client = NetmapClient(shared.path)
            except OSError:
                break
            if errno_of(client.attach) != "ENXIO":
                break
            kept.append(client)
        return {"handles": len(kept)}

    def others_work() -> None:
        with shared.client() as owner:
            owner.register("ix1")

    assert as_nobody(greedy, others_work)["handles"] > 1
    wait_for(lambda: not shared.status()["handles"], "handles are still there")
    assert "which --user-share sets" in shared.end()


def test_an_isolated_port_has_programs_of_one_user_at_a_time(shared: RunningDaemon) -> None:
    kept: list[NetmapClient] = []

    def first() -> dict[str, Any]:
        client = NetmapClient(shared.path)
        told = {"mem_id": client.register("ix2").nr_mem_id}
        client.send([BROADCAST])
        assert client.receive_until(1) == [BROADCAST]
        kept.append(client)
        return told

    def second() -> None:
        with shared.client() as other:
            assert errno_of(other.register, "ix2") == "EBUSY"

    assert as_nobody(first, second)["mem_id"] > 1
    wait_for(lambda: not shared.status()["handles"], "handles are still there")
    with shared.client() as other:
        other.register("ix2")
    assert "ix2 is isolated, and user nobody has it now" in shared.end()
