"""How a daemon starts and ends, and whom it serves."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ixrings.driver.daemon.abi import Mode
from tests.support.netmap_client import COMMAND, NetmapClient, RunningDaemon, daemon, errno_of, times
from tests.support.programs import ENVIRONMENT, wait_for

pytestmark = pytest.mark.slow  # each test starts a daemon
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


def test_sigterm_ends_it_clean_and_its_programs_get_an_error(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as client:
        client.register("ix0")
        shown = run("--status", "--socket", running.path)
        assert "1 of 1 rings in use" in shown.stdout
        assert json.loads(run("--status", "--json", "--socket", running.path).stdout)["handles"][0]["port"] == "ix0"
        second = run("ix0=emulated", "--socket", running.path)
        assert second.returncode == 1
        assert "another server listens at" in second.stderr
        running.end()
        assert not os.path.exists(running.path)
        assert errno_of(client.txsync) == "ENXIO"


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(tmp_path / "netmap.sock"))
    with daemon(tmp_path, "ix0=emulated") as running:
        running.process.send_signal(signal.SIGINT)
        running.process.communicate(timeout=30)
        assert running.process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give the daemon a port, such as: ixrings daemon ix0="),
        (("ix0=emulated", "ix0=emulated"), "give each port a name of its own"),
        (("ix0=emulated", "--allow", "ix1=root"), "there is no port ix1; write one of ix0"),
        (("ix0=emulated", "--isolate", "ix1"), "there is no port ix1; write one of ix0"),
        (("ix0=emulated", "--group", "no-such-group"), "there is no group 'no-such-group'"),
        (("ix0=emulated", "--memory", "1"), "--memory 1 is too little"),
        (("--status",), "no daemon listens there"),
    ],
)
def test_wrong_arguments_get_a_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = run(*arguments, "--socket", str(tmp_path / "s"))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_systemd_gives_the_socket_and_gets_ready(tmp_path: Path) -> None:
    path, notify = str(tmp_path / "given.sock"), str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as given,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        given.bind(path)
        given.listen()
        told.bind(notify)
        told.settimeout(30)
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", start, str(given.fileno()), *COMMAND[1:], "ix0=emulated", "--memory", "16"],
            env={**ENVIRONMENT, "LISTEN_FDS": "1", "NOTIFY_SOCKET": notify}, pass_fds=[given.fileno(), 3],
        )  # fmt: skip
        try:
            assert b"READY=1" in told.recv(4096)
            assert RunningDaemon(process, path).status()["ports"][0]["name"] == "ix0"  # type: ignore[arg-type]
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def as_nobody(running: RunningDaemon, *names: str) -> str:
    """What user nobody gets who registers these ports. In a fork: that user cannot read our files."""
    theirs, ours = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(ours, registered(running.path, names).encode())
        finally:
            os._exit(0)
    os.close(ours)
    with os.fdopen(theirs) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return answer


def registered(path: str, names: tuple[str, ...]) -> str:
    try:
        client = NetmapClient(path)
    except OSError as error:
        return f"connect: {errno.errorcode[error.errno or 0]}"
    return " ".join(errno_of(client.register, name) or "opened" for name in names)


@AS_ROOT
def test_another_user_opens_what_is_allowed() -> None:
    folder = Path("/tmp") / f"ixrings-test-{os.getpid()}"  # pytest's own folders are closed to other users
    folder.mkdir(mode=0o755)
    try:
        ports = ("ix0=emulated", "ix1=emulated", "--mode", "0666", "--allow", f"ix1={pwd.getpwuid(0).pw_name}")
        with daemon(folder, *ports) as running:
            assert as_nobody(running, "ix1", "ix0") == "EPERM opened"
            wait_for(lambda: not running.status()["handles"], "the handle is still there")
            log = running.end()
            assert "may not open ix1. To allow it: --allow ix1=" in log
        with daemon(folder, "ix0=emulated") as running:
            assert as_nobody(running, "ix0") == "connect: EACCES"
    finally:
        shutil.rmtree(folder)


def test_an_idle_daemon_with_waiting_programs_takes_no_time(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as client:
        client.register("ix0", Mode.ALL_NIC)
        client.poll(1, 0.2)
        before = times(running)
        client.poll(1, 1.5)
        assert times(running) - before < 0.3


def test_programs_of_a_nic_that_is_gone_hear_of_it_while_others_keep_the_daemon_busy(tmp_path: Path) -> None:
    ended = threading.Event()

    def keep_busy(client: NetmapClient) -> None:
        while not ended.is_set():
            client.rxsync()

    with daemon(tmp_path, "ix0=emulated@fault=removal+3000", "ix1=emulated") as running:
        with running.client() as waits, running.client() as busy:
            waits.register("ix0")
            busy.register("ix1")
            thread = threading.Thread(target=keep_busy, args=(busy,))
            thread.start()
            try:
                wait_for(lambda: "gone" in running.status()["ports"][0], "the NIC does not go", 20)
                wait_for(lambda: errno_of(waits.rxsync) == "ENXIO", "the program hears nothing", 20)
                with running.client() as late:
                    assert errno_of(late.register, "ix0") == "ENXIO"
            finally:
                ended.set()
                thread.join()
        running.wait_until_nobody_has_buffers()
        assert "no longer answers" in running.end()


def test_each_program_has_a_handle_of_its_own(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running:
        clients: list[NetmapClient] = [running.client() for _ in range(20)]
        for client in clients:
            client.register("ix0")
        assert len(running.status()["handles"]) == 20
        for client in clients:
            client.close()
        running.wait_until_nobody_has_buffers()


def test_a_close_with_unsent_frames_does_not_hold_up_other_programs(tmp_path: Path) -> None:
    shares = []
    with daemon(tmp_path, "ix0=emulated", "ix1=emulated:cable=alone") as running, running.client() as other:
        other.register("ix0")
        for _ in range(7):
            closing, longest = running.client(), 0.0
            closing.register("ix1")
            closing.send([bytes(60)] * 20)  # the link is down, so they are never sent
            with ThreadPoolExecutor(1) as pool:
                start = time.perf_counter()
                closing.close()
                status = pool.submit(lambda: (running.status(), time.perf_counter())[1])  # is answered after the close
                while not status.done():
                    before = time.perf_counter()
                    other.txsync()
                    longest = max(longest, time.perf_counter() - before)
                shares.append(longest / (status.result() - start))
    assert sorted(shares)[3] < 0.6, shares
