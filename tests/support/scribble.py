"""A process that writes to a part of shared memory all the time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SCRIBBLER = """
import mmap, sys
fd, offset, size, byte = map(int, sys.argv[1:])
memory, wrong = mmap.mmap(fd, 0), bytes([byte]) * size
print("ready", flush=True)
while True:
    for _ in range(1000):
        memory[offset : offset + size] = wrong
"""


@contextmanager
def scribbled(fd: int, offset: int, size: int, byte: int) -> Iterator[None]:
    """Inside, another process fills `size` bytes at `offset` of the memory `fd` with `byte`, again and again."""
    process = subprocess.Popen(
        [sys.executable, "-Sc", SCRIBBLER, *map(str, (fd, offset, size, byte))],
        stdout=subprocess.PIPE,
        pass_fds=[fd],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.communicate()
