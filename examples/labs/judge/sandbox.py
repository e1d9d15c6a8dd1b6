"""A student's script in a process of its own, bounded in time, memory and output. However it ends, nothing of it is left."""

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

MOST_OUTPUT = 256 * 1024  # bytes of stdout, and of stderr
MOST_MEMORY = 512 << 20  # beyond what the checker itself has
MOST_FILE = 64 << 20
MOST_FILES = 512
PR_SET_CHILD_SUBREAPER = 36
STARTS_A_PROCESS = ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
REAP_S = 2.0


class Ending(Enum):
    FINISHED = "finished"
    FAILED = "failed"  # an exception, or an exit code that is not 0
    KILLED = "was ended by a signal"
    TIMED_OUT = "was still running"
    TALKED_TOO_MUCH = "printed too much"


@dataclass
class Run:
    """How a script ended and what it printed. code: its exit code, or the signal's number. seconds: how long it ran."""

    ending: Ending
    code: int
    seconds: float
    output: str
    errors: str


@dataclass
class Stream:
    """One of the script's outputs, as far as it is kept."""

    fd: int
    data: bytearray = field(default_factory=bytearray)

    def read(self) -> bool:
        """Whether there may be more."""
        piece = os.read(self.fd, 65536)
        self.data += piece
        return bool(piece)

    def text(self) -> str:
        return self.data[:MOST_OUTPUT].decode("utf-8", "replace")


class Script:
    """Forked by the constructor, started by `run`: what the checker sets up in between is not the script's. One at a time."""

    def __init__(self, file: Path, nic_name: str, limit_s: float) -> None:
        self._limit_s = limit_s
        ctypes.CDLL(None).prctl(
            PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
        )  # what a script leaves behind becomes our child, and ends with it
        go, self._go = os.pipe()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _be_the_script(file, nic_name, limit_s, go, out_end, err_end)
        for fd in (go, out_end, err_end):
            os.close(fd)
        self._out, self._err = Stream(out), Stream(err)

    def run(self) -> Run:
        """Until it ends, or has to."""
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
        """No process of the script's is left. Twice is harmless."""
        if not self.pid:
            return
        if not reaped:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.pid = 0
        end = time.monotonic() + REAP_S
        while (left := _children()) and time.monotonic() < end:
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


def _children() -> list[int]:
    """The checker has no other children than a script's."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


# ---- in the script's process ----


def _be_the_script(file: Path, nic_name: str, limit_s: float, go: int, out: int, err: int) -> None:
    """Never returns."""
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
        _limit(limit_s)
        sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        sys.argv = [str(file), nic_name]
        os.chdir(file.parent)
        code = _exit_code(lambda: runpy.run_path(str(file), run_name="__main__"), file)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(script: Callable[[], object], file: Path) -> int:
    try:
        script()
        return 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        print(_own_lines(error, file), file=sys.stderr)
        return 1


def _own_lines(error: BaseException, file: Path) -> str:
    """The traceback's last line in the student's file, and what happened: the rest is not what he wrote."""
    told = "".join(traceback.format_exception_only(type(error), error)).strip()
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"line {own[-1].lineno}: {own[-1].line}\n{told}" if own else told


def _limit(limit_s: float) -> None:
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
    sys.addaudithook(_refuse_processes)


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    """A lab needs no process. Who goes round this, by ctypes for example, is ended by Script.stop()."""
    if event in STARTS_A_PROCESS:
        raise PermissionError(f"a lab's script may not start processes ({event})")
