"""In a guest: kill a program while it receives, and watch whether the NIC still writes to the program's memory.

kill_in_traffic.py ADDRESS
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

VICTIM = """
import sys
from ixrings import NotOffered, open_port
try:
    port = open_port(sys.argv[1], promiscuous=True)
except NotOffered:  # a virtual function
    port = open_port(sys.argv[1])
with port:
    print("open", flush=True)
    frames = [bytes([255]) * 6 + bytes(54)] * 64
    count, busy = 0, False
    while True:
        port.send(frames)
        if port.poll(0.01):
            for ring in port.rx_rings:
                count += ring.space
                ring.advance(ring.space)
        if count > 200 and not busy:
            busy = True
            print("busy", flush=True)
"""
WATCH_S = 3.0
F_SEAL_FUTURE_WRITE = 0x10  # fcntl has it from Python 3.13 on
BUS_MASTER = 0x4


def memory_of(pid: int) -> list[npt.NDArray[np.uint8]]:
    """The program's region and descriptor rings: each memfd that it maps, mapped here too.

    What others may only read (F_SEAL_FUTURE_WRITE) is for `ixrings top`, and no NIC reaches it.
    """
    found: dict[int, npt.NDArray[np.uint8]] = {}
    for entry in Path(f"/proc/{pid}/map_files").iterdir():
        if "/memfd:" in os.readlink(entry):
            fd = os.open(entry, os.O_RDWR)
            if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & F_SEAL_FUTURE_WRITE:
                found.setdefault(os.fstat(fd).st_ino, np.frombuffer(mmap.mmap(fd, os.fstat(fd).st_size), np.uint8))
            os.close(fd)
    return list(found.values())


def main(address: str) -> None:
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, address], stdout=subprocess.PIPE, text=True)
    assert victim.stdout
    try:
        assert [victim.stdout.readline() for _ in range(2)] == ["open\n", "busy\n"]
        memory = memory_of(victim.pid)
        before = [memfd.copy() for memfd in memory]
        end, moving = time.monotonic() + 10, False
        while not moving and time.monotonic() < end:
            time.sleep(0.3)
            moving = any((now != then).any() for now, then in zip(memory, before))
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    command = Path(f"/sys/bus/pci/devices/{address}/config").read_bytes()[4]
    for memfd in memory:
        memfd[:] = 0xA5
    time.sleep(WATCH_S)
    print(
        json.dumps(
            {
                "windows": len(memory),
                "bytes": sum(map(len, memory)),
                "moving": moving,
                "written": sum(int((memfd != 0xA5).sum()) for memfd in memory),
                "bus_master": bool(command & BUS_MASTER),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
