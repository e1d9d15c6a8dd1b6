"""Programs that are killed in the middle of traffic lose no buffer, and disturb nobody."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.netmap_client import RunningDaemon, daemon
from tests.support.programs import ENVIRONMENT, Process, wait_for

FRAME = bytes.fromhex("ffffffffffff0200000000010800") + bytes(46)
PORTS = ("ix0=emulated", "ix1=emulated:source", "--slots", "128", "--rx-queues", "2", "--tx-queues", "2")


@contextmanager
def victim(running: RunningDaemon, port: str, seed: int) -> Iterator[Process]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.netmap_victim", running.path, port, str(seed)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_program_loses_no_buffer(running: RunningDaemon) -> None:
    with victim(running, "ix0", 1) as process:
        assert running.buffers()["programs"] >= 4 * 64
        wait_for(lambda: running.status()["handles"][0]["syncs"] > 100, "the program does not sync", 20)
        assert process.poll() is None
    running.wait_until_nobody_has_buffers()
    with running.client() as client:
        client.register("ix0")
        client.send([FRAME] * 20)
        assert client.receive_until(20) == [FRAME] * 20


@pytest.mark.slow
def test_programs_are_killed_at_random_moments_and_no_buffer_is_lost(tmp_path: Path) -> None:
    chance = random.Random(7)
    with daemon(tmp_path, *PORTS) as running:
        for round_ in range(8):
            ports = [chance.choice(["ix0", "ix1"]) for _ in range(3)]
            with victim(running, ports[0], round_) as first, victim(running, ports[1], round_ + 100) as second:
                target = chance.randrange(50, 3000)
                wait_for(
                    lambda most=target: max(each["syncs"] for each in running.status()["handles"]) > most,  # type: ignore[misc]
                    "the programs do not sync",
                    20,
                )
                chance.choice([first, second]).kill()
                running.buffers()
            running.wait_until_nobody_has_buffers()
        with running.client() as client:
            client.register("ix0")
            client.send([FRAME] * 20)
            assert client.receive_until(20) == [FRAME] * 20
        running.end()


@pytest.mark.slow
def test_a_daemon_that_is_killed_leaves_its_programs_an_error(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as client:
        client.register("ix0")
        running.process.kill()
        running.process.wait()
        with pytest.raises(OSError, match="No such device or address"):
            client.rxsync()


@pytest.mark.slow
def test_a_program_that_is_stopped_holds_nobody_up(running: RunningDaemon) -> None:
    with victim(running, "ix0", 3) as stopped, running.client() as client:
        stopped.send_signal(signal.SIGSTOP)
        client.register("ix1")
        with running.client() as other:
            other.register("ix2")
            for _ in range(20):
                client.send([FRAME] * 20)
                assert other.receive_until(20) == [FRAME] * 20
    running.wait_until_nobody_has_buffers()
