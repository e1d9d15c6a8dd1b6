"""Netmap programs in C, unchanged, on the daemon's ports: the preload library, and `ixrings run`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ixrings.driver.cli.executable import examine
from tests.support.netmap_client import RunningDaemon, daemon
from tests.support.netmap_programs import HEADER, environment
from tests.support.programs import ENVIRONMENT, ROOT

SOURCES = ROOT / "tests/rings/shim"
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{HEADER}"]
IXRINGS = [sys.executable, "-c", "from ixrings.driver.cli import program; program()"]
WAYS = (
    *("sync", "poll", "ppoll", "checked", "select", "pselect", "epoll", "epoll2", "legacy"),
    *("threads", "fork", "exec", "pass", "handoff"),
)
PROGRAMS = ("transfer", "behaviour", "epoll", "processes", "kloop")
TESTS = [
    (program, test)
    for program in ("behaviour", "epoll", "processes")
    for test in re.findall(r"TEST\((\w+)\),", (SOURCES / f"{program}.c").read_text())
    if test != "the_daemon_ends"
]
SLOW = {"children_know_only_handles_that_they_have", "cancelled_threads_keep_no_handle_open"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled programs."""
    folder = tmp_path_factory.mktemp("programs")
    compilers = [
        subprocess.Popen(["cc", *FLAGS, "-o", folder / name, SOURCES / f"{name}.c", "-lpthread"]) for name in PROGRAMS
    ]
    assert [compiler.wait(timeout=60) for compiler in compilers] == [0] * len(PROGRAMS)
    return folder


def run(running: RunningDaemon, *command: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The program as `ixrings run` starts it."""
    return subprocess.run(
        list(map(str, command)),
        env=environment(running.path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.parametrize("way", WAYS)
def test_frames_come_back_to_a_c_program_whatever_it_waits_with(
    running: RunningDaemon, programs: Path, way: str
) -> None:
    done = run(running, programs / "transfer", "ix0", 2000, way)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("program", "test"),
    [pytest.param(*each, id=each[1], marks=[pytest.mark.slow] * (each[1] in SLOW)) for each in TESTS],
)
def test_a_handle_behaves_as_netmaps(running: RunningDaemon, programs: Path, program: str, test: str) -> None:
    done = run(running, programs / program, "ix0", test)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("way", ["time", "kicks"])
def test_a_loop_syncs_for_a_program_in_csb_mode(running: RunningDaemon, programs: Path, way: str) -> None:
    done = run(running, programs / "kloop", "ix0", 2000, way)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("killed", [pytest.param(False, marks=pytest.mark.slow), True], ids=["stopped", "killed"])
def test_a_program_learns_that_the_daemon_has_gone(tmp_path: Path, programs: Path, killed: bool) -> None:
    with daemon(tmp_path, "ix0=emulated", "--slots", "64") as running:
        program = subprocess.Popen(
            [programs / "behaviour", "ix0", "the_daemon_ends"],
            env=environment(running.path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert program.stdout is not None and program.stdout.readline() == "waiting\n"
            running.process.kill() if killed else running.process.terminate()
            _, errors = program.communicate(timeout=30)
        finally:
            program.kill()
            program.communicate()
    assert (program.returncode, errors) == (0, "")


def ixrings(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*IXRINGS, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


def test_run_starts_a_program_with_its_arguments(running: RunningDaemon, programs: Path) -> None:
    done = ixrings("run", "--socket", running.path, programs / "transfer", "ix0", 10, "poll")
    assert (done.returncode, done.stderr) == (0, "")


def test_run_says_that_no_daemon_is_there(tmp_path: Path) -> None:
    done = ixrings("run", "--socket", tmp_path / "none", "true")
    assert done.returncode == 1
    assert done.stderr.startswith(f"ixrings: {tmp_path / 'none'}: no daemon listens there")


def test_programs_that_cannot_be_preloaded_are_named(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    for name, *flags in (("dynamic",), ("static", "-static")):
        subprocess.run(["cc", *flags, "-o", tmp_path / name, tmp_path / "main.c"], check=True, timeout=60)
    assert examine(str(tmp_path / "dynamic")).why_not == ""
    assert examine(str(tmp_path / "static")).why_not == f"{tmp_path / 'static'} is statically linked"
    shutil.copy(tmp_path / "dynamic", tmp_path / "setuid")
    if os.geteuid() == 0:  # only root can give a file to another user
        os.chown(tmp_path / "setuid", 65534, -1)
        (tmp_path / "setuid").chmod(0o4755)
        assert "is setuid" in examine(str(tmp_path / "setuid")).why_not


def test_a_script_is_judged_by_its_interpreter(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/usr/bin/env -S sh -e\n")
    found = shutil.which("sh")
    assert examine(str(tmp_path / "script")).path == found
