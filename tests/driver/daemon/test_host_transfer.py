"""A TCP transfer between two hosts, through the TAPs of two NICs and the cable between them, while netmap programs take
the NIC's rings and the host's, carry the frames themselves, and end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.namespaces import Namespace, namespace, unique, why_not
from tests.support.netmap_client import RunningDaemon, daemon
from tests.support.netmap_programs import started
from tests.support.programs import wait_for

pytestmark = [pytest.mark.network, pytest.mark.skipif(bool(why_not()), reason=why_not())]

MORE = 300_000  # bytes that come while a program carries them

# Both ends print the number of bytes and their hash at the end. The receiver also keeps the number in a file.
RECEIVER = """
import hashlib, json, socket, sys
server = socket.create_server(("10.9.7.2", 5000))
print("ready", flush=True)
client, _ = server.accept()
total, seen, file = 0, hashlib.sha256(), open(sys.argv[1], "r+b", buffering=0)
while data := client.recv(1 << 16):
    total += len(data)
    seen.update(data)
    file.seek(0)
    file.write(b"%20d" % total)
print(json.dumps([total, seen.hexdigest()]))
"""
SENDER = """
import hashlib, json, os, select, socket, sys
client = socket.create_connection(("10.9.7.2", 5000), timeout=60)
total, seen = 0, hashlib.sha256()
while not select.select([sys.stdin], [], [], 0)[0]:
    data = os.urandom(10_000)
    client.sendall(data)
    total += len(data)
    seen.update(data)
client.close()
print(json.dumps([total, seen.hexdigest()]))
"""


class Transfer:
    """Runs from the start on. file: where the receiver writes how many bytes have come."""

    def __init__(self, left: Namespace, right: Namespace, file: Path, undo: ExitStack) -> None:
        self._file = file
        file.write_bytes(b"0".rjust(20))
        self._receiver = self._python(right, RECEIVER, str(file), undo=undo)
        assert self._receiver.stdout is not None
        assert self._receiver.stdout.readline() == "ready\n"
        self._sender = self._python(left, SENDER, undo=undo)

    def _python(self, host: Namespace, code: str, *arguments: str, undo: ExitStack) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            host.command(sys.executable, "-c", code, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        undo.callback(process.communicate)
        undo.callback(process.kill)
        return process

    @property
    def received(self) -> int:
        return int(self._file.read_bytes())

    def goes_on(self, when: str) -> None:
        """Wait until more bytes have come."""
        before = self.received
        wait_for(lambda: self.received > before + MORE, f"{when}: the transfer stands", 30)

    def end(self) -> tuple[object, object]:
        """What was sent, and what was received."""
        sent, _ = self._sender.communicate("end\n", timeout=30)
        received, _ = self._receiver.communicate(timeout=30)
        return json.loads(sent), json.loads(received)


@contextmanager
def transfer(folder: Path) -> Iterator[tuple[RunningDaemon, str, Transfer]]:
    """The daemon, the name of the sender's NIC, and the transfer."""
    names = unique("ia"), unique("ib")
    with ExitStack() as undo:
        left, right = undo.enter_context(namespace("ixL")), undo.enter_context(namespace("ixR"))
        ports = [f"{name}=emulated:cable={names[0]}" for name in names]
        running = undo.enter_context(daemon(folder, *ports, "--slots", "256", host=True))
        left.take(names[0], "10.9.7.1/24")
        right.take(names[1], "10.9.7.2/24")
        yield running, names[0], Transfer(left, right, folder / "received", undo)
        running.wait_until_nobody_has_buffers()
        running.end()


@pytest.mark.slow
def test_a_tcp_transfer_outlives_a_netmap_program_that_carries_it_and_is_killed(tmp_path: Path) -> None:
    with transfer(tmp_path) as (running, nic, tcp):
        tcp.goes_on("before the program")
        with started(running.path, "nm_bridge", "-i", f"netmap:{nic}", "-i", f"netmap:{nic}^") as bridge:
            tcp.goes_on("while the program carries it")
            bridge.process.kill()
        tcp.goes_on("after the program was killed")
        sent, received = tcp.end()
        assert sent == received


@pytest.mark.slow
def test_a_tcp_transfer_outlives_many_programs(tmp_path: Path) -> None:
    """Bridges that swap buffers or copy, and a program that only marks frames to be forwarded; all end in order."""
    with transfer(tmp_path) as (running, nic, tcp):
        for turn in range(2):
            for options in ([], ["-c"]):
                with started(running.path, "nm_bridge", "-i", f"netmap:{nic}", "-i", f"netmap:{nic}^", *options) as one:
                    tcp.goes_on(f"turn {turn}, nm_bridge {options}")
                    result = one.interrupt()
                    assert result["there"] and result["back"] and not result["errors"]
                tcp.goes_on(f"after nm_bridge {options}")
            with started(running.path, "nm_forward", "-i", f"netmap:{nic}*") as one:
                tcp.goes_on(f"turn {turn}, nm_forward")
                result = one.interrupt()
                assert result["up"] and result["down"] and not result["errors"]
            tcp.goes_on("after nm_forward")
        sent, received = tcp.end()
        assert sent == received
