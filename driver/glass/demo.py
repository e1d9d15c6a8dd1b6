"""Traffic to look at: a few UDP frames at a time, sent and received. Runs in a process of its own."""

from __future__ import annotations

import itertools
import struct
import sys
import time

from ..opening import open_port
from ..program import run

SLOTS = 64  # the smallest ring, which is the easiest to read
PAUSE_S = 0.5
MOST_FRAMES = 5


def udp(number: int) -> bytes:
    """A broadcast UDP frame, 10.0.0.1:1000+ to 10.0.0.2:9, with its number as payload; the checksum 0 means none."""
    payload = struct.pack("!Q", number)
    ip = bytearray(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2"))
    total = sum(struct.unpack("!10H", ip))
    ip[10:12] = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    head = b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x08\x00"
    return head + ip + struct.pack("!HHHH", 1000 + number % 8, 9, 8 + len(payload), 0) + payload


def main() -> None:
    with open_port(sys.argv[1], tx_slots=SLOTS, rx_slots=SLOTS, promiscuous=True, link_timeout=0) as port:
        sent = 0
        for turn in itertools.count():
            frames = [udp(sent + each) for each in range(1 + turn % MOST_FRAMES)]
            free = sum(ring.space for ring in port.tx_rings)
            port.txsync()
            if free > len(frames):  # a paused NIC takes no frame; then none is added
                sent += port.send(frames, timeout=0)
            time.sleep(PAUSE_S)
            for _ in port.recv(timeout=0):
                pass


if __name__ == "__main__":
    run(main, "ixrings glass: the demo")
