"""A worker process for tests: it receives a shared queue through the socket that it inherits, and works on it.

python -m tests.support.queue_worker FD count|forward|hold
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ixrings import ERRORS
from ixrings.driver.queue import Queue
from ixrings.driver.shared_queue import SharedQueue
from tests.support.programs import ENVIRONMENT


def count(queue: Queue) -> None:
    """Receive, and give the queue back when no frame comes any more."""
    ring = queue.rx_ring
    assert ring is not None
    while queue.poll(2):
        ring.advance(ring.space)


def forward(queue: Queue) -> None:
    """Send what is received, for ever."""
    while True:
        queue.forward(queue)


def hold(queue: Queue) -> None:
    """Wait for frames, for ever."""
    while True:
        queue.poll(None)


WORK = {"count": count, "forward": forward, "hold": hold}


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        try:
            with SharedQueue.receive(sock).open() as queue:
                print("open", flush=True)
                WORK[sys.argv[2]](queue)
            print(json.dumps("done"))
        except ERRORS as error:
            print(json.dumps(f"{type(error).__name__}: {error}"))


@contextmanager
def worker(handle: SharedQueue, work: str, stdout: int | None = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """A process that has received the handle. At the end it is killed if it still runs."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.queue_worker", str(theirs.fileno()), work],
            env=ENVIRONMENT,
            pass_fds=[theirs.fileno()],
            stdout=stdout,
            text=True,
        )
        handle.send(ours)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def has_opened(process: subprocess.Popen[str]) -> None:
    """Wait until the worker has opened its queue."""
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"


def last_words(process: subprocess.Popen[str]) -> str:
    """What the worker said at its end."""
    said, _ = process.communicate(timeout=30)
    word: str = json.loads(said.splitlines()[-1])
    return word


if __name__ == "__main__":
    main()
