"""Netmap programs in C, which know nothing of ixrings, on the NICs of one daemon: tests/netmap."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import netmap_programs as programs
from tests.support.netmap_client import RunningDaemon, daemon
from tests.support.netmap_programs import answer, run, started
from tests.support.programs import ENVIRONMENT, wait_for

OPTIONS = ("--no-host", "--tx-queues", "2", "--rx-queues", "2", "--slots", "256")
GOOD = {"lost": 0, "reordered": 0, "damaged": 0, "foreign": 0}
FITS = 240  # frames that a ring holds, so none is lost when its receiver gets no processor


@pytest.fixture(scope="module")
def served() -> Iterator[RunningDaemon]:
    """loop0: its frames come back. a0 and a1: joined by a cable. All users may connect, but a1 is root's."""
    yield from running("loop0=emulated", "a0=emulated:cable=a", "a1=emulated:cable=a")


@pytest.fixture(scope="module")
def with_two_cables() -> Iterator[RunningDaemon]:
    """Also b0 and b1, joined by another cable."""
    yield from running("loop0=emulated", *(f"{end}{i}=emulated:cable={end}" for end in "ab" for i in range(2)))


def running(*ports: str) -> Iterator[RunningDaemon]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with daemon(Path(folder), *ports, *OPTIONS, "--mode", "0666", "--allow", "a1=root", memory=128) as served:
            yield served
            served.wait_until_nobody_has_buffers()
            served.end()


def as_nobody() -> list[str]:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can run a program as another user")
    for folder in (place := Path(tempfile.gettempdir()), *place.parents):
        if not folder.stat().st_mode & 0o001:
            pytest.skip(f"another user cannot enter {folder}, where temporary files are")
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


# ---- two programs and a cable ----


@pytest.mark.parametrize(
    ("sends", "receives"), [("poll", "epoll"), ("select", "busy"), ("epoll", "select"), ("busy", "poll")]
)
def test_a_program_sends_to_another_one_by_each_way_to_wait(served: RunningDaemon, sends: str, receives: str) -> None:
    with started(served.path, "nm_rx", "-i", "netmap:a1", "-n", 1000, "-w", receives, "-dA") as receiver:
        sent = answer(served.path, "nm_tx", "-i", "netmap:a0", "-n", 1000, "-w", sends, "-A")
        assert sent["frames"] == 1000 and not sent["pending"] and not sent["errors"]
        assert receiver.result().items() >= {"frames": 1000, "bytes": 60_000, **GOOD}.items()


def test_each_queue_has_a_program_of_its_own(served: RunningDaemon) -> None:
    with ExitStack() as stack:
        receiver = stack.enter_context(started(served.path, "nm_rx", "-i", "netmap:a1/R", "-n", FITS))
        senders = [
            stack.enter_context(started(served.path, "nm_tx", "-i", f"netmap:a0-{k}/Tx", "-n", FITS // 2, "-s", 10 * k))
            for k in range(2)
        ]
        assert [sender.result()["frames"] for sender in senders] == [FITS // 2] * 2
        assert receiver.result().items() >= {"frames": FITS, **GOOD}.items()


@pytest.mark.slow
@pytest.mark.parametrize("copying", [False, True], ids=["by swapping buffers", "by copying"])
def test_a_bridge_joins_two_cables(with_two_cables: RunningDaemon, copying: bool) -> None:
    served = with_two_cables
    with ExitStack() as stack:
        receiver = stack.enter_context(started(served.path, "nm_rx", "-i", "netmap:b1", "-n", 400, "-A"))
        bridge = stack.enter_context(
            started(served.path, "nm_bridge", "-i", "netmap:a1", "-i", "netmap:b0", *["-c"] * copying)
        )
        assert bridge.process.stdout is not None
        assert '"b0"' in bridge.process.stdout.readline()
        answer(served.path, "nm_tx", "-i", "netmap:a0", "-n", 400, "-l", 1500, "-A")
        assert receiver.result().items() >= {"frames": 400, "bytes": 600_000, **GOOD}.items()
        done = bridge.interrupt()
        assert done.items() >= {"there": 400, "swapped": not copying, "errors": 0}.items() and done["back"] > 0


# ---- one program ----


@pytest.mark.slow
def test_ixrings_run_starts_a_program(served: RunningDaemon) -> None:
    command = [
        sys.executable,
        "-m",
        "ixrings",
        "run",
        "--socket",
        served.path,
        *programs.command("nm_threads", "-i", "loop0"),
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and '"frames": 10000' in done.stdout, done.stderr


@pytest.mark.parametrize("mode", ["handle", "poll", "queues"])
def test_threads_send_and_receive_at_once(served: RunningDaemon, mode: str) -> None:
    frames = 2000 * (2 if mode == "queues" else 1)
    assert (
        answer(served.path, "nm_threads", "-i", "loop0", "-m", mode, "-n", 2000).items() >= {"frames": frames}.items()
    )


@pytest.mark.parametrize("mode", ["dup", "fork", "exec", "send"])
def test_a_descriptor_goes_on_in_other_hands(served: RunningDaemon, mode: str) -> None:
    with started(served.path, "nm_rx", "-i", "netmap:a1", "-n", 200) as receiver:
        assert answer(served.path, "nm_pass", "-i", "netmap:a0", "-m", mode, "-n", 100) == {"passed": True}
        assert receiver.result().items() >= {"frames": 200, **GOOD}.items()


@pytest.mark.parametrize("keep", [False, True], ids=["and gives them back", "and keeps them"])
def test_a_program_sends_from_extra_buffers(served: RunningDaemon, keep: bool) -> None:
    with started(served.path, "nm_rx", "-i", "netmap:a1", "-n", FITS) as receiver:
        extra = answer(served.path, "nm_extra", "-i", "netmap:a0", "-e", 100, "-n", FITS, *["-k"] * keep)
        assert extra == {"frames": FITS, "buffers": 100}
        assert receiver.result().items() >= {"frames": FITS, **GOOD}.items()
    served.wait_until_nobody_has_buffers()


TOPICS = (
    "headers", "registration", "options", "info", "legacy", "views", "exclusive", "syncs", "interface", "pipes",
    "switch", "offsets", "memory",
)  # fmt: skip


@pytest.mark.parametrize("topic", TOPICS)
def test_requests_are_answered_as_netmap_does(served: RunningDaemon, topic: str) -> None:
    done = run(served.path, "nm_ctrl", "-i", "loop0", topic)
    assert [line for line in done.stdout.splitlines() if line.startswith("not ok")] == []
    assert done.returncode == 0 and "\n1.." in done.stdout, done.stderr


# ---- ports without a NIC ----


@pytest.mark.parametrize(("sends", "receives"), [
    ("loop0{p", "loop0}p"),  # a pipe of a NIC
    ("loop0}p", "loop0{p"),
    ("nobody{p", "nobody}p"),  # a pipe of nothing
    ("vale1:s", "vale1:r"),  # two ports of a switch
])  # fmt: skip
@pytest.mark.parametrize(
    "length", [pytest.param(60, marks=pytest.mark.slow), 9000], ids=["a slot a frame", "several slots a frame"]
)
def test_frames_pass_pipes_and_the_switch(served: RunningDaemon, sends: str, receives: str, length: int) -> None:
    with started(served.path, "nm_rx", "-i", receives, "-n", 1000, "-A") as receiver:
        answer(served.path, "nm_tx", "-i", sends, "-n", 1000, "-l", length, "-A")
        assert receiver.result().items() >= {"frames": 1000, "bytes": 1000 * length, **GOOD}.items()


def test_a_bridge_joins_a_nic_a_pipe_and_a_switch(served: RunningDaemon) -> None:
    with ExitStack() as stack:
        receiver = stack.enter_context(started(served.path, "nm_rx", "-i", "vale1:r", "-n", 500, "-A"))
        for ends in (("a1", "loop0{q"), ("loop0}q", "vale1:s")):
            bridge = stack.enter_context(started(served.path, "nm_bridge", "-i", ends[0], "-i", ends[1]))
            assert bridge.process.stdout is not None
            bridge.process.stdout.readline()
        answer(served.path, "nm_tx", "-i", "netmap:a0", "-n", 500, "-A")
        assert receiver.result().items() >= {"frames": 500, **GOOD}.items()


@pytest.mark.parametrize(("suffix", "frames"), [("/r", FITS), ("/t", 0), ("/rt", FITS)])
def test_a_monitor_shows_what_a_program_receives(served: RunningDaemon, suffix: str, frames: int) -> None:
    with ExitStack() as stack:
        receiver = stack.enter_context(started(served.path, "nm_rx", "-i", "netmap:a1", "-n", FITS))
        monitor = stack.enter_context(started(served.path, "nm_rx", "-i", f"netmap:a1{suffix}", "-n", 0))
        answer(served.path, "nm_tx", "-i", "netmap:a0", "-n", FITS)
        assert receiver.result().items() >= {"frames": FITS, **GOOD}.items()
        seen = monitor.interrupt(status=None)  # POLLERR, if it has noticed that the receiver has ended
        assert seen["frames"] <= frames and seen["damaged"] == seen["reordered"] == 0


# ---- other users ----


def test_another_user_sends_where_the_daemon_allows_it(served: RunningDaemon) -> None:
    before = as_nobody()
    assert answer(served.path, "nm_tx", "-i", "netmap:loop0", "-n", 100, before=before)["frames"] == 100
    done = run(served.path, "nm_tx", "-i", "netmap:a1", "-n", 100, before=before)
    assert (done.returncode, done.stderr) == (1, "netmap:a1 cannot be registered: Operation not permitted\n")


@pytest.mark.slow
def test_another_user_is_refused_by_default() -> None:
    before = as_nobody()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with daemon(Path(folder), "ix0=emulated", "--no-host", "--slots", "64") as running:
            done = run(running.path, "nm_tx", "-i", "netmap:ix0", before=before)
            assert (done.returncode, done.stderr) == (1, "/dev/netmap cannot be opened: Permission denied\n")


# ---- programs that die or stand still ----


def test_a_killed_program_keeps_no_buffer_and_stops_nobody(served: RunningDaemon) -> None:
    with started(served.path, "nm_rx", "-i", "netmap:a1", "-n", 0, "-a") as receiver:
        for stream in (10, 20, 30):  # of its own: each sender counts from 0
            with started(served.path, "nm_tx", "-i", "netmap:a0-0", "-n", 0, "-s", stream) as sender:
                sender.process.kill()
        answer(served.path, "nm_tx", "-i", "netmap:a0", "-n", 100)
        assert receiver.interrupt()["damaged"] == 0
    served.wait_until_nobody_has_buffers()


def test_a_program_that_stands_still_stops_nobody(served: RunningDaemon) -> None:
    with started(served.path, "nm_tx", "-i", "netmap:loop0", "-n", 0) as sender:
        sender.process.send_signal(signal.SIGSTOP)
        try:
            with started(served.path, "nm_rx", "-i", "netmap:a1", "-n", FITS) as receiver:
                answer(served.path, "nm_tx", "-i", "netmap:a0", "-n", FITS)
                assert receiver.result()["frames"] == FITS
        finally:
            sender.process.send_signal(signal.SIGCONT)
        assert sender.interrupt()["errors"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_buffer_is_lost_by_programs_that_are_killed_or_stopped_at_random(
    with_two_cables: RunningDaemon, seed: int
) -> None:
    """A sender, a bridge and a receiver are killed or stopped at random moments, and started again."""
    served = with_two_cables
    moments = random.Random(seed)
    roles: dict[str, tuple[str, ...]] = {
        "sends": ("nm_tx", "-i", "netmap:a0", "-n", "0"),
        "forwards": ("nm_bridge", "-i", "netmap:a1", "-i", "netmap:b0"),
        "receives": ("nm_rx", "-i", "netmap:b1", "-n", "0", "-a", "-t", "60"),
        "keeps buffers": ("nm_extra", "-i", "netmap:loop0", "-e", "200", "-n", "10000000"),
    }
    for _ in range(15):
        with ExitStack() as stack:
            running = {role: stack.enter_context(started(served.path, *line)) for role, line in roles.items()}
            assert served.buffers()["programs"] > 0
            time.sleep(moments.uniform(0, 0.05))
            for role in moments.sample(list(running), moments.randint(1, len(running))):
                process = running[role].process
                if moments.random() < 0.5:
                    process.send_signal(signal.SIGSTOP)
                    time.sleep(moments.uniform(0, 0.02))
                process.kill()
                process.wait(timeout=30)
            assert served.buffers()["total"] > 0
        served.wait_until_nobody_has_buffers()
    with started(served.path, "nm_rx", "-i", "netmap:a1", "-n", FITS) as receiver:
        answer(served.path, "nm_tx", "-i", "netmap:a0", "-n", FITS)
        assert receiver.result().items() >= {"frames": FITS, **GOOD}.items()


@pytest.mark.slow
def test_programs_survive_the_daemons_sigstop(served: RunningDaemon) -> None:
    moments = random.Random(5)
    with started(served.path, "nm_rx", "-i", "netmap:a1", "-n", 4000, "-A") as receiver:
        with started(served.path, "nm_tx", "-i", "netmap:a0", "-n", 4000, "-r", 4000, "-A") as sender:
            for _ in range(10):
                served.process.send_signal(signal.SIGSTOP)
                time.sleep(moments.uniform(0, 0.05))
                served.process.send_signal(signal.SIGCONT)
                time.sleep(moments.uniform(0, 0.05))
            assert sender.result()["frames"] == 4000
        assert receiver.result().items() >= {"frames": 4000, **GOOD}.items()


@pytest.mark.slow
def test_programs_end_with_an_error_when_the_daemon_is_killed(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, "ix0=emulated:sink", "ix1=emulated:source", "--no-host", "--slots", "64") as killed,
        ExitStack() as stack,
    ):
        sender = stack.enter_context(started(killed.path, "nm_tx", "-i", "netmap:ix0", "-n", 0, "-t", 1))
        receiver = stack.enter_context(started(killed.path, "nm_rx", "-i", "netmap:ix1", "-n", 0, "-t", 1))
        killed.process.kill()
        for program in (sender, receiver):
            program.process.wait(timeout=30)
            assert program.process.returncode == 1


@pytest.mark.slow
def test_sixteen_programs_come_and_go_on_one_nic(served: RunningDaemon) -> None:
    before = served.buffers()
    for _ in range(3):
        with ExitStack() as stack:
            senders = [
                stack.enter_context(started(served.path, "nm_tx", "-i", f"netmap:loop0-{k % 2}/T", "-n", 500, "-s", k))
                for k in range(16)
            ]
            assert len(served.status()["handles"]) <= 16
            assert [sender.result()["frames"] for sender in senders] == [500] * 16
        wait_for(lambda: not served.status()["handles"], "handles are left", 20)
    assert served.buffers() == before
