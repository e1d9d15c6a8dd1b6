"""What is around the program of lab 11: a daemon with a NIC, another program on that NIC, and a peer at the other end
of its cable. The peer and the NIC are in the judge's process, out of reach of the memory that programs share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from ixrings import open_port
from ixrings.driver.daemon.ask import ask_status

from .evidence import Told, Traffic
from .neighbour import TYPE as NEIGHBOURS_TYPE
from .neighbour import frame as neighbours_frame

PORT = "ix0"
START_S = 30.0
GOES_ON = 20  # frames of the neighbour that come after the last broken rule
GOES_ON_S = 20.0
BROKEN = re.compile(rf"ixrings daemon: process \d+: {PORT} [TR]X ring 0: .* \((?P<rule>[A-Z_]+)\)\.")


class Peer:
    """The station at the other end. answers: what it sends back for each frame of the program."""

    def __init__(self, wire: str, answers: dict[bytes, bytes]) -> None:
        self.traffic = Traffic()
        self._answers = dict(answers)
        self._port = open_port(f"emulated:{wire}", mtu=9000, rx_slots=4096, promiscuous=True)
        self._stopping = threading.Event()
        self._next = 0
        self._thread = threading.Thread(target=self._serve, name="peer", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            for frame in self._port.recv(timeout=0.05):  # it ends when no frame comes
                if reply := self._take(frame):
                    self._port.send([reply])
                    self.traffic.answered.append((time.time(), reply))
                if self._stopping.is_set():
                    return

    def _take(self, frame: bytes) -> bytes | None:
        if frame[12:14] == NEIGHBOURS_TYPE:
            self._count(frame)
            return None
        self.traffic.sent.append((time.time(), frame))
        return self._answers.pop(frame, None)

    def _count(self, frame: bytes) -> None:
        found = re.match(rb"neighbour (\d{1,12})\0", frame[14:])
        number = int(found[1]) if found else -1
        good = number >= self._next and frame == neighbours_frame(number)
        self.traffic.neighbours += good
        self.traffic.changed += not good
        self._next = max(self._next, number + 1)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._port.close()


class Network:
    """The daemon and the neighbour, as processes. nic: the socket of the NIC. user: who may use the daemon, besides
    this user."""

    def __init__(self, folder: Path, nic: Path, peer: Peer, user: int | None) -> None:
        self.told, self._peer = Told(), peer
        self.socket = folder / "netmap"
        who = [] if user is None else ["--user", str(user)]
        size = ["--slots", "128", "--tx-queues", "2", "--rx-queues", "2", "--memory", "16"]
        self._daemon = start(
            *("-m", "ixrings", "daemon", f"{PORT}=vfio-user:{nic}", "--socket", str(self.socket), "--no-host"),
            *(*size, *who),
        )
        self._neighbour: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read_log, name="log", daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Wait until the daemon serves and the neighbour's frames come. Raises OSError with a sentence."""
        assert self._daemon.stdout is not None
        if not self._daemon.stdout.readline():
            self._reader.join(START_S)
            raise OSError(f"the daemon did not start: {' '.join(self.told.lines[-3:])}")
        os.environ["IXRINGS_SOCKET"] = str(self.socket)
        self._neighbour = start(str(Path(__file__).with_name("neighbour.py")), f"netmap:{PORT}-1/T")
        if not self._comes(1, START_S):
            raise OSError("the other program on the NIC sent nothing")

    @property
    def processes(self) -> list[int]:
        return [process.pid for process in (self._daemon, self._neighbour) if process is not None]

    def _read_log(self) -> None:
        assert self._daemon.stderr is not None
        for line in self._daemon.stderr:
            self.told.lines.append(line.rstrip())
            if broken := BROKEN.fullmatch(line.rstrip()):
                self.told.broken.append((broken["rule"], self._peer.traffic.neighbours))

    def _comes(self, more: int, bound_s: float) -> bool:
        """Whether `more` frames of the neighbour come within the bound."""
        wanted, end = self._peer.traffic.neighbours + more, time.monotonic() + bound_s
        while self._peer.traffic.neighbours < wanted and time.monotonic() < end:
            time.sleep(0.005)
        return self._peer.traffic.neighbours >= wanted

    def goes_on(self) -> bool:
        """Whether the neighbour's frames still come, and the daemon still answers."""
        try:
            ask_status(str(self.socket))
        except OSError:
            return False
        return self._comes(GOES_ON, GOES_ON_S)

    def close(self) -> None:
        """End both. The log is complete after that."""
        for process in (self._neighbour, self._daemon):  # killed: as children of the judge they ignore SIGTERM
            if process is not None:
                process.kill()
                process.wait()
        self._reader.join(START_S)
        for process in (self._neighbour, self._daemon):
            for stream in (process.stdout, process.stderr) if process is not None else ():
                if stream is not None:
                    stream.close()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start(*arguments: str) -> subprocess.Popen[str]:
    """A Python process that finds the modules which this one has."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
