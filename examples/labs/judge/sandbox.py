"""Runs a student's script with bounded time, memory and output, in a process of its own, and leaves no process."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import runpy
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from .cgroup import ControlGroup
from .jail import (
    SCRATCH,
    Held,
    become,
    bound_processes,
    end_with_parent,
    enter_namespaces,
    make_view_read_only,
    own_user,
)

MOST_OUTPUT = 256 * 1024  # bytes of stdout, and as many of stderr
MOST_MEMORY = 512 << 20  # bytes, in addition to the checker's own
MOST_FILE = 64 << 20
MOST_FILES = 512
MOST_DESCRIPTORS = 1 << 20  # of the checker that are closed before a script runs
PR_SET_CHILD_SUBREAPER = 36
COMPILER = ("-std=gnu11", "-O1", "-Wall", "-Wextra")
LABS = Path(__file__).resolve().parent.parent
STARTS_A_PROCESS = ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
REAP_S = 2.0  # for the end of processes that a script has left


class Ending(Enum):
    FINISHED = "finished"
    FAILED = "failed"  # an exception, or an exit code that is not 0
    KILLED = "was ended by a signal"
    TIMED_OUT = "was still running"
    TALKED_TOO_MUCH = "printed too much"
    TOOK_TOO_MUCH = "took too much memory"


@dataclass
class Run:
    """How a script ended and what it printed. code: its exit code, or the signal's number. seconds: its run time.
    not_held: what this machine could not keep the script from (Held.missing)."""

    ending: Ending
    code: int
    seconds: float
    output: str
    errors: str
    not_held: list[str] = field(default_factory=list)

    @property
    def raised(self) -> re.Match[str] | None:
        """The line with which explain_error() begins, if an error ended the script; its group 1 is the line's "
        "number."""
        return re.search(r"^\S+, line (\d+): .*$", self.errors, re.MULTILINE) if self.ending is Ending.FAILED else None

    @property
    def gave_up(self) -> bool:
        """Whether the script ended itself with a message: raise SystemExit("...")."""
        return self.ending is Ending.FAILED and not self.raised


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
    in between. Only one Script may exist at a time.

    Three processes are forked: the warden enters new namespaces, init is the first process in them, and the script is
    its child. When init ends, the kernel ends every process of the namespace (pid_namespaces(7)).
    """

    def __init__(
        self, file: Path, nic_name: str, limit_s: float, group: ControlGroup, environment: Mapping[str, str] = {}
    ) -> None:
        self._limit_s = limit_s
        self._group = group
        self.user = own_user()
        self.spared: list[int] = []  # child processes of the checker that are not the script's
        # Processes that a script leaves become our children, so stop() finds them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        go, self._go = os.pipe()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        report, report_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            become_warden(
                Place(file, nic_name, limit_s, self.user, environment), group, go, out_end, err_end, report_end
            )
        for fd in (go, out_end, err_end, report_end):
            os.close(fd)
        self._out, self._err, self._report = Stream(out), Stream(err), Stream(report)

    def run(self) -> Run:
        """Start the script and wait until it ends or reaches a limit."""
        start = time.monotonic()
        with suppress(BrokenPipeError):
            os.write(self._go, b"!")
        ending = Ending.TIMED_OUT
        streams = {stream.fd: stream for stream in (self._out, self._err, self._report)}
        while self._report.fd in streams and (left_s := start + self._limit_s - time.monotonic()) > 0:
            for fd in select.select(list(streams), [], [], left_s)[0]:
                if not streams[fd].read():
                    del streams[fd]
            if max(len(self._out.data), len(self._err.data)) > MOST_OUTPUT:
                ending = Ending.TALKED_TOO_MUCH
                break
        seconds = time.monotonic() - start
        ended = self._report.fd not in streams
        self.stop()
        for stream in streams.values():
            while len(stream.data) <= MOST_OUTPUT and select.select([stream.fd], [], [], 0)[0] and stream.read():
                pass
        missing, status = read_report(bytes(self._report.data))
        code = 0
        if ended:
            code = os.waitstatus_to_exitcode(status)
            ending = Ending.KILLED if code < 0 else Ending.FAILED if code else Ending.FINISHED
        if ending is Ending.KILLED and self._group.killed_for_memory():
            ending = Ending.TOOK_TOO_MUCH
        return Run(ending, abs(code), seconds, self._out.text(), self._err.text(), missing)

    def stop(self) -> None:
        """Kill the script and the processes that it left. A second call does nothing."""
        if not self.pid:
            return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0
        end_children(self.spared)

    def close(self) -> None:
        self.stop()
        for fd in (self._go, self._out.fd, self._err.fd, self._report.fd):
            os.close(fd)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


def read_report(report: bytes) -> tuple[list[str], int]:
    """What does not hold, and the script's status; SIGKILL if init was ended before it could report the status."""
    missing, status = [*report.split(b"\n"), b""][:2]
    return json.loads(missing or b"[]"), int(status or signal.SIGKILL)


def end_children(spared: Collection[int] = ()) -> None:
    """Kill all child processes but the spared ones, and those that become children by that."""
    end = time.monotonic() + REAP_S
    while (left := [pid for pid in children() if pid not in spared]) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(left[0], 0)


def children() -> list[int]:
    """The checker's child processes."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


# ---- in the processes of the script ----


@dataclass(frozen=True)
class Place:
    """What a script gets. user: its user ID (own_user). environment: what a program in C gets besides."""

    file: Path
    nic_name: str
    limit_s: float
    user: int | None
    environment: Mapping[str, str]


def become_warden(place: Place, group: ControlGroup, go: int, out: int, err: int, report: int) -> None:
    """Fork init in new namespaces and wait for its end. Never returns."""
    try:
        end_with_parent()
        os.setsid()
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        kept = sorted((go, report))
        os.closerange(3, kept[0])
        os.closerange(kept[0] + 1, kept[1])
        os.closerange(kept[1] + 1, MOST_DESCRIPTORS)
        held = Held(groups=group.join(), namespaces=enter_namespaces())
        init = os.fork()
        if not init:
            become_init(place, held, go, report)
        for fd in (0, 1, 2, go, report):
            os.close(fd)
        os.waitpid(init, 0)
    finally:
        os._exit(1)


def become_init(place: Place, held: Held, go: int, report: int) -> None:
    """Fork the script, and report its status when it has ended. Never returns."""
    try:
        end_with_parent()
        held.read_only_view = held.namespaces and make_view_read_only()
        script = os.fork()
        if not script:
            become_script(place, held, go, report)
        for fd in (0, 1, 2, go):
            os.close(fd)
        while True:
            pid, status = os.wait()
            if pid == script:
                shutil.rmtree(workshop(script), ignore_errors=True)
                os.write(report, str(status).encode())
                break
    finally:
        os._exit(1)


def become_script(place: Place, held: Held, go: int, report: int) -> None:
    """Wait for a byte from `go`, run the script, and exit. Never returns."""
    code = 1
    try:
        set_limits(place.limit_s)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        held.own_user = become(place.user)
        end_with_parent()
        bound_processes()
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as worst:
            worst.write("1000")  # when memory is used up, the kernel ends this process and not init
        os.write(report, json.dumps(held.missing()).encode() + b"\n")
        os.close(report)
        if os.read(go, 1) != b"!":
            os._exit(0)
        os.close(go)
        sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        sys.argv = [str(place.file), place.nic_name]
        os.chdir(place.file.parent)
        if place.file.suffix == ".c":
            code = exit_code_of(lambda: run_compiled(place), place.file)
        else:
            sys.addaudithook(refuse_processes)
            code = exit_code_of(lambda: runpy.run_path(str(place.file), run_name="__main__"), place.file)
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


def workshop(script: int) -> Path:
    """Where the script's process with this ID compiles. init removes it."""
    return SCRATCH / f"ixrings-lab-{script}"


def run_compiled(place: Place) -> None:
    """Compile a program in C, and become it. It cannot read what only this user may, so it gets copies. Ends this
    process if it does not compile."""
    folder = workshop(os.getpid())
    folder.mkdir(mode=0o700)
    preload = place.environment["LD_PRELOAD"]
    for source in (place.file, Path(preload), *LABS.glob("[0-9][0-9]_*/*.h")):
        shutil.copy(source, folder)
    command = ["cc", *COMPILER, place.file.name, "-o", "program"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise SystemExit(f"the C compiler cannot be run: {error}") from None
    if done.returncode:
        raise SystemExit(explain_compiler(done.stderr, place.file))
    environment = {**os.environ, **place.environment, "LD_PRELOAD": str(folder / Path(preload).name)}
    os.execve(folder / "program", [place.file.stem, place.nic_name], environment)


def explain_compiler(errors: str, file: Path) -> str:
    """The compiler's first error in the form of explain_error()."""
    found = re.search(rf"^{re.escape(file.name)}:(\d+):.*?error: (.*)$", errors, re.MULTILINE)
    if not found:
        return errors
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return f"{file.name}, line {found[1]}: {lines[int(found[1]) - 1].strip()}\n{found[2]}"


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


def refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse to start a process. A script can avoid this check, for example by ctypes; Script.stop() ends what it
    starts."""
    if event in STARTS_A_PROCESS:
        raise PermissionError(f"a lab's script may not start processes ({event})")
