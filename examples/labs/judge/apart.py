"""Judges one script in a process of its own, with a bound on its time: whatever happens in it, the next script is
judged."""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ixrings.driver.errors import PortError

from .cgroup import ControlGroup
from .evidence import Lab
from .explain import Verdict, judge
from .jail import MOST_PROCESSES, end_with_parent, set_dumpable
from .sandbox import MOST_MEMORY, PR_SET_CHILD_SUBREAPER, end_children
from .trial import LEAVE_S, LIMIT_S, try_script

MOST_SOURCE = 1 << 20  # characters of a script that are searched for open gaps
JUDGING_S = 60.0  # for everything but the script's own time


@dataclass(frozen=True)
class Result:
    """verdict: on the script. output: what it printed. not_held: what this machine could not keep it from."""

    verdict: Verdict
    output: str = ""
    not_held: tuple[str, ...] = ()

    @property
    def saved(self) -> bool:
        """Whether packets.pcap and trace.txt are beside the script."""
        return not self.verdict.note


def judged(lab: Lab, file: Path, *, limit_s: float = LIMIT_S, glass: tuple[str, int] | None = None) -> Result:
    """The result of one script. Never raises an error because of what is in the file or what the script does.

    glass: as in try_script(); a lab with a VF or in C cannot be shown.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # a judge that is ended leaves its script to us
    set_dumpable(False)  # a script of the same user cannot write to this process
    name = f"ixrings-lab-{os.getpid()}"
    with (
        tempfile.TemporaryDirectory(prefix="ixrings-", ignore_cleanup_errors=True) as folder,
        ControlGroup(name, {"memory": MOST_MEMORY, "pids": MOST_PROCESSES}) as group,
    ):
        answer, answer_end = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(answer)
            become_judge(lab, file, limit_s, Path(folder), group, answer_end, glass)
        os.close(answer_end)
        try:
            data = read_all(answer, time.monotonic() + limit_s + LEAVE_S + JUDGING_S)
        finally:
            os.close(answer)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            end_children()
    if not data:
        return unjudged("the checker's own process for it ended early or hung. Please report this with the file.")
    result = pickle.loads(data)
    assert isinstance(result, Result)
    return result


def unjudged(why: str) -> Result:
    return Result(Verdict(False, f"This file could not be judged: {why}", (), (), "", ()))


def read_all(fd: int, end_s: float) -> bytes:
    """All bytes up to the end of the stream; b"" if it does not end by `end_s` on the monotonic clock."""
    data = b""
    while (left_s := end_s - time.monotonic()) > 0:
        if select.select([fd], [], [], left_s)[0]:
            piece = os.read(fd, 1 << 16)
            if not piece:
                return data
            data += piece
    return b""


def become_judge(
    lab: Lab,
    file: Path,
    limit_s: float,
    folder: Path,
    group: ControlGroup,
    answer: int,
    glass: tuple[str, int] | None,
) -> None:
    """Judge the script, write the pickled Result to `answer`, and exit. Never returns."""
    try:
        end_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the checker, which ends this process
            signal.signal(number, signal.SIG_IGN)
        with open(answer, "wb") as stream:
            try:
                with open(file, encoding="utf-8", errors="replace") as source:
                    script = source.read(MOST_SOURCE)
                if file.suffix == ".c":
                    from .netmap_trial import try_program as attempt  # the other labs do not need the driver
                elif lab.on_vf:
                    from .vf_trial import try_function as attempt
                else:
                    attempt = partial(try_script, glass=glass)
                evidence = attempt(lab, file, folder, group, limit_s=limit_s)
                result = Result(judge(lab, evidence, script), evidence.run.output, tuple(evidence.run.not_held))
            except (OSError, PortError) as error:
                result = unjudged(f"{error}.")
            with suppress(BrokenPipeError):
                pickle.dump(result, stream)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
