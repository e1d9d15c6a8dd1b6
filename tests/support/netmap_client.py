"""A netmap program in Python that speaks the daemon's socket itself, and a daemon as a process."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from ixrings.driver.daemon import abi
from ixrings.driver.daemon.abi import Mode, Register, Request
from ixrings.driver.daemon.ask import ask, ask_status, connect
from ixrings.driver.daemon.offsets import OffsetsOption
from ixrings.driver.daemon.protocol import Kind, Message, close_all
from ixrings.rings import Interface
from ixrings.rings.interface import attach
from ixrings.rings.library import PATH
from tests.support.programs import ENVIRONMENT, Process, wait_for

RX, TX, ERROR = 1, 2, 4
COMMAND = [sys.executable, "-c", "from ixrings.driver.cli import program; program()", "daemon"]


class CClient(ctypes.Structure):
    """struct client in rings/client.h."""

    _fields_ = [
        ("asks", ctypes.c_void_p),
        ("answers", ctypes.c_void_p),
        ("kick", ctypes.c_int),
        ("spin_ns", ctypes.c_uint64),
        ("socket", ctypes.c_int),
    ]


def call_of(
    kind: int, name: str, body: ctypes.LittleEndianStructure | None = None, options: Sequence[abi.Option] = ()
) -> abi.Call:
    """A NIOCCTRL call."""
    return abi.Call(abi.Header(nr_version=14, nr_reqtype=kind, nr_name=name.encode()), body, list(options))


def offsets(initial: int) -> abi.Option:
    """The option OFFSETS: 16 bits, and at most 512 bytes."""
    rest = bytes(OffsetsOption(nro_max_offset=512, nro_initial_offset=initial, nro_offset_bits=16))
    return abi.Option(abi.OptionHeader(nro_reqtype=abi.OFFSETS, nro_size=24 + len(rest)), rest)


class NetmapClient:
    """One open of /dev/netmap. interface: the rings, after register(). Close it, or use it in a `with` block."""

    def __init__(self, path: str) -> None:
        self.sock = connect(path)
        self.fds: list[int] = []
        self.body = Register()
        self.interface: Interface | None = None

    def ctrl(self, call: abi.Call) -> tuple[abi.Call, list[int]]:
        """Send a call. Returns the answered call and descriptors; raises OSError with the errno of the reply."""
        reply = ask(self.sock, Message(Kind.CTRL, abi.pack(call)))
        if reply.error:
            close_all(reply.fds)
            self.refused = abi.unpack(reply.payload) if reply.payload else None
            raise OSError(reply.error, os.strerror(reply.error))
        return abi.unpack(reply.payload), list(reply.fds)

    def register(
        self,
        name: str,
        mode: int = Mode.ALL_NIC,
        *,
        ringid: int = 0,
        flags: int = 0,
        extra: int = 0,
        offset: int | None = None,
        **more: int,
    ) -> Register:
        """NIOCCTRL REGISTER, and the maps of a program. offset: with OFFSETS of 16 bits, and this one to begin with."""
        body = Register(nr_mode=mode, nr_ringid=ringid, nr_flags=flags, nr_extra_bufs=extra, **more)
        done, self.fds = self.ctrl(call_of(Request.REGISTER, name, body, [] if offset is None else [offsets(offset)]))
        assert isinstance(done.body, Register)
        self.body = done.body
        self._map()
        return self.body

    def attach(self) -> Register:
        """The request of a process that got the descriptor from another one."""
        reply = ask(self.sock, Message(Kind.ATTACH))
        if reply.error:
            raise OSError(reply.error, os.strerror(reply.error))
        self.body, self.fds = Register.from_buffer_copy(reply.payload), list(reply.fds)
        self._map()
        return self.body

    def _map(self) -> None:
        region, asks, answers, kick, _, _ = self.fds
        self._asks = mmap.mmap(asks, mmap.PAGESIZE)
        self._answers = mmap.mmap(answers, mmap.PAGESIZE, prot=mmap.PROT_READ)
        self.interface = attach(region, self.body.nr_offset)
        self._library = ctypes.CDLL(str(PATH))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        self._answers_address = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, answers, 0)
        self._unmap = libc.munmap
        self._unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._c = CClient(
            ctypes.addressof(ctypes.c_char.from_buffer(self._asks)), self._answers_address, kick, 1000,
            self.sock.fileno(),
        )  # fmt: skip

    @property
    def rings(self) -> Interface:
        assert self.interface is not None
        return self.interface

    @property
    def offset_mask(self) -> int:
        """The bits of a slot's ptr where its offset is, as the first ring says."""
        ring = (*self.rings.rx_rings, *self.rings.tx_rings)[0]
        return int.from_bytes(ring._header[56:64], "little")

    def txsync(self) -> None:
        self._check(self._library.client_sync_tx(ctypes.byref(self._c)))

    def rxsync(self) -> None:
        self._check(self._library.client_sync_rx(ctypes.byref(self._c)))

    @staticmethod
    def _check(number: int) -> None:
        if number:
            raise OSError(number, os.strerror(number))

    def poll(self, events: int, timeout_s: float = 20.0) -> int:
        """As poll(): ready events, after a wait if nothing is ready; 0 after the timeout."""
        ready = int(self._library.client_poll(ctypes.byref(self._c), events))
        if ready < 0:
            raise OSError(-ready, os.strerror(-ready))
        if ready or not timeout_s:
            return ready
        wait = select.poll()
        for bit, fd in ((RX, self.fds[4]), (TX, self.fds[5])):
            if events & bit:
                wait.register(fd, select.POLLIN)
        wait.register(self.sock, 0)
        wait.poll(timeout_s * 1000)
        return self.poll(events, 0)

    # ---- frames ----

    def send(self, frames: Sequence[bytes], ring: int = 0) -> int:
        """Put frames into a TX ring, as far as there is room, and sync. Returns how many."""
        tx = self.rings.tx_rings[ring]
        done = 0
        while done < len(frames) and len(span := tx.reserve(len(frames) - done)):
            for i, frame in enumerate(frames[done : done + len(span)]):
                start = int(span.ptr[i]) & self.offset_mask
                self.rings.buffers[span.buf_idx[i], start : start + len(frame)] = list(frame)
                span.len[i] = len(frame)
            tx.advance(len(span))
            done += len(span)
        self.txsync()
        return done

    def receive(self, ring: int = 0) -> list[bytes]:
        """Sync, and take the frames of an RX ring."""
        self.rxsync()
        rx = self.rings.rx_rings[ring]
        frames = []
        while len(span := rx.reserve(rx.num_slots)):
            starts = [int(ptr) & self.offset_mask for ptr in span.ptr]
            frames += [
                bytes(self.rings.buffers[index, start : start + size])
                for index, start, size in zip(span.buf_idx, starts, span.len)
            ]
            rx.advance(len(span))
        return frames

    def receive_until(self, count: int, timeout_s: float = 20.0) -> list[bytes]:
        """Receive until `count` frames have come."""
        frames: list[bytes] = []

        def enough() -> bool:
            self.poll(RX, 0.2)
            frames.extend(self.receive())
            return len(frames) >= count

        wait_for(enough, f"{count} frames have not come", timeout_s)
        return frames

    # ---- the end ----

    def leave_descriptors(self) -> None:
        """Forget the maps and descriptors of the handle; its socket stays open."""
        if self.fds:
            self._unmap(self._answers_address, mmap.PAGESIZE)
            close_all(self.fds)
        self.fds, self.interface = [], None

    def close(self) -> None:
        self.leave_descriptors()
        self.sock.close()

    def __enter__(self) -> NetmapClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RunningDaemon:
    """A daemon as a process. path: of its socket."""

    def __init__(self, process: Process, path: str) -> None:
        self.process, self.path = process, path

    def client(self) -> NetmapClient:
        return NetmapClient(self.path)

    def status(self) -> dict[str, Any]:
        return ask_status(self.path)

    def buffers(self) -> dict[str, int]:
        """Counts of the status, after a check that they add up."""
        counts: dict[str, int] = self.status()["buffers"]
        assert counts["free"] + counts["daemon"] + counts["programs"] == counts["total"], counts
        return counts

    def wait_until_nobody_has_buffers(self) -> None:
        wait_for(lambda: self.buffers()["programs"] == 0, "buffers are not back", 20)

    def wait_until_nobody_has_handles(self) -> None:
        wait_for(lambda: not self.status()["handles"], "handles are still there", 20)

    def end(self) -> str:
        """SIGTERM. Returns its log, after a check that it ended in order."""
        self.process.terminate()
        _, log = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, log
        return log


@contextmanager
def daemon(
    folder: Path, *arguments: str, memory: int = 64, host: bool = False, inside: Sequence[str] = ()
) -> Iterator[RunningDaemon]:
    """`ixrings daemon ARGUMENTS` on a socket in `folder`. host: with TAPs. inside: a command before it."""
    path = str(folder / "netmap.sock")
    process = subprocess.Popen(
        [*inside, *COMMAND, *arguments, "--socket", path, "--memory", str(memory), "--host" if host else "--no-host"],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready:
            process.wait(timeout=10)
            assert process.stderr is not None
            raise AssertionError(f"the daemon did not start: {process.stderr.read()}")
        yield RunningDaemon(process, path)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def times(running: RunningDaemon) -> float:
    """Seconds of processor time of the daemon."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def errno_of(call: Any, *arguments: Any, **named: Any) -> str:
    """The name of the errno that a call fails with, "" if it succeeds."""
    try:
        call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def raw_socket(path: str) -> socket.socket:
    """A connection without the client's manners."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(path)
    return sock
