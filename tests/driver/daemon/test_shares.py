"""A user besides the daemon's own has a share of memory and handles, and cannot take what others need."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ixrings.driver.daemon.abi import Mode
from tests.support import netmap_programs
from tests.support.netmap_client import NetmapClient, RunningDaemon, daemon, errno_of
from tests.support.programs import wait_for
from tests.support.two_users import as_nobody

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
    netmap_programs.folder()

    def greedy() -> dict[str, Any]:
        kept, refused = [], ""
        for _ in range(5000):
            try:
                client = NetmapClient(shared.path)
            except OSError:
                break
            if (refused := errno_of(client.attach)) != "ENXIO":
                break
            kept.append(client)
        program = netmap_programs.run(shared.path, "nm_rx", "-i", "netmap:ix0").stderr
        return {"handles": len(kept), "refused": refused, "program": program}

    def others_work() -> None:
        with shared.client() as owner:
            owner.register("ix1")

    told = as_nobody(greedy, others_work)
    assert told["handles"] > 1
    assert told["refused"] == "ENOMEM"  # as netmap's open() fails without memory for a handle
    assert os.strerror(errno.ENOMEM) in told["program"]
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


def test_a_region_of_another_user_is_refused_by_its_number(shared: RunningDaemon) -> None:
    with shared.client() as client:
        number = client.register("vale1:mine").nr_mem_id

        def work() -> dict[str, Any]:
            with shared.client() as theirs:
                return {
                    "null": errno_of(theirs.register, "x", Mode.NULL, nr_mem_id=number, nr_tx_rings=1, nr_tx_slots=64),
                    "switch": errno_of(theirs.register, "vale1:theirs", nr_mem_id=number),
                    "pipe": errno_of(theirs.register, "theirs{1", nr_mem_id=number),
                    "NIC": errno_of(theirs.register, "ix0", nr_mem_id=number),
                    "own": errno_of(theirs.register, "ix0"),
                }

        refused = as_nobody(work, lambda: None)
    assert refused == {"null": "EPERM", "switch": "EPERM", "pipe": "EPERM", "NIC": "EPERM", "own": ""}
