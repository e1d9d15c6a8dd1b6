"""Both ends of a vfio-user socket: `ixrings emulate`, a server in this process, and a client that sends any bytes."""

from __future__ import annotations

import array
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import ACCESS, Channel, Command, Message, Region
from ixrings.hw.vfio_user.server import Server
from tests.support.programs import Process, started


@dataclass
class Emulator:
    """A running `ixrings emulate`."""

    path: str
    process: Process

    @property
    def port(self) -> str:
        return f"vfio-user:{self.path}"

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End the process; its exit status and stderr, which reports broken rules."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def mappings(self) -> int:
        """Mappings of memory of its clients."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return maps.count("/memfd:ixrings-dma") + maps.count("/memfd:peer")


@contextmanager
def emulate(path: Path, *arguments: str) -> Iterator[Emulator]:
    """`ixrings emulate --socket path`, once it listens."""
    with started([sys.executable, "-m", "ixrings", "emulate", "--socket", str(path), *arguments]) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.endswith(f"listens at {path}\n"), line + process.communicate(timeout=30)[1]
        yield Emulator(str(path), process)


@contextmanager
def emulate_vfs(folder: Path, *arguments: str, sockets: int) -> Iterator[Emulator]:
    """`ixrings emulate --socket folder`, once it listens at all sockets."""
    with started([sys.executable, "-m", "ixrings", "emulate", "--socket", str(folder), *arguments]) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(sockets)]
        assert all(" listens at " in line for line in lines), lines
        yield Emulator(str(folder), process)


@contextmanager
def served(
    nic: Emulated82599,
    path: Path,
    *,
    trap_all: bool = False,
    ask_beyond: bool = False,
    trace: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Serve `nic` at a socket, in a thread of this process; yields the port's name."""
    with Server(nic, str(path), trap_all=trap_all, ask_beyond=ask_beyond, trace=trace) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield f"vfio-user:{path}"
        finally:
            server.stop()
            thread.join(30)
            assert not thread.is_alive()


class Peer:
    """A client that sends any bytes and fds, valid or not, and receives the answers."""

    def __init__(self, path: str | Path, *, agree: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.channel = Channel(self.socket, 5.0)
        self._id = 100
        if agree:
            assert self.request(Command.VERSION, p.VERSION.pack(0, 0) + p.capabilities()).error == 0

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], extra)

    def send(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), *, flags: int = 0) -> int:
        self._id = (self._id + 1) & 0xFFFF
        self.send_bytes(p.HEADER.pack(self._id, command, p.HEADER.size + len(payload), flags, 0) + payload, fds)
        return self._id

    def receive(self) -> Message | None:
        """The next message; None if the server closed the connection."""
        while (message := self.channel.take()) is None:
            try:
                if not self.channel.fill():
                    return None
            except ConnectionResetError:
                return None
        return message

    def request(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> Message:
        id = self.send(command, payload, fds)
        message = self.receive()
        assert message is not None and message.is_reply and (message.id, message.command) == (id, command)
        return message

    def errno(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        answer = self.request(command, payload, fds)
        assert bool(answer.error) == bool(answer.flags & p.ERROR)
        answer.close_fds()
        return answer.error

    def read(self, offset: int, region: int = Region.BAR0, count: int = 4) -> int:
        answer = self.request(Command.REGION_READ, ACCESS.pack(offset, region, count))
        assert answer.error == 0 and answer.payload[: ACCESS.size] == ACCESS.pack(offset, region, count)
        return int.from_bytes(answer.payload[ACCESS.size :], "little")

    def write(self, offset: int, value: int, region: int = Region.BAR0, count: int = 4) -> None:
        assert (
            self.errno(Command.REGION_WRITE, ACCESS.pack(offset, region, count) + value.to_bytes(count, "little")) == 0
        )

    def read32(self, offset: int, /) -> int:
        return self.read(offset)

    def write32(self, offset: int, value: int, /) -> None:
        self.write(offset, value)

    def map(self, iova: int, size: int, fd: int | None, *, offset: int = 0, flags: int = 3) -> int:
        return self.errno(
            Command.DMA_MAP, p.DMA_MAP.pack(p.DMA_MAP.size, flags, offset, iova, size), [] if fd is None else [fd]
        )

    def unmap(self, iova: int, size: int, flags: int = 0) -> int:
        return self.errno(Command.DMA_UNMAP, p.DMA_UNMAP.pack(p.DMA_UNMAP.size, flags, iova, size))

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


@contextmanager
def memfd(size: int) -> Iterator[int]:
    fd = os.memfd_create("peer")
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)
