"""Compiles the C parts of the benchmarks, and says how a benchmark fails."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

FLAGS = ["-std=c11", "-O2", "-g", "-fPIC", "-Wall", "-Wextra"]  # as setup.py


class BenchError(Exception):
    """A benchmark cannot run, or its result is not valid. The message says why, or what to do."""


def compile_c(output: Path, sources: Iterable[Path], *flags: str) -> Path:
    """Compile `sources` into the program or library `output`. Raises BenchError."""
    wanted = shlex.split(os.environ.get("CC", ""))
    compiler = wanted or next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), [])
    if not compiler:
        raise BenchError("there is no C compiler. Run: apt install gcc libc6-dev")
    own = shlex.split(os.environ.get("CFLAGS", ""))
    command = [*compiler, *FLAGS, *own, *flags, "-o", str(output), *map(str, sources), "-lpthread"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BenchError(f"CC is {compiler[0]}, which does not start: {error.strerror}. Run: CC=gcc ...") from None
    if done.returncode:
        raise BenchError(f"{output.name} did not compile:\n{shlex.join(command)}\n{done.stderr}")
    return output
