"""In a guest: programs of the daemon, without root.

daemon_client.py echo PORT COUNT    print "open", then answer COUNT frames
daemon_client.py kill PORT SEED     kill a program that moves frames and scribbles; print the daemon's buffers as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from ixrings import open_port
from ixrings.driver.daemon.ask import ask_status

LIMIT_S = 60.0
SYNCS = 100  # of the victim, before it is killed


def answer(frame: bytes) -> bytes:
    """The frame on its way back: the addresses change places, and each bit of the payload changes."""
    return frame[6:12] + frame[:6] + frame[12:14] + bytes(each ^ 0xFF for each in frame[14:])


def echo(name: str, count: int) -> None:
    with open_port(name) as port:
        print("open", flush=True)
        answered = 0
        while answered < count:
            frames = list(port.recv(0.05))
            assert port.send([answer(frame) for frame in frames]) == len(frames), "there is no room for the answers"
            answered += len(frames)
        port.flush(LIMIT_S)


def kill(name: str, seed: str) -> None:
    path = os.environ["IXRINGS_SOCKET"]
    command = [sys.executable, "-m", "tests.support.netmap_victim", path, name, seed]
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert victim.stdout and victim.stdout.readline() == "busy\n"
        busy = until(path, lambda status: status["handles"] and status["handles"][0]["syncs"] > SYNCS)
        assert victim.poll() is None, "the victim ended by itself"
    finally:
        victim.kill()
        victim.wait()
    after = until(path, lambda status: not status["buffers"]["programs"])
    received = sum(ring["packets"] for ring in next(nic for nic in busy["ports"] if nic["name"] == name)["rx_rings"])
    print(json.dumps({"busy": busy["buffers"], "after": after["buffers"], "received": received}))


def until(path: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The first status of the daemon at `path` that meets the condition."""
    end = time.monotonic() + LIMIT_S
    while not condition(status := ask_status(path)):
        assert time.monotonic() < end, f"the daemon's status is still {status}"
        time.sleep(0.05)
    return status


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["echo", name, count]:
            echo(name, int(count))
        case ["kill", name, seed]:
            kill(name, seed)
        case _:
            sys.exit(__doc__)
