"""The netmap programs of tests/netmap, compiled once a session, and run through the preloaded library."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ixrings.driver.cli.run import LIBRARY
from tests.support.programs import ENVIRONMENT, EXAMPLES, ROOT, first_line

SOURCES = ROOT / "tests" / "netmap"
HEADER = EXAMPLES / "labs" / "11_netmap_in_c"
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{HEADER}"]
PARTS = {"nm_ctrl": ["ctrl_requests.c", "ctrl_rings.c", "ctrl_soft.c", "ctrl_offsets.c", "ctrl_memory.c"]}
NAMES = ("nm_tx", "nm_rx", "nm_bridge", "nm_threads", "nm_pass", "nm_extra", "nm_forward", "nm_ctrl")
PATIENCE_S = 30.0


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """The compiled programs and the preload library. Other users may run them, wherever the sources lie."""
    made = tempfile.TemporaryDirectory(prefix="ixrings-netmap-")
    os.chmod(made.name, 0o755)
    shutil.copy(LIBRARY, made.name)
    finish([compiler(made.name, "-O1", "-c", "program.c", "-o", "program.o")])
    finish(
        [
            compiler(made.name, f"{name}.c", *PARTS.get(name, []), Path(made.name, "program.o"), "-o", name)
            for name in NAMES
        ]
    )
    for each in Path(made.name).iterdir():  # whatever the umask
        each.chmod(0o755)
    return made


def compiler(target: str, *arguments: str | Path) -> subprocess.Popen[str]:
    sources = [str(SOURCES / each) if str(each).endswith(".c") else str(each) for each in arguments]
    return subprocess.Popen(["cc", *FLAGS, *sources], cwd=target, stderr=subprocess.PIPE, text=True)


def finish(compilers: Sequence[subprocess.Popen[str]]) -> None:
    for each in compilers:
        _, errors = each.communicate(timeout=120)
        assert each.returncode == 0, errors


class Program:
    """A running program. first: the line that it prints as soon as its port is open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.first: dict[str, Any] = {}

    def wait_until_open(self) -> None:
        """Raises AssertionError with its error output if it ends before."""
        line = first_line(self.process)
        if not line:
            _, errors = self.process.communicate(timeout=PATIENCE_S)
            raise AssertionError(f"the program ended with {self.process.returncode}: {errors}")
        self.first = json.loads(line)

    def result(self, *, status: int | None = 0) -> dict[str, Any]:
        """Wait for its end, and return the last line that it printed. status: its exit status; None: any."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert status is None or self.process.returncode == status, (
            f"{self.process.args!r} ended with {self.process.returncode}: {errors}{output}"
        )
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        return found

    def interrupt(self, *, status: int | None = 0) -> dict[str, Any]:
        """Ctrl-C; returns as result()."""
        self.process.send_signal(signal.SIGINT)
        return self.result(status=status)


def command(name: str, *arguments: object) -> list[str]:
    return [str(Path(folder().name) / name), *map(str, arguments)]


def environment(socket: str) -> dict[str, str]:
    """What `ixrings run` gives to a program. A sanitizer stays in front, as it has to."""
    library = str(Path(folder().name) / LIBRARY.name)
    preload = ":".join(filter(None, (ENVIRONMENT.get("LD_PRELOAD"), library)))
    return {**ENVIRONMENT, "IXRINGS_SOCKET": socket, "LD_PRELOAD": preload}


@contextmanager
def started(socket: str, name: str, *arguments: object, before: Sequence[str] = ()) -> Iterator[Program]:
    """A program within the context, as soon as its port is open; it is killed at the end. before: a command that
    runs it."""
    process = subprocess.Popen(
        [*before, *command(name, *arguments)],
        env=environment(socket),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        program = Program(process)
        program.wait_until_open()
        yield program
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(socket: str, name: str, *arguments: object, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *command(name, *arguments)],
        env=environment(socket),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def answer(socket: str, name: str, *arguments: object, before: Sequence[str] = ()) -> dict[str, Any]:
    """Run a program to its end; the last line that it printed. Raises AssertionError if it failed."""
    done = run(socket, name, *arguments, before=before)
    assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
