"""A guest with two software 82599s for our driver; the far end of each cable is a port in the test's process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ixrings import Port, open_port
from tests.support.namespaces import unique

from .guest import Guest
from .prepared import Kernel, Lab
from .served import ServedNic

LEFT, RIGHT = "0000:01:00.0", "0000:02:00.0"
PRELUDE = """
cd /tmp
export PYTHONPATH=/project/.package:/project
ixrings() { python3 -m ixrings "$@"; }
"""
IN_GUEST = "/project/tests/qemu/in_guest"
FRAMES = 2000
AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
OPEN = """python3 -c 'import sys
from ixrings import open_port
with open_port(sys.argv[1]) as port:
    port.send([bytes(60)] * 8); port.flush(); print(port.link, port.stats()["GPTC"])'"""
HOLD = """python3 -c 'import sys, time
from ixrings import open_port
port = open_port(sys.argv[1]); print("open", flush=True); time.sleep(600)'"""
SECOND_PROGRAM = f"""
mkfifo opened; {HOLD} {LEFT} > opened & first=$!
read word < opened; rm opened
{OPEN} {LEFT}; ixrings unbind {LEFT}
"""

AS_USER = "setpriv --reuid=1000 --regid=1000 --clear-groups env USER=user HOME=/tmp"
CHECKOUT = """
mkdir -p /tmp/checkout/.venv/bin && cd /tmp/checkout && ln -s /project/* .
ln -s /usr/bin/python3 .venv/bin/python
printf '#!/bin/sh\\nexec python3 -m ixrings "$@"\\n' > .venv/bin/ixrings && chmod +x .venv/bin/ixrings
"""


def frame(number: int, length: int = 60) -> bytes:
    return (b"\xff" * 6 + bytes.fromhex("020000000099") + b"\x88\xb5" + number.to_bytes(4, "big")).ljust(length, b"\0")


@dataclass
class Scripts:
    """Runs scripts that use the project in a guest."""

    guest: Guest

    def run(self, script: str, *, timeout_s: float = 180, status: int | None = 0) -> str:
        """What the script printed. Asserts that it ends with `status`, if that is not None."""
        result = self.guest.run(PRELUDE + script, timeout_s=timeout_s, check=False)
        if status is not None:
            assert result.status == status, (
                f"status {result.status}:\n{result.output}\n--- console ---\n{self.guest.console()[-2000:]}"
            )
        return result.output

    def refused(self, script: str) -> str:
        """The sentence that a refused command prints."""
        return self.run(script, status=1).strip()


def as_printed(ours: Scripts, command: str, status: int | None = 0) -> str:
    """A command of the README, with sudo by root and otherwise by a user, in a copy of the checkout."""
    who = "env USER=user" if command.startswith("sudo ") else AS_USER
    return ours.run(f"cd /tmp/checkout; {who} bash -c '{command.removeprefix('sudo ')}'", status=status)


@dataclass
class OurGuest(Scripts):
    nics: tuple[ServedNic, ServedNic]
    wires: tuple[str, str]
    shows_registers: (
        bool  # whether the kernel lets a program read registers of a NIC that another driver or program has
    )

    def far_end(self, side: int) -> Port:
        """A port at the far end of NIC `side`'s cable. Its rings are long, because a guest is slow."""
        return open_port(f"emulated:{self.wires[side]}", promiscuous=True, rx_slots=4096, tx_slots=4096)


@contextmanager
def our_guest(
    lab: Lab,
    folder: Path,
    *,
    kernel: Kernel | None = None,
    iommu: bool = True,
    bridge: bool = False,
    ask_beyond: bool = False,
    another_nic: bool = False,
    right_wire: str = "",
) -> Iterator[OurGuest]:
    """right_wire: the emulator's wire for the right NIC, in place of a cable."""
    wires = f"cable={unique('l')}", right_wire or f"cable={unique('r')}"
    with ExitStack() as stack:
        nics = tuple(
            stack.enter_context(
                ServedNic(folder, wire, name=name, mac=bytes([2, 0, 0, 0, 0, last]), ask_beyond=ask_beyond)
            )
            for wire, name, last in zip(wires, ("left", "right"), (1, 2))
        )
        guest = stack.enter_context(
            Guest(
                lab,
                folder,
                nics=[nic.socket for nic in nics],
                kernel=kernel,
                iommu=iommu,
                bridge=bridge,
                devices=["e1000e,romfile="] if another_nic else [],
            )
        )
        guest.run("modprobe ixgbe")
        shows_registers = kernel not in (None, lab.debian_kernel)  # kernel.config has no STRICT_DEVMEM
        yield OurGuest(guest, (nics[0], nics[1]), wires, shows_registers)


def last_json(output: str) -> Mapping[str, float]:
    """The last line of `output` that is JSON."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    assert lines, output
    found: Mapping[str, float] = json.loads(lines[-1])
    return found


@contextmanager
def sending(port: Port) -> Iterator[None]:
    """Send about 2000 frames a second from a thread of this process, until the context ends."""
    stopping = threading.Event()

    def send() -> None:
        while not stopping.wait(0.005):
            port.send([frame(0)] * 10)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def bridge_both_ways(ours: OurGuest) -> None:
    frames = [frame(number, 60 + number % 1400) for number in range(FRAMES)]
    with ours.far_end(0) as left, ours.far_end(1) as right:
        ours.run(
            f"python3 /project/examples/bridge.py -i {LEFT} -i {RIGHT} --slots 4096 --json "
            "> bridge.json 2> bridge.err & echo $! > bridge.pid"
        )
        left.wait_link(60)
        right.wait_link(60)
        wait_until_it_forwards(left, right)
        for source, target in ((left, right), (right, left)):
            forwarded: list[bytes] = []
            for first in range(0, FRAMES, 200):
                source.send(frames[first : first + 200])
                received = target.recv(10)
                forwarded += [next(received) for _ in range(200)]
            assert forwarded == frames
        output = ours.run(
            "kill -INT $(cat bridge.pid); for i in $(seq 100); do [ -s bridge.json ] && break; sleep 0.1; done; "
            "cat bridge.err bridge.json"
        )
    assert last_json(output)["forwarded"] >= 2 * FRAMES


def wait_until_it_forwards(left: Port, right: Port) -> None:
    """Send frames until one crosses the bridge, then take all of them: the link is up before the bridge forwards."""
    end = time.monotonic() + 30
    while True:
        left.send([frame(0)])
        if next(right.recv(0.5), None) is not None:
            for _ in right.recv(1.0):
                pass
            return
        assert time.monotonic() < end, "the bridge does not forward"
