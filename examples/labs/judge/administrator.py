"""The PF's side of lab 12: its administrator, who does what the script asks at a socket, and the neighbour on VF 0."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ixrings import open_port
from ixrings.hw.emulator import Emulated82599, PfAgent, VirtualFunction
from ixrings.hw.emulator.engine.library import FunctionEngine
from ixrings.hw.emulator.virtual_function import Physical
from ixrings.hw.registers import Registers, VfRegisters

from .evidence import Command, Pools
from .record import Record

NEIGHBOUR, STUDENT = 0, 1  # VFs
LONGEST = 100  # bytes of a command
PATIENCE_S = 1.0  # for a command that has begun
TICK_S = 0.05
MOST_COMMANDS = 1000
MOST_FRAMES = 1000
SWITCHES = {"on": True, "off": False}


class WatchedVf(VirtualFunction):
    """record: of its accesses."""

    def __init__(self, pf: Physical, number: int, engine: FunctionEngine) -> None:
        self.record = Record(self, super().read32, VfRegisters)
        super().__init__(pf, number, engine)

    def read32(self, offset: int, /) -> int:
        value = super().read32(offset)
        self.record.note(False, offset, value)
        return value

    def write32(self, offset: int, value: int, /) -> None:
        self.record.note(True, offset, value)
        super().write32(offset, value)

    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        self.record.check_room(size)
        super().map_dma_at(iova, size, fd, offset, readable=readable, writable=writable)
        self.record.mapped(iova, size, fd, offset)

    def unmap_dma_range(self, iova: int, size: int) -> None:
        super().unmap_dma_range(iova, size)
        self.record.unmapped(iova, size)

    def unmap_dma_all(self) -> None:
        super().unmap_dma_all()
        self.record.unmapped()

    def close(self) -> None:
        super().close()
        self.record.unmapped()


class NicWithVfs(Emulated82599):
    vf_class = WatchedVf


class Administrator:
    """Answers commands at the socket `place`, which `user` may use besides this user."""

    def __init__(self, place: Path, user: int | None, agent: PfAgent, record: Record) -> None:
        self.pools = Pools(tuple(vf.mac for vf in agent.vfs))
        self._agent, self._record, self._regs = agent, record, Registers(agent.nic)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(place))
        if user is not None:
            with suppress(OSError):
                os.chown(place, user, -1)
        self._listener.listen()
        self._listener.settimeout(TICK_S)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="administrator", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):  # nobody came, or somebody left
                client, _ = self._listener.accept()
                with client:
                    client.settimeout(PATIENCE_S)
                    text = client.makefile("rb").readline(LONGEST).decode("utf-8", "replace").strip()
                    client.sendall(f"{self._do(text)}\n".encode())

    def _do(self, text: str) -> str:
        self.count()
        requests = sum(vf == STUDENT for vf, _, _ in self._agent.messages)
        sent = int(self._regs.PVFGPTC[STUDENT].read())
        if len(self.pools.commands) < MOST_COMMANDS:
            self.pools.commands.append(Command(text, len(self._record.accesses), requests, sent, self.pools.spoofed))
        match text.split():
            case ["spoofed"]:
                return str(self.pools.spoofed)
            case ["vf", ("0" | "1") as number, "mac"]:
                return self.pools.addresses[int(number)].hex(":")
            case ["vf", "1", "spoofchk", ("on" | "off") as switch]:
                self._agent.set_vf(STUDENT, spoofchk=SWITCHES[switch])
                return "done"
            case ["vf", "1", "trust", ("on" | "off") as switch]:
                self._agent.set_vf(STUDENT, trust=SWITCHES[switch])
                return "done"
            case ["vf", "0", *_]:
                return "refused: VF 0 belongs to your neighbour"
            case _:
                return f'refused: {text[:40]!r} is not a command, such as "vf 1 spoofchk off"'

    def count(self) -> None:
        """Add the frames that were dropped since the last call: reading the counter clears it."""
        self.pools.spoofed += int(self._regs.SSVPC.read())

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._listener.close()
        self.count()
        self.pools.requests = [(words, reply) for vf, words, reply in self._agent.messages if vf == STUDENT]

    def __enter__(self) -> Administrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Neighbour:
    """A port on VF 0 that keeps what it receives."""

    def __init__(self, vf: VirtualFunction) -> None:
        self.frames: list[bytes] = []
        self._port = open_port(vf)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="neighbour", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while not self._stopping.is_set():
            for frame in self._port.recv(timeout=TICK_S):  # it ends when no frame comes
                if len(self.frames) < MOST_FRAMES:
                    self.frames.append(frame)
                if self._stopping.is_set():
                    return

    def wait(self, count: int, bound_s: float) -> None:
        """Until it has so many frames, at most bound_s."""
        end = time.monotonic() + bound_s
        while len(self.frames) < min(count, MOST_FRAMES) and time.monotonic() < end:
            time.sleep(TICK_S / 10)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._port.close()
