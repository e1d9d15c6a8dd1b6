"""The service in a thread, and programs that are its clients (tests/rings/service_client.c)."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from ixrings.rings import Interface, Region
from ixrings.rings.queue import without_gil
from ixrings.rings.service import PAGE, Handle, Kring, Reason, Service, Task, eventfd
from tests.support.rings_nic import Bench

ROOT = Path(__file__).resolve().parent.parent.parent
RINGS = ROOT / "rings"
PATIENCE_S = 30


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_S} s: {what}"
        time.sleep(0)


class Daemon:
    """A thread that runs a service and sleeps when it may. interrupt(): a NIC's vector, which wakes it.

    reasons: how often run() has returned for each reason.
    """

    def __init__(self, handles: Sequence[Handle], tasks: Sequence[Task] = (), *, spin_ns: int = 1000) -> None:
        self.service = Service(spin_ns)
        self.service.set(handles, tasks)
        self.reasons = dict.fromkeys(Reason, 0)
        self._vector = eventfd()
        self._ends = False
        self._commands: list[Callable[[], object]] = []
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self.service.kicks, select.POLLIN)
        poll.register(self._vector, select.POLLIN)
        while not self._ends:
            reason = self.service.run()
            self.reasons[reason] += 1
            if reason is Reason.SLEEP and not self.service.ready():
                poll.poll()
                with suppress(BlockingIOError):
                    os.eventfd_read(self._vector)
            while self._commands:
                self._commands.pop(0)()

    def interrupt(self) -> None:
        os.eventfd_write(self._vector, 1)

    def call(self, function: Callable[[], object]) -> None:
        """Run it in the thread, between two runs of the service, and wait until it is done."""
        done = threading.Event()
        self._commands += [function, done.set]
        self.service.stop()
        self.interrupt()
        assert done.wait(PATIENCE_S)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends = True
        self.service.stop()
        self.interrupt()
        self._thread.join()
        handles = self.service.handles
        self.service.close()
        for handle in handles:
            handle.close()
        os.close(self._vector)


def handle_of(bench: Bench, flags: int = 0) -> Handle:
    """A handle with both rings of a NIC on plain memory."""
    return Handle([Kring.nic(bench.tx.queue)], [Kring.nic(bench.rx.queue)], flags)


def build_client(folder: Path) -> Path:
    """Compile the program. It has the library's client.c, as the preloaded library does."""
    program = folder / "service_client"
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{RINGS}", "-o", str(program)]
    sources = [str(ROOT / "tests/rings/service_client.c"), str(RINGS / "client.c")]
    built = subprocess.run([*command, *sources, "-lpthread"], capture_output=True, text=True)
    assert not built.returncode, built.stderr
    return program


@contextmanager
def started(
    program: Path, region: Region, interface: Interface, handle: Handle, *command: object, spin_ns: int = 1000
) -> Iterator[subprocess.Popen[str]]:
    """The program as a process, which has begun its command. It is killed at the end."""
    fds = [region.fd, *handle.descriptors]
    words = [region.fd, region.size, interface.offset, *handle.descriptors, spin_ns, *command]
    process = subprocess.Popen(
        [program, *map(str, words)], pass_fds=fds, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> str:
    """Wait until the program has ended well. Returns what it printed."""
    assert process.stdout is not None and process.stderr is not None
    process.wait(PATIENCE_S)  # it prints less than a pipe holds, and communicate() would miss what readline() has read
    assert process.returncode == 0, process.stderr.read()
    return process.stdout.read()


class ClientState(ctypes.Structure):
    """struct client in client.h."""

    _fields_ = [
        ("asks", ctypes.c_uint64),
        ("answers", ctypes.c_uint64),
        ("kick", ctypes.c_int),
        ("spin_ns", ctypes.c_uint64),
        ("socket", ctypes.c_int),
    ]


class Client:
    """A program's side in this process, for tests that look at both sides. Its calls release the GIL."""

    def __init__(self, handle: Handle, *, spin_ns: int = 1000, socket: int = -1) -> None:
        asks, answers, kick = handle.descriptors[:3]
        self._asks = np.frombuffer(mmap.mmap(asks, PAGE), np.uint8)
        self._answers = np.frombuffer(mmap.mmap(answers, PAGE, prot=mmap.PROT_READ), np.uint8)
        self._kick = os.dup(kick)
        state = ClientState(self._asks.ctypes.data, self._answers.ctypes.data, self._kick, spin_ns, socket)
        self._state = state
        self._reference = ctypes.byref(state)
        self._tx, self._rx = without_gil("client_sync_tx"), without_gil("client_sync_rx")
        self._poll = without_gil("client_poll")

    @staticmethod
    def ticket(handle: Handle, of: str = "rx") -> int:
        """The last ticket of a program: "tx", "rx" or "poll"."""
        return int(getattr(handle.asks, of).ticket)

    def txsync(self) -> int:
        return self._tx(self._reference)

    def rxsync(self) -> int:
        return self._rx(self._reference)

    def poll(self, events: int) -> int:
        return self._poll(self._reference, events)

    def close(self) -> None:
        os.close(self._kick)
