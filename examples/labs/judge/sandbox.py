"""Runs a student's script with bounded time, memory and output, in a process of its own, and leaves no process."""

from __future__ import annotations

import ctypes
import os
import resource
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

MOST_OUTPUT = 256 * 1024  # bytes of stdout, and as many of stderr
MOST_MEMORY = 512 << 20  # bytes, in addition to the checker's own
MOST_FILE = 64 << 20
MOST_FILES = 512
PR_SET_CHILD_SUBREAPER = 36
STARTS_A_PROCESS = ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
REAP_S = 2.0  # for the end of processes that a script has left


class Ending(Enum):
    FINISHED = "finished"
    FAILED = "failed"  # an exception, or an exit code that is not 0
    KILLED = "was ended by a signal"
    TIMED_OUT = "was still running"
    TALKED_TOO_MUCH = "printed too much"


@dataclass
class Run:
    """How a script ended and what it printed. code: its exit code, or the signal's number. seconds: its run time."""

    ending: Ending
    code: int
    seconds: float
    output: str
    errors: str


@dataclass
class Stream:
    """What a script wrote to stdout or stderr."""

    fd: int
    data: bytearray = field(default_factory=bytearray)

    def read(self) -> bool:
        """Read a piece. Returns False at the end of the stream."""
        piece = os.read(self.fd, 65536)
        self.data += piece
        return bool(piece)

    def text(self) -> str:
        return self.data[:MOST_OUTPUT].decode("utf-8", "replace")


class Script:
    """A script's process. The constructor forks it and `run` starts it, so it shares nothing that the checker sets up
    in between. Only one Script may exist at a time."""

    def __init__(self, file: Path, nic_name: str, limit_s: float) -> None:
        self._limit_s = limit_s
        # Processes that a script leaves become our children, so stop() finds them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        go, self._go = os.pipe()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            become_script(file, nic_name, limit_s, go, out_end, err_end)
        for fd in (go, out_end, err_end):
            os.close(fd)
        self._out, self._err = Stream(out), Stream(err)

    def run(self) -> Run:
        """Start the script and wait until it ends or reaches a limit."""
        start = time.monotonic()
        with suppress(BrokenPipeError):
            os.write(self._go, b"!")
        status: int | None = None
        ending = Ending.TIMED_OUT
        open_streams = {stream.fd: stream for stream in (self._out, self._err)}
        while status is None and time.monotonic() - start < self._limit_s:
            for fd in select.select(list(open_streams), [], [], 0.01)[0]:
                if not open_streams[fd].read():
                    del open_streams[fd]
            pid, found = os.waitpid(self.pid, os.WNOHANG)
            status = found if pid else None
            if max(len(self._out.data), len(self._err.data)) > MOST_OUTPUT:
                ending = Ending.TALKED_TOO_MUCH
                break
            if not open_streams:
                time.sleep(0.002)
        seconds = time.monotonic() - start
        self.stop(status is not None)
        for stream in open_streams.values():
            while len(stream.data) <= MOST_OUTPUT and select.select([stream.fd], [], [], 0)[0] and stream.read():
                pass
        code = 0
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            ending = Ending.KILLED if code < 0 else Ending.FAILED if code else Ending.FINISHED
        return Run(ending, abs(code), seconds, self._out.text(), self._err.text())

    def stop(self, reaped: bool = False) -> None:
        """Kill the script and the processes that it left. A second call does nothing."""
        if not self.pid:
            return
        if not reaped:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.pid = 0
        end = time.monotonic() + REAP_S
        while (left := children()) and time.monotonic() < end:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)

    def close(self) -> None:
        self.stop()
        for fd in (self._go, self._out.fd, self._err.fd):
            os.close(fd)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


def children() -> list[int]:
    """The checker's child processes; all of them belong to the script."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


# ---- in the script's process ----


def become_script(file: Path, nic_name: str, limit_s: float, go: int, out: int, err: int) -> None:
    """Wait for a byte from `go`, run the script, and exit. Never returns."""
    code = 1
    try:
        os.setsid()
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, go)
        os.closerange(go + 1, MOST_FILES)
        if os.read(go, 1) != b"!":
            os._exit(0)
        os.close(go)
        set_limits(limit_s)
        sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        sys.argv = [str(file), nic_name]
        os.chdir(file.parent)
        code = exit_code_of(lambda: runpy.run_path(str(file), run_name="__main__"), file)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def exit_code_of(script: Callable[[], object], file: Path) -> int:
    try:
        script()
        return 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        print(explain_error(error, file), file=sys.stderr)
        return 1


def explain_error(error: BaseException, file: Path) -> str:
    """The error, and the last line of the student's file that led to it. Lines of other files are left out."""
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file.name}, line {own[-1].lineno}: {own[-1].line}\n{message}" if own else message


def set_limits(limit_s: float) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        memory = int(file.read().split()[0]) * resource.getpagesize() + MOST_MEMORY
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(limit_s) + 2),
        (resource.RLIMIT_FSIZE, MOST_FILE),
        (resource.RLIMIT_NOFILE, MOST_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        most = min(most, resource.getrlimit(what)[1]) if resource.getrlimit(what)[1] != resource.RLIM_INFINITY else most
        resource.setrlimit(what, (most, most))
    sys.addaudithook(refuse_processes)


def refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse to start a process. A script can avoid this check, for example by ctypes; Script.stop() ends what it
    starts."""
    if event in STARTS_A_PROCESS:
        raise PermissionError(f"a lab's script may not start processes ({event})")
