"""Runs examples and other programs as a user does, each in its own process, and always ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / '.package'}:{ROOT}"}
Process = subprocess.Popen[str]


def command(name: str, *arguments: object) -> list[str]:
    """The command line of examples/NAME.py."""
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


def run_example(name: str, *arguments: object, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(name, *arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)


def first_line(process: Process) -> str:
    """The next line of its output; "" at the end. It reads no further: communicate() would lose what is buffered."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    return line.decode()


@contextmanager
def started(arguments: list[str]) -> Iterator[Process]:
    """The program runs within the context; at its end the program is killed if it still runs."""
    process = subprocess.Popen(
        arguments, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def interrupt(process: Process, timeout: float = 30) -> tuple[str, str]:
    """Press Ctrl-C and wait for the end of the program. Returns its stdout and stderr."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=timeout)


def wait_for(what: Callable[[], object], sentence: str, timeout: float = 30) -> None:
    """Wait until `what()` is true. Raises AssertionError with `sentence` after the timeout."""
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, f"{sentence} after {timeout} s"
        time.sleep(0.005)


def has_loaded(process: Process, library: str) -> bool:
    """Whether the program has mapped a file with `library` in its path."""
    try:
        return library in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False


def handles_interrupt(process: Process) -> bool:
    """Whether the program catches SIGINT at this moment (proc(5), SigCgt)."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(caught) and bool(int(caught[0], 16) >> signal.SIGINT - 1 & 1)


def wait_until_it_has_begun(process: Process) -> None:
    """Wait until the interpreter has started and the first lines of the example, or of `ixrings`, have run.

    The interpreter catches SIGINT; these lines restore the default.
    """
    wait_for(lambda: handles_interrupt(process) or has_loaded(process, "numpy"), "Python has not started")
    wait_for(lambda: not handles_interrupt(process) or has_loaded(process, "numpy"), "the program has not started")
