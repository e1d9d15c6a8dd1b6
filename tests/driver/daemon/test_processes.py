"""Processes that have the same number are not taken for one: each has its own buffers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.netmap_client import NetmapClient, RunningDaemon, daemon
from tests.support.programs import wait_for
from tests.support.two_users import as_nobody

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
TRIES = 50

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to choose PIDs and to be two users")


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[tuple[int, str]]:
    """A fork that does `work`, and keeps what it has open until the end. Gives its PID and "1", or "" if it failed."""
    (theirs, ours), (end, go) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(go)
            work()
            os.write(ours, b"1")
            os.read(end, 1)
        finally:
            os._exit(0)
    os.close(ours)
    try:
        yield child, os.read(theirs, 1).decode()
    finally:
        for fd in (theirs, go, end):
            os.close(fd)
        os.waitpid(child, 0)


def leave_a_handle(path: str) -> tuple[int, int]:
    """A process registers ix0 and ends; its child keeps the handle. The ended one's PID, and what ends the child."""
    (theirs, ours), (end, go) = os.pipe(), os.pipe()
    parent = os.fork()
    if not parent:
        try:
            os.close(go)
            client = NetmapClient(path)
            client.register("ix0")
            if not os.fork():
                os.read(end, 1)
                os._exit(0)
            os.write(ours, b"1")
        finally:
            os._exit(0)
    os.close(ours)
    os.close(end)
    registered = os.read(theirs, 1)
    os.close(theirs)
    os.waitpid(parent, 0)
    assert registered, "the process could not register"
    return parent, go


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason=f"cannot write {LAST_PID}")
def test_a_process_with_the_pid_of_an_ended_one_has_its_own_buffers(running: RunningDaemon) -> None:
    pid, go = leave_a_handle(running.path)

    def register() -> None:
        if os.getpid() == pid:
            clients.append(NetmapClient(running.path))
            clients[0].register("ix1")

    clients: list[NetmapClient] = []  # of the fork, so that its handle stays open
    try:
        for _ in range(TRIES):  # another program may take the PID first
            LAST_PID.write_text(str(pid - 1))
            with forked(register) as (child, done):
                if child != pid:
                    continue
                assert done, "the second process could not register"
                status = running.status()
                assert [handle["pid"] for handle in status["handles"]] == [pid, pid]
                assert [zone["pids"] for zone in status["buffers"]["zones"]] == [[pid], [pid]]
                break
        else:
            pytest.skip(f"{TRIES} times another program had the PID")
    finally:
        os.close(go)
    running.wait_until_nobody_has_buffers()


@pytest.mark.slow
def test_users_whose_pids_the_daemon_cannot_see_have_their_own_buffers() -> None:
    inside = ("unshare", "--pid", "--fork", "--kill-child")
    with tempfile.TemporaryDirectory(prefix="ixrings-pids-") as folder:  # pytest's are closed to other users
        os.chmod(folder, 0o755)
        options = ("--slots", "64", "--mode", "0666")
        with (
            daemon(Path(folder), "ix0=emulated", "ix1=emulated", *options, inside=inside) as running,
            running.client() as ours,
        ):
            ours.register("ix0")

            def register() -> dict[str, str]:
                client.append(NetmapClient(running.path))
                client[0].register("ix1")
                return {}

            def look() -> None:
                status = running.status()
                assert [handle["pid"] for handle in status["handles"]] == [0, 0]
                assert [zone["pids"] for zone in status["buffers"]["zones"]] == [[0], [0]]

            client: list[NetmapClient] = []
            as_nobody(register, look)
            wait_for(lambda: len(running.status()["handles"]) == 1, "the handle of user nobody is still there", 20)
